// Long short-term memory: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000.
#include "backward.h"
#include "forward.h"

namespace unrolled::UNROLLED_ISA {
namespace {

enum { I, F, G, O };

struct LstmForwardCell {
    static constexpr int gates = 4, kept_runs = 4;
    const Steps& steps;
    const LstmForward& args;

    float* kept() const { return args.gates; }

    UNROLLED_INLINE_MEMBER vec start(int gate, const float* in, int64_t u, int64_t n) const {
        return load(in + gate * steps.H + u, n);
    }
    UNROLLED_INLINE_MEMBER void finish(const vec* sums, const float*, const float*, int64_t t, int64_t b, int64_t u,
                                       int64_t n) const {
        const int64_t H = steps.H, at = (t * steps.B + b) * H + u;
        float* c_now = args.keep_steps ? args.c + at : args.c + b * H + u;
        const float* c_before = steps.first(t, b) ? args.c0 + b * H + u
                                : args.keep_steps ? args.c + (steps.before(t) * steps.B + b) * H + u
                                                  : c_now;
        const vec i = sigmoid(sums[I]), f = sigmoid(sums[F]), g = tanh(sums[G]), o = sigmoid(sums[O]);
        const vec kept = steps.reset(t, b) ? vec{} : f * load(c_before, n);
        const vec c = fma(i, g, kept);
        store(c_now, c, n);
        store(args.h + at, o * tanh(c), n);
        if (args.gates) {
            float* out = args.gates + (t * steps.B + b) * 4 * H + u;
            store(out + I * H, i, n);
            store(out + F * H, f, n);
            store(out + G * H, g, n);
            store(out + O * H, o, n);
        }
    }
    void clear(int64_t t, int64_t b) const {
        const int64_t H = steps.H, row = t * steps.B + b;
        zero(args.h + row * H, H);
        if (args.keep_steps) zero(args.c + row * H, H);
        else if (steps.length(b) == 0) copy(args.c0 + b * H, args.c + b * H, H);
        if (args.gates) zero(args.gates + row * 4 * H, 4 * H);
    }
};

struct LstmBackwardCell {
    static constexpr int gates = 4, grad_runs = 4, rotation = 0, recurrent_run = 0;
    const Steps& steps;
    const LstmBackward& args;

    // `flow` is the gradient at h[t] that comes from later steps. grad_c0 carries the gradient at c from
    // step to step.
    UNROLLED_INLINE_MEMBER void finish(vec flow, float* out, int64_t t, int64_t b, int64_t u, int64_t n) const {
        const int64_t H = steps.H, row = t * steps.B + b;
        const float* gate = args.gates + row * 4 * H + u;
        const vec i = load(gate + I * H, n), f = load(gate + F * H, n);
        const vec g = load(gate + G * H, n), o = load(gate + O * H, n);
        const vec squashed = tanh(load(args.c + row * H + u, n));
        const bool reset = steps.reset(t, b);
        const vec c_before = reset               ? vec{}
                             : steps.first(t, b) ? load(args.c0 + b * H + u, n)
                                                 : load(args.c + (steps.before(t) * steps.B + b) * H + u, n);
        float* carried = args.grad_c0 + b * H + u;
        vec grad_c = steps.last(t, b) ? vec{} : load(carried, n);
        if (args.grad_c) grad_c += load(args.grad_c + row * H + u, n);
        const vec grad_h = flow + load(args.grad_h + row * H + u, n);
        grad_c += grad_h * o * (1.0f - squashed * squashed);

        store(out + I * H, grad_c * g * i * (1.0f - i), n);
        store(out + F * H, grad_c * c_before * f * (1.0f - f), n);
        store(out + G * H, grad_c * i * (1.0f - g * g), n);
        store(out + O * H, grad_h * squashed * o * (1.0f - o), n);
        store(carried, reset ? vec{} : grad_c * f, n);
    }
    UNROLLED_INLINE_MEMBER void finish_initial(vec flow, int64_t b, int64_t u, int64_t n) const {
        store(args.grad.h0 + b * steps.H + u, flow, n);
        if (steps.length(b) == 0) store(args.grad_c0 + b * steps.H + u, vec{}, n);
    }
    void finish_bias(const float* sums) const {
        if (args.grad.bias) copy(sums, args.grad.bias, 4 * steps.H);
    }
};

}  // namespace

void lstm_forward(const Steps& steps, const LstmForward& args, int threads) {
    run_forward(LstmForwardCell{steps, args}, threads);
}
void lstm_backward(const Steps& steps, const LstmBackward& args, int threads) {
    run_backward(LstmBackwardCell{steps, args}, threads);
}

}  // namespace unrolled::UNROLLED_ISA
