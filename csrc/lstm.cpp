// Long short-term memory: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000, and its variants.
//
// `coupled`: the forget gate is 1 - i, and the gates are i, g, o. `modified`: any of peepholes, dropout, zoneout and
// projection; a coupled cell always is, to have one kind less of each. With a projection h is multiplied by weight_hr
// (Sak, Senior & Beaufays 2014), and zoneout is of the product.
#include "backward.h"
#include "cells.h"
#include "forward.h"

namespace unrolled::UNROLLED_ISA {
namespace {

enum { I, F, G, O };  // the gates that are kept

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

// Zoneout of a projected state's units from u on, at the step and row `at`.
UNROLLED_INLINE vec zoneout_of_projection(const LstmVariant& variant, int64_t at, int64_t u, int64_t n) {
    return variant.zoneout_h ? load(variant.zoneout_h.at(at) + u, n) : vec{};
}

template <bool coupled, bool modified>
struct LstmForwardCell {
    static constexpr int gates = coupled ? 3 : 4, kept_runs = 4;
    static constexpr bool may_project = modified;
    const Steps& steps;
    const LstmForward& args;

    float* kept() const { return args.gates; }

    UNROLLED_INLINE_MEMBER vec start(int gate, const float* in, int64_t u, int64_t n) const {
        return load(in + gate * steps.H + u, n);
    }
    UNROLLED_INLINE_MEMBER vec finish(const vec* sums, const float*, const float* state, int64_t t, int64_t b, int64_t u,
                                      int64_t n) const {
        const int64_t H = steps.H, row = t * steps.B + b, at = row * H + u;
        float* c_now = args.keep_steps ? args.c + at : args.c + b * H + u;
        const float* c_before = steps.first(t, b) ? args.c0 + b * H + u
                                : args.keep_steps ? args.c + (steps.before(t) * steps.B + b) * H + u
                                                  : c_now;
        Modification by;
        vec h_before{};
        if constexpr (modified) {
            by = modification(args.variant, row, H, u, n);
            if (!args.variant.weight_hr) h_before = load(state + u, n);
        }
        const LstmValues now =
            lstm_step<coupled, modified>(sums, h_before, steps.reset(t, b) ? vec{} : load(c_before, n), by);
        store(c_now, now.c, n);
        if (args.gates) {
            float* out = args.gates + row * 4 * H + u;
            store(out + I * H, now.i, n);
            store(out + F * H, now.f, n);
            store(out + G * H, now.g, n);
            store(out + O * H, now.o, n);
        }
        return now.h;
    }
    UNROLLED_INLINE_MEMBER vec finish_projected(vec h, const float* state, int64_t t, int64_t b, int64_t u, int64_t n) const {
        return zoned_out(zoneout_of_projection(args.variant, t * steps.B + b, u, n), load(state, n), h);
    }
    void clear(int64_t t, int64_t b) const {
        const int64_t H = steps.H, row = t * steps.B + b;
        if (args.keep_steps) zero(args.c + row * H, H);
        else if (steps.length(b) == 0) copy(args.c0 + b * H, args.c + b * H, H);
        if (args.gates) zero(args.gates + row * 4 * H, 4 * H);
    }
};

// With peepholes, a step's gradients are followed by each peephole's: what the gate saw times the gradient at its sum.
template <bool coupled, bool modified>
struct LstmBackwardCell {
    static constexpr int gates = coupled ? 3 : 4, peepholes = gates - 1, rotation = 0, recurrent_run = 0;
    static constexpr bool may_project = modified;
    const Steps& steps;
    const LstmBackward& args;
    const int grad_runs = gates + (modified && args.variant.peephole ? peepholes : 0);

    // The gradient at the state h[t], of which `flow` comes from later steps, but for what zoneout keeps of it: that
    // grad_h0 carries on.
    UNROLLED_INLINE_MEMBER vec grad_of_state(vec flow, vec zoneout, int64_t t, int64_t b, int64_t u, int64_t n) const {
        vec grad_h = flow + load(args.grad_h + (t * steps.B + b) * steps.P + u, n);
        if constexpr (modified) {
            float* carried = args.grad.h0 + b * steps.P + u;
            if (!steps.last(t, b)) grad_h += load(carried, n);
            store(carried, steps.reset(t, b) ? vec{} : zoneout * grad_h, n);
            grad_h *= 1.0f - zoneout;
        }
        return grad_h;
    }
    UNROLLED_INLINE_MEMBER vec finish_projected(vec flow, int64_t t, int64_t b, int64_t u, int64_t n) const {
        return grad_of_state(flow, zoneout_of_projection(args.variant, t * steps.B + b, u, n), t, b, u, n);
    }

    // grad_c0 carries the gradient at c from step to step.
    UNROLLED_INLINE_MEMBER void finish(vec flow, float* out, int64_t t, int64_t b, int64_t u, int64_t n) const {
        const int64_t H = steps.H, row = t * steps.B + b;
        const float* gate = args.gates + row * 4 * H + u;
        const vec i = load(gate + I * H, n), f = load(gate + F * H, n);
        const vec g = load(gate + G * H, n), o = load(gate + O * H, n);
        const bool reset = steps.reset(t, b);
        const vec c_before = reset               ? vec{}
                             : steps.first(t, b) ? load(args.c0 + b * H + u, n)
                                                 : load(args.c + (steps.before(t) * steps.B + b) * H + u, n);
        float* carried = args.grad_c0 + b * H + u;
        vec grad_c = steps.last(t, b) ? vec{} : load(carried, n);
        if (args.grad_c) grad_c += load(args.grad_c + row * H + u, n);
        vec c = load(args.c + row * H + u, n), dropped = g, kept_c{};
        Modification by;
        if constexpr (modified) {
            by = modification(args.variant, row, H, u, n);
            dropped = g * by.dropout;
            c = fma(i, dropped, f * c_before);  // zoneout may have kept another
            kept_c = by.zoneout_c * grad_c;
            grad_c *= 1.0f - by.zoneout_c;
        }
        const vec squashed = tanh(c);
        vec grad_h = flow;
        if (modified && args.variant.weight_hr) store(out + grad_runs * H, o * squashed, n);
        else grad_h = grad_of_state(flow, by.zoneout_h, t, b, u, n);
        grad_c += grad_h * o * (1.0f - squashed * squashed);
        const vec grad_o = grad_h * squashed * o * (1.0f - o);
        if constexpr (modified) grad_c += by.peephole_o * grad_o;
        vec grad_i = grad_c * dropped * i * (1.0f - i);
        const vec grad_f = grad_c * c_before * f * (1.0f - f);
        vec grad_g = grad_c * i * (1.0f - g * g);
        if constexpr (coupled) grad_i -= grad_f;
        vec grad_c_before = grad_c * f;
        if constexpr (modified) {
            grad_g *= by.dropout;
            grad_c_before += kept_c + by.peephole_i * grad_i + by.peephole_f * grad_f;
        }
        store(carried, reset ? vec{} : grad_c_before, n);
        store(out, grad_i, n);
        if constexpr (!coupled) store(out + H, grad_f, n);
        store(out + (gates - 2) * H, grad_g, n);
        store(out + (gates - 1) * H, grad_o, n);
        if (modified && args.variant.peephole) {
            float* of_peepholes = out + gates * H;
            store(of_peepholes, grad_i * c_before, n);
            if constexpr (!coupled) store(of_peepholes + H, grad_f * c_before, n);
            store(of_peepholes + (peepholes - 1) * H, grad_o * c, n);
        }
    }
    UNROLLED_INLINE_MEMBER void finish_initial(vec flow, int64_t b, int64_t u, int64_t n) const {
        float* grad_h0 = args.grad.h0 + b * steps.P + u;
        store(grad_h0, modified && steps.length(b) > 0 ? flow + load(grad_h0, n) : flow, n);
    }
    void finish_bias(const float* sums) const {
        const int64_t H = steps.H;
        if (args.grad.bias) copy(sums, args.grad.bias, gates * H);
        if (modified && args.variant.peephole) copy(sums + gates * H, args.grad_peephole, peepholes * H);
    }
};

}  // namespace

void lstm_forward(const Steps& steps, const LstmForward& args, int threads) {
    const LstmVariant& variant = args.variant;
    if (variant.coupled) run_forward(LstmForwardCell<true, true>{steps, args}, threads);
    else if (variant.modified()) run_forward(LstmForwardCell<false, true>{steps, args}, threads);
    else run_forward(LstmForwardCell<false, false>{steps, args}, threads);
}

void lstm_backward(const Steps& steps, const LstmBackward& args, int threads) {
    const LstmVariant& variant = args.variant;
    for (int64_t b = 0; b < steps.B; ++b)
        if (steps.length(b) == 0) zero(args.grad_c0 + b * steps.H, steps.H);
    if (variant.coupled) run_backward(LstmBackwardCell<true, true>{steps, args}, threads);
    else if (variant.modified()) run_backward(LstmBackwardCell<false, true>{steps, args}, threads);
    else run_backward(LstmBackwardCell<false, false>{steps, args}, threads);
}

}  // namespace unrolled::UNROLLED_ISA
