// The equations of one step of each cell, for one vector of units whose gates' sums are made. Training and inference
// run these lines, so that both give the same bits. `modified` is what variants add; the plain cell has none of it.
#pragma once

#include "simd.h"
#include "unrolled.h"

namespace unrolled::UNROLLED_ISA {

// What a variant brings for one vector of units; as it stands here it changes nothing.
struct Modification {
    vec peephole_i{}, peephole_f{}, peephole_o{};
    vec dropout = splat(1.0f);
    vec zoneout_h{}, zoneout_c{};
};

// What stays as it was and what is new, in the proportion of `zoneout`: exactly the one or the other where it is 1 or 0.
UNROLLED_INLINE vec zoned_out(vec zoneout, vec before, vec now) { return fma(zoneout, before, (1.0f - zoneout) * now); }

struct LstmValues {
    vec i, f, g, o;
    vec fresh;  // c before zoneout
    vec c, h;
};

// `sums` of the gates i, f, g, o, or i, g, o where the forget gate is coupled.
template <bool coupled, bool modified>
UNROLLED_INLINE LstmValues lstm_step(const vec* sums, vec h_before, vec c_before, const Modification& by) {
    constexpr int I = 0, F = 1, G = coupled ? 1 : 2, O = G + 1;
    const auto peep = [](vec sum, vec weight, vec c) { return modified ? fma(weight, c, sum) : sum; };
    LstmValues now;
    now.i = sigmoid(peep(sums[I], by.peephole_i, c_before));
    now.f = coupled ? 1.0f - now.i : sigmoid(peep(sums[F], by.peephole_f, c_before));
    now.g = tanh(sums[G]);
    now.fresh = fma(now.i, modified ? now.g * by.dropout : now.g, now.f * c_before);
    now.o = sigmoid(peep(sums[O], by.peephole_o, now.fresh));
    now.h = now.o * tanh(now.fresh);
    now.c = now.fresh;
    if constexpr (modified) {
        now.h = zoned_out(by.zoneout_h, h_before, now.h);
        now.c = zoned_out(by.zoneout_c, c_before, now.c);
    }
    return now;
}

struct GruValues {
    vec r, z, n, h;
};

// `sums` of r and z, and of n's product with the state, which r multiplies; `x_n` is n's share of the input.
template <bool modified>
UNROLLED_INLINE GruValues gru_step(const vec* sums, vec x_n, vec h_before, vec zoneout) {
    GruValues now;
    now.r = sigmoid(sums[0]);
    now.z = sigmoid(sums[1]);
    now.n = tanh(fma(now.r, sums[2], x_n));
    now.h = fma(now.z, h_before - now.n, now.n);
    if constexpr (modified) now.h = zoned_out(zoneout, h_before, now.h);
    return now;
}

UNROLLED_INLINE vec rnn_step(vec sum, bool relu) { return relu ? select(sum < 0.0f, vec{}, sum) : tanh(sum); }

}  // namespace unrolled::UNROLLED_ISA
