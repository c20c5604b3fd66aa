// The equations of one step of each cell, for one vector of units whose gates' sums are made. Training and inference
// run these lines, so that both give the same bits. `modified` is what variants add; the plain cell has none of it.
// Where a tanh comes late, callers take it themselves, of several rows side by side.
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
    vec c;
};

// `sums` of the gates i, f, g, o, or i, g, o where the forget gate is coupled.
template <bool coupled, bool modified>
UNROLLED_INLINE LstmValues lstm_gates(const vec* sums, vec c_before, const Modification& by) {
    constexpr int I = 0, F = 1, G = coupled ? 1 : 2, O = G + 1;
    constexpr int together = modified ? O : O + 1;  // through its peephole o sees the new c
    const auto peep = [](vec sum, vec weight, vec c) { return modified ? fma(weight, c, sum) : sum; };
    vec gates[together];
#pragma GCC unroll 4
    for (int gate = 0; gate < together; ++gate) gates[gate] = sums[gate];
    gates[I] = peep(sums[I], by.peephole_i, c_before);
    if constexpr (!coupled) gates[F] = peep(sums[F], by.peephole_f, c_before);
    squash(gates, [](int gate) { return gate == G; });
    LstmValues now;
    now.i = gates[I];
    now.f = coupled ? 1.0f - now.i : gates[F];
    now.g = gates[G];
    now.fresh = fma(now.i, modified ? now.g * by.dropout : now.g, now.f * c_before);
    if constexpr (modified) now.o = sigmoid(peep(sums[O], by.peephole_o, now.fresh));
    else now.o = gates[O];
    now.c = modified ? zoned_out(by.zoneout_c, c_before, now.fresh) : now.fresh;
    return now;
}

// h, of the tanh of `fresh`.
template <bool modified>
UNROLLED_INLINE vec lstm_state(vec o, vec squashed, vec h_before, const Modification& by) {
    return modified ? zoned_out(by.zoneout_h, h_before, o * squashed) : o * squashed;
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
    vec r, z;
    vec n;  // its sum, until somebody takes the tanh
};

// `sums` of r and z, and of n's product with the state, which r multiplies; `x_n` is n's share of the input.
UNROLLED_INLINE GruValues gru_gates(const vec* sums, vec x_n) {
    vec gates[] = {sums[0], sums[1]};
    squash(gates, [](int) { return false; });
    return {gates[0], gates[1], fma(gates[0], sums[2], x_n)};
}

// h, of n's tanh.
template <bool modified>
UNROLLED_INLINE vec gru_state(const GruValues& now, vec h_before, vec zoneout) {
    const vec h = fma(now.z, h_before - now.n, now.n);
    return modified ? zoned_out(zoneout, h_before, h) : h;
}

// Sums become h.
template <int count>
UNROLLED_INLINE void rnn_step(vec (&sums)[count], bool relu) {
    if (!relu) return tanh(sums);
    for (vec& sum : sums) sum = select(sum < 0.0f, vec{}, sum);
}

}  // namespace unrolled::UNROLLED_ISA
