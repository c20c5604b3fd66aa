// The engine's whole interface: raw pointers, no Python, no torch.
//
// Shapes: T steps, B batch rows, D input features, H hidden units, G gates a cell (LSTM 4, GRU 3, RNN 1).
// Every array is float32, C-contiguous and time-major; [T, B, H] means the last index moves fastest.
// Gates stand in PyTorch's order: LSTM i, f, g, o; GRU r, z, n.
#pragma once

#include <cstddef>
#include <cstdint>

namespace unrolled {

// Which steps of which rows are taken, and in which order.
//
// A row is stepped at t < lengths[b]; elsewhere the outputs are zero. With `reverse` the steps run from the
// row's last one down to 0. Where resets[t, b] is set the row's state is zero before it consumes step t.
struct Steps {
    int64_t T, B, H;
    const int64_t* lengths;  // [B], or null: every row has T steps
    const uint8_t* resets;   // [T, B], or null: no resets
    bool reverse;

    int64_t length(int64_t b) const { return lengths ? lengths[b] : T; }
    bool reset(int64_t t, int64_t b) const { return resets && resets[t * B + b]; }
    bool first(int64_t t, int64_t b) const { return reverse ? t == length(b) - 1 : t == 0; }
    bool last(int64_t t, int64_t b) const { return reverse ? t == 0 : t == length(b) - 1; }
    int64_t before(int64_t t) const { return reverse ? t + 1 : t - 1; }  // the step consumed before t
    int64_t after(int64_t t) const { return reverse ? t - 1 : t + 1; }
};

// Weights arrive either as they are (`weight_hh`, packed for the one call) or packed beforehand (`packed`).
struct LstmForward {
    const float* x_gates;    // [T, B, 4H]
    const float* weight_hh;  // [4H, H]
    const float* packed;     // from Kernels::pack_recurrent, or null
    const float *h0, *c0;    // [B, H]
    float* h;                // [T, B, H]
    float* c;                // [T, B, H]; [B, H] when keep_steps is false (updated in place, may be c0)
    float* gates;            // [T, B, 4H] after activation; null when not kept
    bool keep_steps;         // false: inference, only the newest c is kept
};

struct LstmBackward {
    const float* grad_h;     // [T, B, H]
    const float* grad_c;     // [T, B, H], or null: zero
    const float* weight_hh;  // [4H, H]
    const float* c0;         // [B, H]
    const float* c;          // [T, B, H]
    const float* gates;      // [T, B, 4H]
    float* grad_x_gates;     // [T, B, 4H]
    float *grad_h0, *grad_c0;  // [B, H]
};

struct GruForward {
    const float* x_gates;    // [T, B, 3H], b_hr and b_hz added, b_hn not
    const float* weight_hh;  // [3H, H]
    const float* packed;
    const float* bias_hn;    // [H]
    const float* h0;         // [B, H]
    float* h;                // [T, B, H]
    float* gates;            // [T, B, 4H]: r, z, n and W_hn h + b_hn; null when not kept
};

struct GruBackward {
    const float* grad_h;     // [T, B, H]
    const float* weight_hh;  // [3H, H]
    const float* h0;         // [B, H]
    const float* h;          // [T, B, H]
    const float* gates;      // [T, B, 4H]
    float* grad_x_gates;     // [T, B, 3H]
    float* grad_h_gates;     // [T, B, 3H], at the products W_h h + b_h
    float* grad_h0;          // [B, H]
};

struct RnnForward {
    const float* x_gates;    // [T, B, H]
    const float* weight_hh;  // [H, H]
    const float* packed;
    const float* h0;         // [B, H]
    float* h;                // [T, B, H]
    bool relu;               // false: tanh
};

struct RnnBackward {
    const float* grad_h;     // [T, B, H]
    const float* weight_hh;  // [H, H]
    const float* h;          // [T, B, H]
    float* grad_x_gates;     // [T, B, H]
    float* grad_h0;          // [B, H]
    bool relu;
};

// One instruction set's kernels. Each sums over its inner index in ascending order, one chain of
// multiply-adds an output, so a row's result does not depend on its batch, its tile or the thread count.
struct Kernels {
    const char* isa;
    void (*lstm_forward)(const Steps&, const LstmForward&, int threads);
    void (*lstm_backward)(const Steps&, const LstmBackward&, int threads);
    void (*gru_forward)(const Steps&, const GruForward&, int threads);
    void (*gru_backward)(const Steps&, const GruBackward&, int threads);
    void (*rnn_forward)(const Steps&, const RnnForward&, int threads);
    void (*rnn_backward)(const Steps&, const RnnBackward&, int threads);

    // weight_hh [G*H, H] with the G gates of neighbouring units side by side.
    size_t (*packed_recurrent_size)(int64_t G, int64_t H);  // floats
    void (*pack_recurrent)(const float* weight_hh, int64_t G, int64_t H, float* packed);

    // y [M, N] = bias [N] (or 0) + x [M, K] times the transpose of weight [N, K].
    size_t (*packed_linear_size)(int64_t N, int64_t K);  // floats
    void (*pack_linear)(const float* weight, int64_t N, int64_t K, float* packed);
    void (*linear)(const float* x, const float* packed, const float* bias, float* y, int64_t M, int64_t N,
                   int64_t K, int threads);

    // Elementwise; n values. Results below 2^-126 are flushed to zero.
    void (*exp)(const float* x, float* y, int64_t n);
    void (*tanh)(const float* x, float* y, int64_t n);
    void (*sigmoid)(const float* x, float* y, int64_t n);
};

// The kernels in use: the best this machine has, or the one that use_isa() named.
const Kernels& kernels();
// Every instruction set this machine can run, best first, ended by null.
const Kernels* const* available_kernels();
// False when this machine does not have it.
bool use_isa(const char* isa);

// Threads for a call of so many multiply-adds: OpenMP's (and so torch's) setting, 1 for small work and
// in a forked child, where the parent's workers do not exist.
int threads_for(double multiply_adds);

// A cache-line aligned buffer of the calling thread, kept from call to call so that training does not
// give memory back and fetch it anew at each step; valid until this thread asks again.
float* scratch(size_t floats);

// Tells the C library to keep freed memory for the next allocation instead of giving it back to the system,
// which otherwise clears every page anew at each training step. For a program that trains; process-wide.
void keep_freed_memory();

}  // namespace unrolled
