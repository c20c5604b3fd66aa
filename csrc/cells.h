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

// What the variant brings for the units from u on, at the step and row `at`.
UNROLLED_INLINE Modification modification(const LstmVariant& variant, int64_t at, int64_t H, int64_t u, int64_t n) {
    Modification by;
    if (const float* peephole = variant.peephole) {
        by.peephole_i = load(peephole + u, n);
        if (!variant.coupled) by.peephole_f = load(peephole + H + u, n);
        by.peephole_o = load(peephole + (variant.coupled ? 1 : 2) * H + u, n);
    }
    if (variant.dropout) by.dropout = load(variant.dropout.at(at) + u, n);
    if (variant.zoneout_h && !variant.weight_hr) by.zoneout_h = load(variant.zoneout_h.at(at) + u, n);
    if (variant.zoneout_c) by.zoneout_c = load(variant.zoneout_c.at(at) + u, n);
    return by;
}

struct LstmValues {
    vec i, f, g, o;
    vec fresh;  // c before zoneout
    vec c, h;
};

// All but h. `sums` of the gates i, f, g, o, or i, g, o where the forget gate is coupled.
template <bool coupled, bool modified>
UNROLLED_INLINE LstmValues lstm_gates(const vec* sums, vec c_before, const Modification& by) {
    constexpr int I = 0, F = 1, G = coupled ? 1 : 2, O = G + 1;
    const auto peep = [](vec sum, vec weight, vec c) { return modified ? fma(weight, c, sum) : sum; };
    LstmValues now;
    now.i = sigmoid(peep(sums[I], by.peephole_i, c_before));
    now.f = coupled ? 1.0f - now.i : sigmoid(peep(sums[F], by.peephole_f, c_before));
    now.g = tanh(sums[G]);
    now.fresh = fma(now.i, modified ? now.g * by.dropout : now.g, now.f * c_before);
    now.o = sigmoid(peep(sums[O], by.peephole_o, now.fresh));
    now.c = modified ? zoned_out(by.zoneout_c, c_before, now.fresh) : now.fresh;
    return now;
}

template <bool coupled, bool modified>
UNROLLED_INLINE LstmValues lstm_step(const vec* sums, vec h_before, vec c_before, const Modification& by) {
    LstmValues now = lstm_gates<coupled, modified>(sums, c_before, by);
    now.h = now.o * tanh(now.fresh);
    if constexpr (modified) now.h = zoned_out(by.zoneout_h, h_before, now.h);
    return now;
}

struct LstmGradients {
    vec i, f, g;   // at the gates' sums
    vec c_before;  // but for what zoneout keeps
};

// Back through `lstm_gates`, from the gates i, f, g and the gradients at the sum of o and, through all else, at `fresh`.
template <bool coupled, bool modified>
UNROLLED_INLINE LstmGradients lstm_gates_back(const LstmValues& now, vec c_before, vec grad_o, vec grad_c, const Modification& by) {
    if constexpr (modified) grad_c += by.peephole_o * grad_o;
    LstmGradients grad;
    grad.i = grad_c * (modified ? now.g * by.dropout : now.g) * now.i * (1.0f - now.i);
    grad.f = grad_c * c_before * now.f * (1.0f - now.f);
    grad.g = grad_c * now.i * (1.0f - now.g * now.g);
    grad.c_before = grad_c * now.f;
    if constexpr (coupled) grad.i -= grad.f;
    if constexpr (modified) {
        grad.g *= by.dropout;
        grad.c_before += by.peephole_i * grad.i + by.peephole_f * grad.f;
    }
    return grad;
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
