// Gated recurrent unit: Cho et al. 2014, in the form of cuDNN and PyTorch, where the reset gate multiplies
// the recurrent product of the candidate: n = tanh(x_n + r (W_hn h + b_hn)), h' = (1 - z) n + z h.
#include "backward.h"
#include "cells.h"
#include "forward.h"

namespace unrolled::UNROLLED_ISA {
namespace {

enum { R, Z, N, HN };

// `modified`: with zoneout.
template <bool modified>
struct GruForwardCell {
    static constexpr int gates = 3, shared_biases = 2;
    static constexpr bool may_project = false, normalised = false;
    const Steps& steps;
    const GruForward& args;

    float* kept() const { return args.gates; }
    int64_t kept_width() const { return 4 * steps.H; }

    struct Row : ForwardRow {
        const float* bias_hn;  // [H]
        float* gates;          // null where they are not kept
        int64_t at;
    };
    Row row(const ForwardRow& common, int64_t t, int64_t b, const float* zeros) const {
        const int64_t at = t * steps.B + b;
        return {common, args.bias_hh ? args.bias_hh + N * steps.H : zeros, args.gates ? args.gates + at * 4 * steps.H : nullptr, at};
    }
    UNROLLED_INLINE_MEMBER vec start(int gate, const Row& row, int64_t u, int64_t n) const {
        return load(gate == N ? row.bias_hn + u : row.in + gate * steps.H + u, n);
    }
    template <int count>
    UNROLLED_INLINE_MEMBER void finish(const vec* const (&sums)[count], const Row* rows, int64_t u, int64_t n) const {
        const int64_t H = steps.H;
        GruValues now[count];
        vec candidates[count];
        for (int r = 0; r < count; ++r) {
            now[r] = gru_gates(sums[r], load(rows[r].in + N * H + u, n));
            candidates[r] = now[r].n;
        }
        tanh(candidates);
        for (int r = 0; r < count; ++r) {
            const Row& row = rows[r];
            now[r].n = candidates[r];
            vec zoneout{};
            if constexpr (modified) zoneout = load(args.zoneout_h.at(row.at) + u, n);
            store(row.h + u, gru_state<modified>(now[r], load(row.state + u, n), zoneout), n);
            if (!row.gates) continue;
            float* out = row.gates + u;
            store(out + R * H, now[r].r, n);
            store(out + Z * H, now[r].z, n);
            store(out + N * H, now[r].n, n);
            store(out + HN * H, sums[r][N], n);
        }
    }
    void clear(int64_t t, int64_t b) const {
        const int64_t H = steps.H;
        if (args.gates) zero(args.gates + (t * steps.B + b) * 4 * H, 4 * H);
    }
};

// A step's gradients stand in the order n, r, z, hn: the first three are those of the sums, the last three those of
// the product with weight_hh.
template <bool modified>
struct GruBackwardCell {
    static constexpr int gates = 3, grad_runs = 4, rotation = 2, recurrent_run = 1, sums_run = 0;
    static constexpr bool may_project = false, normalised = false;
    const Steps& steps;
    GruBackward args;

    int64_t carried_floats() const { return steps.B * steps.H; }
    void carry_in(float* memory) { args.grad.h0 = memory; }

    struct Row {
        float* out;
        const float *grad_h, *gates, *h_before;
        float* carried;      // grad_h0 carries, from step to step, what does not pass through the gates
        const float* later;  // that, or what else comes from after this step; null: zero
        bool reset;
        int64_t at;
    };
    Row row(int64_t t, int64_t b, float* out, const float* zeros) const {
        const int64_t H = steps.H, at = t * steps.B + b;
        const float* h_before = steps.reset(t, b)   ? zeros
                                : steps.first(t, b) ? row_of(args.h0, b, H, zeros)
                                                    : args.h + (steps.before(t) * steps.B + b) * H;
        float* carried = args.grad.h0 + b * H;
        const bool ends = steps.last(t, b) && !args.grad.continued;
        return {out, args.grad_h ? args.grad_h + at * H : zeros, args.gates + at * 4 * H, h_before, carried,
                ends ? row_of(args.grad_h_n, b, H) : carried, steps.reset(t, b), at};
    }
    UNROLLED_INLINE_MEMBER void fetch(const Row& row, int64_t u, int64_t n) const {
#pragma GCC unroll 4
        for (int gate = 0; gate < 4; ++gate) ask(row.gates + gate * steps.H + u, n);
        ask(row.h_before + u, n);
        ask(row.grad_h + u, n);
    }
    template <int count>
    UNROLLED_INLINE_MEMBER void finish(const vec (&flow)[count], const Row& row, int64_t first, int64_t n) const {
        const int64_t H = steps.H;
        for (int v = 0; v < count; ++v) {
            const int64_t u = first + v * lanes;
            const float* gate = row.gates + u;
            const vec r = load(gate + R * H, n), z = load(gate + Z * H, n);
            const vec candidate = load(gate + N * H, n), product = load(gate + HN * H, n);
            vec grad_h = flow[v] + load(row.grad_h + u, n);
            if (row.later) grad_h += load(row.later + u, n);
            vec kept{};
            if constexpr (modified) {
                const vec zoneout = load(args.zoneout_h.at(row.at) + u, n);
                kept = zoneout * grad_h;
                grad_h *= 1.0f - zoneout;
            }
            const vec grad_n = grad_h * (1.0f - z) * (1.0f - candidate * candidate);
            const vec grad_z = grad_h * (load(row.h_before + u, n) - candidate) * z * (1.0f - z);
            const vec grad_r = grad_n * product * r * (1.0f - r);
            float* out = row.out + u;
            store(out, grad_n, n);
            store(out + H, grad_r, n);
            store(out + 2 * H, grad_z, n);
            store(out + 3 * H, grad_n * r, n);
            store(row.carried + u, row.reset ? vec{} : modified ? grad_h * z + kept : grad_h * z, n);
        }
    }
    UNROLLED_INLINE_MEMBER void finish_initial(vec flow, int64_t b, int64_t u, int64_t n) const {
        float* out = args.grad.h0 + b * steps.H + u;
        store(out, steps.length(b) == 0 ? vec{} : flow + load(out, n), n);
    }
    void finish_bias(const float* sums) const {
        const int64_t H = steps.H;
        if (args.grad.bias_ih) {
            deliver(args.grad, sums, args.grad.bias_ih + N * H, H);
            deliver(args.grad, sums + H, args.grad.bias_ih, N * H);
        }
        if (!args.grad_bias_hh) return;
        if (args.weight_ih) deliver(args.grad, sums + H, args.grad_bias_hh, N * H);
        else if (!args.grad.continued) zero(args.grad_bias_hh, N * H);
        deliver(args.grad, sums + 3 * H, args.grad_bias_hh + N * H, H);
    }
};

}  // namespace

void gru_forward(const Steps& steps, const GruForward& args, int threads) {
    if (args.zoneout_h) run_forward(GruForwardCell<true>{steps, args}, threads);
    else run_forward(GruForwardCell<false>{steps, args}, threads);
}
void gru_backward(const Steps& steps, const GruBackward& args, int threads) {
    if (args.zoneout_h) run_backward(GruBackwardCell<true>{steps, args}, threads);
    else run_backward(GruBackwardCell<false>{steps, args}, threads);
}

}  // namespace unrolled::UNROLLED_ISA
