// Long short-term memory: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000, and its variants.
//
// `coupled`: the forget gate is 1 - i, and the gates are i, g, o. `modified`: any of peepholes, dropout, zoneout and
// projection; a coupled cell always is, to have one kind less of each. With a projection h is multiplied by weight_hr
// (Sak, Senior & Beaufays 2014), and zoneout is of the product.
#include "backward.h"
#include "cells.h"
#include "forward.h"
#include "normal.h"

namespace unrolled::UNROLLED_ISA {
namespace {

enum { I, F, G, O };  // the gates that are kept

// Zoneout of a projected state's units from u on, at the step and row `at`.
UNROLLED_INLINE vec zoneout_of_projection(const LstmVariant& variant, int64_t at, int64_t u, int64_t n) {
    return variant.zoneout_h ? load(variant.zoneout_h.at(at) + u, n) : vec{};
}

template <bool coupled, bool modified>
struct LstmForwardCell {
    static constexpr int gates = coupled ? 3 : 4, shared_biases = gates;
    static constexpr bool may_project = modified, normalised = false;
    const Steps& steps;
    const LstmForward& args;

    float* kept() const { return args.gates; }
    int64_t kept_width() const { return 4 * steps.H; }

    // Where a row's c is to stand, and where it was before; null: zero.
    float* c_now(int64_t t, int64_t b) const { return args.c + (t / args.every * steps.B + b) * steps.H; }
    const float* c_before(int64_t t, int64_t b) const {
        return steps.reset(t, b) ? nullptr : steps.first(t, b) ? row_of(args.c0, b, steps.H) : c_now(steps.before(t), b);
    }

    UNROLLED_INLINE_MEMBER vec start(int gate, const ForwardRow& row, int64_t u, int64_t n) const {
        return load(row.in + gate * steps.H + u, n);
    }
    struct Row : ForwardRow {
        const float* c_before;
        float* c;
        float* gates;  // null where they are not kept
        int64_t at;
    };
    Row row(const ForwardRow& common, int64_t t, int64_t b, const float* zeros) const {
        const int64_t at = t * steps.B + b;
        const float* c = c_before(t, b);
        return {common, c ? c : zeros, c_now(t, b), args.gates ? args.gates + at * kept_width() : nullptr, at};
    }
    template <int count>
    UNROLLED_INLINE_MEMBER void finish(const vec* const (&sums)[count], const Row* rows, int64_t u, int64_t n) const {
        const int64_t H = steps.H;
        vec o[count], squashed[count];
        Modification by[count];
        for (int r = 0; r < count; ++r) {
            const Row& row = rows[r];
            if constexpr (modified) by[r] = modification(args.variant, row.at, H, u, n);
            const LstmValues now = lstm_gates<coupled, modified>(sums[r], load(row.c_before + u, n), by[r]);
            store(row.c + u, now.c, n);
            o[r] = now.o;
            squashed[r] = now.fresh;
            if (!row.gates) continue;
            float* out = row.gates + u;
            store(out + I * H, now.i, n);
            store(out + F * H, now.f, n);
            store(out + G * H, now.g, n);
            store(out + O * H, now.o, n);
        }
        tanh(squashed);
        for (int r = 0; r < count; ++r) {
            vec h_before{};
            if constexpr (modified)
                if (!args.variant.weight_hr) h_before = load(rows[r].state + u, n);
            store(rows[r].h + u, lstm_state<modified>(o[r], squashed[r], h_before, by[r]), n);
        }
    }
    UNROLLED_INLINE_MEMBER vec finish_projected(vec h, const float* state, int64_t t, int64_t b, int64_t u, int64_t n) const {
        return zoned_out(zoneout_of_projection(args.variant, t * steps.B + b, u, n), load(state, n), h);
    }
    void clear(int64_t t, int64_t b) const { clear(t, b, kept_width()); }

  protected:
    void clear(int64_t t, int64_t b, int64_t width) const {
        if (args.gates) {
            zero(c_now(t, b), steps.H);
            zero(args.gates + (t * steps.B + b) * width, width);
            return;
        }
        const bool begins = t % args.every == 0, ended = !steps.reverse && steps.length(b) > 0;
        if (begins) copy_or_zero(ended ? c_now(steps.length(b) - 1, b) : row_of(args.c0, b, steps.H), c_now(t, b), steps.H);
    }
};

// With a norm, a row at a time: see normal.h.
template <bool coupled>
struct NormalisedForwardCell : LstmForwardCell<coupled, true> {
    using Base = LstmForwardCell<coupled, true>;
    static constexpr bool normalised = true;
    using Base::args, Base::steps;

    int64_t kept_width() const { return args.variant.kept(steps.H); }
    int64_t kept_product() const { return 4 * steps.H; }
    int64_t kept_input() const { return kept_product() + Base::gates * steps.H + 1; }

    void normalise_input(float* product, const float* biases, float* share) const {
        const int64_t n = Base::gates * steps.H;
        const float scale = normalise(product, n);
        add_gain(product, args.variant.norm.gain_ih, biases, n, share);
        if (args.gates) product[n] = scale;
    }
    void finish_row(const float* in, float* product, const float* state, int64_t t, int64_t b, float* h) const {
        const int64_t row = t * steps.B + b;
        float* kept = args.gates ? args.gates + row * kept_width() : nullptr;
        const float scale = normalised_step(args.variant, steps.H, row, in, product, state, Base::c_before(t, b),
                                            Base::c_now(t, b), h, kept);
        if (kept) product[Base::gates * steps.H] = scale;
    }
    void clear(int64_t t, int64_t b) const { Base::clear(t, b, kept_width()); }
};

// With peepholes, a step's gradients are followed by each peephole's: what the gate saw times the gradient at its sum.
template <bool coupled, bool modified>
struct LstmBackwardCell {
    static constexpr int gates = coupled ? 3 : 4, peepholes = gates - 1, rotation = 0, recurrent_run = 0, sums_run = 0;
    static constexpr bool may_project = modified, normalised = false;
    const Steps& steps;
    LstmBackward args;
    const int of_peepholes = modified && args.variant.peephole ? peepholes : 0, grad_runs = gates + of_peepholes;

    int64_t carried_floats() const { return steps.B * (steps.P + steps.H); }
    void carry_in(float* memory) {
        args.grad.h0 = memory;
        args.grad_c0 = memory + steps.B * steps.P;
    }

    struct Row {
        float* out;                    // the runs of gradients, and what stands behind them
        const float *grad_h, *grad_c;  // at the step's h and c; grad_c null: zero
        const float *gates, *c_before, *c;
        float *carried_h, *carried_c;  // grad_h0 and grad_c0 carry gradients from step to step
        const float *later_h, *later_c;  // those from what comes after this step, but for the flow; null: zero
        bool reset;
        int64_t at;
    };
    Row row(int64_t t, int64_t b, float* out, const float* zeros) const {
        const int64_t H = steps.H, P = steps.P, at = t * steps.B + b;
        const float* c_before = steps.reset(t, b)   ? zeros
                                : steps.first(t, b) ? row_of(args.c0, b, H, zeros)
                                                    : args.c + (steps.before(t) * steps.B + b) * H;
        float *carried_h = args.grad.h0 + b * P, *carried_c = args.grad_c0 + b * H;
        const bool last = steps.last(t, b), ends = last && !args.grad.continued;
        const float* later_h = ends ? row_of(args.grad_h_n, b, P) : last || modified ? carried_h : nullptr;
        const float* later_c = ends ? row_of(args.grad_c_n, b, H) : carried_c;
        return {out, args.grad_h ? args.grad_h + at * P : zeros, row_of(args.grad_c, at, H), args.gates + at * args.variant.kept(H),
                c_before, args.c + at * H, carried_h, carried_c, later_h, later_c, steps.reset(t, b), at};
    }

    UNROLLED_INLINE_MEMBER void fetch(const Row& row, int64_t u, int64_t n) const {
#pragma GCC unroll 4
        for (int gate = 0; gate < 4; ++gate) ask(row.gates + gate * steps.H + u, n);
        ask(row.c_before + u, n);
        ask(row.c + u, n);
        ask(row.grad_h + u, n);
    }

    // The gradient at the state, of which `flow` comes from later steps, but for what zoneout keeps of it: that is carried on.
    UNROLLED_INLINE_MEMBER vec grad_of_state(vec flow, vec zoneout, const Row& row, int64_t u, int64_t n) const {
        vec grad_h = flow + load(row.grad_h + u, n);
        if (row.later_h) grad_h += load(row.later_h + u, n);
        if constexpr (modified) {
            store(row.carried_h + u, row.reset ? vec{} : zoneout * grad_h, n);
            grad_h *= 1.0f - zoneout;
        }
        return grad_h;
    }
    UNROLLED_INLINE_MEMBER vec finish_projected(vec flow, const Row& row, int64_t u, int64_t n) const {
        return grad_of_state(flow, zoneout_of_projection(args.variant, row.at, u, n), row, u, n);
    }
    // The gates, and c before zoneout.
    UNROLLED_INLINE_MEMBER LstmValues values_of(const Row& row, vec before, const Modification& by, int64_t u, int64_t n) const {
        const int64_t H = steps.H;
        LstmValues now;
        now.i = load(row.gates + I * H + u, n), now.f = load(row.gates + F * H + u, n);
        now.g = load(row.gates + G * H + u, n), now.o = load(row.gates + O * H + u, n);
        now.fresh = modified ? fma(now.i, now.g * by.dropout, now.f * before) : load(row.c + u, n);
        return now;
    }
    struct At {
        Modification by;
        vec before;
        LstmValues now;
    };
    UNROLLED_INLINE_MEMBER At at(const Row& row, int64_t u, int64_t n) const {
        At one{{}, load(row.c_before + u, n), {}};
        if constexpr (modified) one.by = modification(args.variant, row.at, steps.H, u, n);
        one.now = values_of(row, one.before, one.by, u, n);
        return one;
    }
    // From the gradients at the sum of o and at `fresh`, as far as it comes from this step's h, to those of the other gates,
    // of peepholes and of c before.
    UNROLLED_INLINE_MEMBER void finish_gates(const LstmValues& now, vec before, vec grad_o, vec grad_fresh, const Modification& by,
                                             float* out, const Row& row, int64_t u, int64_t n) const {
        const int64_t H = steps.H;
        vec grad_c = row.later_c ? load(row.later_c + u, n) : vec{}, kept_c{};
        if (row.grad_c) grad_c += load(row.grad_c + u, n);
        if constexpr (modified) {
            kept_c = by.zoneout_c * grad_c;
            grad_c *= 1.0f - by.zoneout_c;
        }
        const LstmGradients grad = lstm_gates_back<coupled, modified>(now, before, grad_o, grad_c + grad_fresh, by);
        store(row.carried_c + u, row.reset ? vec{} : modified ? grad.c_before + kept_c : grad.c_before, n);
        store(out, grad.i, n);
        if constexpr (!coupled) store(out + H, grad.f, n);
        store(out + (gates - 2) * H, grad.g, n);
        store(out + (gates - 1) * H, grad_o, n);
        if (of_peepholes) {
            float* peephole = out + gates * H;
            store(peephole, grad.i * before, n);
            if constexpr (!coupled) store(peephole + H, grad.f * before, n);
            store(peephole + (peepholes - 1) * H, grad_o * now.fresh, n);
        }
    }

    template <int count>
    UNROLLED_INLINE_MEMBER void finish(const vec (&flow)[count], const Row& row, int64_t first, int64_t n) const {
        vec squashed[count];
        for (int v = 0; v < count; ++v) squashed[v] = at(row, first + v * lanes, n).now.fresh;
        tanh(squashed);
        for (int v = 0; v < count; ++v) {
            const int64_t u = first + v * lanes;
            const At one = at(row, u, n);
            const LstmValues& now = one.now;
            vec grad_h = flow[v];
            if (modified && args.variant.weight_hr) store(row.out + grad_runs * steps.H + u, now.o * squashed[v], n);
            else grad_h = grad_of_state(flow[v], one.by.zoneout_h, row, u, n);
            const vec grad_fresh = grad_h * now.o * (1.0f - squashed[v] * squashed[v]);
            finish_gates(now, one.before, grad_h * squashed[v] * now.o * (1.0f - now.o), grad_fresh, one.by, row.out + u, row, u, n);
        }
    }
    UNROLLED_INLINE_MEMBER void finish_initial(vec flow, int64_t b, int64_t u, int64_t n) const {
        float* grad_h0 = args.grad.h0 + b * steps.P + u;
        store(grad_h0, modified && steps.length(b) > 0 ? flow + load(grad_h0, n) : flow, n);
    }
    void finish_bias(const float* sums) const {
        const int64_t H = steps.H;
        if (args.grad.bias_ih) deliver(args.grad, sums, args.grad.bias_ih, gates * H);
        if (of_peepholes) deliver(args.grad, sums + gates * H, args.grad_peephole, peepholes * H);
    }
};

// With a norm, the gradients at the gates' sums are sent through it to be those of the products with weight_ih and
// weight_hh. Behind those of the sums and peepholes stand those of gain_c, bias_c, gain_hh and, with weight_ih, gain_ih.
template <bool coupled>
struct NormalisedBackwardCell : LstmBackwardCell<coupled, true> {
    using Base = LstmBackwardCell<coupled, true>;
    static constexpr int gates = Base::gates, recurrent_run = gates, sums_run = 2 * gates;
    static constexpr bool normalised = true;
    using Base::args, Base::steps, Base::of_peepholes, typename Base::Row;
    const int of_norm = gates + of_peepholes;  // where those of the norm begin, in runs from the sums on
    const int grad_runs = sums_run + of_norm + 2 + gates * (args.weight_ih ? 2 : 1);

    void finish_row(const float* flow, const Row& row) const {
        const int64_t H = steps.H, n = gates * H;
        const LayerNorm& norm = args.variant.norm;
        float* const out = row.out;
        float *sums = out + sums_run * H, *gain_c = sums + of_norm * H, *bias_c = gain_c + H, *gain_hh = bias_c + H;
        float *normal_c = gain_c, *grad_fresh = out + recurrent_run * H, *grad_o = sums + (gates - 1) * H;
        for_units([&](int64_t u, int64_t left) { store(normal_c + u, Base::at(row, u, left).now.fresh, left); });
        const float scale_c = normalise(normal_c, H);
        for_units([&](int64_t u, int64_t left) {
            const auto one = Base::at(row, u, left);
            const vec squashed = tanh(fma(load(norm.gain_c + u, left), load(normal_c + u, left), load(norm.bias_c + u, left)));
            vec grad_h = load(flow + u, left);
            if (args.variant.weight_hr) store(out + grad_runs * H + u, one.now.o * squashed, left);
            else grad_h = Base::grad_of_state(grad_h, one.by.zoneout_h, row, u, left);
            store(grad_o + u, grad_h * squashed * one.now.o * (1.0f - one.now.o), left);
            store(bias_c + u, grad_h * one.now.o * (1.0f - squashed * squashed), left);
        });
        normalise_back(bias_c, norm.gain_c, normal_c, scale_c, H, grad_fresh);
        for_units([&](int64_t u, int64_t left) {
            const auto one = Base::at(row, u, left);
            store(gain_c + u, load(bias_c + u, left) * load(normal_c + u, left), left);
            Base::finish_gates(one.now, one.before, load(grad_o + u, left), load(grad_fresh + u, left), one.by, sums + u, row, u,
                               left);
        });
        const float* product = row.gates + 4 * H;
        through(sums, norm.gain_hh, product, out + recurrent_run * H, gain_hh);
        if (args.weight_ih) through(sums, norm.gain_ih, product + n + 1, out, gain_hh + n);
    }
    void finish_bias(const float* sums) const {
        const int64_t H = steps.H, n = gates * H;
        Base::finish_bias(sums);
        sums += of_norm * H;
        deliver(args.grad, sums, args.grad_gain_c, H);
        deliver(args.grad, sums + H, args.grad_bias_c, H);
        deliver(args.grad, sums + 2 * H, args.grad_gain_hh, n);
        if (args.weight_ih) deliver(args.grad, sums + 2 * H + n, args.grad_gain_ih, n);
    }

  private:
    template <class Body>
    UNROLLED_INLINE_MEMBER void for_units(Body body) const {
        for (int64_t u = 0; u < steps.H; u += lanes) body(u, steps.H - u);
    }
    // From the gradients at the gates' sums to those at a product, and of its gain.
    void through(const float* sums, const float* gain, const float* normal, float* at_product, float* of_gain) const {
        const int64_t n = gates * steps.H;
        normalise_back(sums, gain, normal, normal[n], n, at_product);
        for (int64_t i = 0; i < n; i += lanes) store(of_gain + i, load(sums + i, n - i) * load(normal + i, n - i), n - i);
    }
};

}  // namespace

void lstm_forward(const Steps& steps, const LstmForward& args, int threads) {
    const LstmVariant& variant = args.variant;
    if (variant.norm && variant.coupled) run_forward(NormalisedForwardCell<true>{{steps, args}}, threads);
    else if (variant.norm) run_forward(NormalisedForwardCell<false>{{steps, args}}, threads);
    else if (variant.coupled) run_forward(LstmForwardCell<true, true>{steps, args}, threads);
    else if (variant.modified()) run_forward(LstmForwardCell<false, true>{steps, args}, threads);
    else run_forward(LstmForwardCell<false, false>{steps, args}, threads);
}

void lstm_backward(const Steps& steps, const LstmBackward& args, int threads) {
    const LstmVariant& variant = args.variant;
    if (args.grad_c0 && !args.grad.continued) hand_on(steps, args.grad_c_n, steps.H, args.grad_c0);
    if (variant.norm && variant.coupled) run_backward(NormalisedBackwardCell<true>{{steps, args}}, threads);
    else if (variant.norm) run_backward(NormalisedBackwardCell<false>{{steps, args}}, threads);
    else if (variant.coupled) run_backward(LstmBackwardCell<true, true>{steps, args}, threads);
    else if (variant.modified()) run_backward(LstmBackwardCell<false, true>{steps, args}, threads);
    else run_backward(LstmBackwardCell<false, false>{steps, args}, threads);
}

}  // namespace unrolled::UNROLLED_ISA
