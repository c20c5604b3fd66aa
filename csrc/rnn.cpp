// Standard recurrent network: Elman 1990, h' = tanh(x + W h), or relu in tanh's place.
#include "backward.h"
#include "cells.h"
#include "forward.h"

namespace unrolled::UNROLLED_ISA {
namespace {

struct RnnForwardCell {
    static constexpr int gates = 1, shared_biases = 1;
    static constexpr bool may_project = false, normalised = false;
    const Steps& steps;
    const RnnForward& args;

    float* kept() const { return args.h; }
    int64_t kept_width() const { return steps.H; }

    UNROLLED_INLINE_MEMBER vec start(int, const ForwardRow& row, int64_t u, int64_t n) const {
        return u < steps.H ? load(row.in + u, n) : vec{};
    }
    using Row = ForwardRow;
    Row row(const ForwardRow& common, int64_t, int64_t, const float*) const { return common; }
    template <int count>
    UNROLLED_INLINE_MEMBER void finish(const vec* const (&sums)[count], const Row* rows, int64_t u, int64_t n) const {
        vec h[count];
        for (int r = 0; r < count; ++r) h[r] = sums[r][0];
        rnn_step(h, args.relu);
        for (int r = 0; r < count; ++r) store(rows[r].h + u, h[r], n);
    }
    void clear(int64_t, int64_t) const {}
};

struct RnnBackwardCell {
    static constexpr int gates = 1, grad_runs = 1, rotation = 0, recurrent_run = 0, sums_run = 0;
    static constexpr bool may_project = false, normalised = false;
    const Steps& steps;
    const RnnBackward& args;

    int64_t carried_floats() const { return 0; }
    void carry_in(float*) const {}

    struct Row {
        float* out;
        const float *grad_h, *grad_h_n, *h;  // grad_h_n null: zero
    };
    Row row(int64_t t, int64_t b, float* out, const float* zeros) const {
        const int64_t at = (t * steps.B + b) * steps.H;
        return {out, args.grad_h ? args.grad_h + at : zeros, steps.last(t, b) ? row_of(args.grad_h_n, b, steps.H) : nullptr, args.h + at};
    }
    UNROLLED_INLINE_MEMBER void fetch(const Row& row, int64_t u, int64_t n) const {
        ask(row.h + u, n);
        ask(row.grad_h + u, n);
    }
    template <int count>
    UNROLLED_INLINE_MEMBER void finish(const vec (&flow)[count], const Row& row, int64_t first, int64_t n) const {
        for (int v = 0; v < count; ++v) {
            const int64_t u = first + v * lanes;
            const vec h = load(row.h + u, n);
            vec grad_h = flow[v] + load(row.grad_h + u, n);
            if (row.grad_h_n) grad_h += load(row.grad_h_n + u, n);
            const vec slope = args.relu ? select(h > 0.0f, splat(1.0f), vec{}) : 1.0f - h * h;
            store(row.out + u, grad_h * slope, n);
        }
    }
    UNROLLED_INLINE_MEMBER void finish_initial(vec flow, int64_t b, int64_t u, int64_t n) const {
        store(args.grad.h0 + b * steps.H + u, flow, n);
    }
    void finish_bias(const float* sums) const {
        if (args.grad.bias_ih) copy(sums, args.grad.bias_ih, steps.H);
    }
};

}  // namespace

void rnn_forward(const Steps& steps, const RnnForward& args, int threads) {
    run_forward(RnnForwardCell{steps, args}, threads);
}
void rnn_backward(const Steps& steps, const RnnBackward& args, int threads) {
    run_backward(RnnBackwardCell{steps, args}, threads);
}

}  // namespace unrolled::UNROLLED_ISA
