// The engine's whole interface: raw pointers, no Python, no torch.
//
// Shapes: T steps, B batch rows, D input features, H hidden units, P width of the state h (H, but where an LSTM
// projects it), G gates a cell (LSTM 4, GRU 3, RNN 1).
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
    int64_t T, B, H, P;
    const int64_t* lengths;  // [B], or null: every row has T steps
    const uint8_t* resets;   // [T, B], or null: no resets
    bool reverse;
    const int64_t* symbols;  // [T, B]: the rows of x that the steps read, of V; or null: each has its own, V is T * B
    int64_t V;
    bool bfloat16;  // the factors of products are rounded to it and summed in float32; only with Kernels::multiplies_bfloat16

    int64_t length(int64_t b) const { return lengths ? lengths[b] : T; }
    bool reset(int64_t t, int64_t b) const { return resets && resets[t * B + b]; }
    int64_t input(int64_t t, int64_t b) const { return symbols ? symbols[t * B + b] : t * B + b; }  // a row of x
    bool first(int64_t t, int64_t b) const { return reverse ? t == length(b) - 1 : t == 0; }
    bool last(int64_t t, int64_t b) const { return t == last_of(b); }
    int64_t last_of(int64_t b) const { return reverse ? 0 : length(b) - 1; }  // of a row that takes any
    int64_t before(int64_t t) const { return reverse ? t + 1 : t - 1; }  // the step consumed before t
    int64_t after(int64_t t) const { return reverse ? t - 1 : t + 1; }
};

// Factors of units: the same at all steps and rows, or each its own; or null.
struct Factors {
    const float* values;  // [width], or [T, B, width]
    int64_t of_row;       // 0, or the width

    explicit operator bool() const { return values; }
    const float* at(int64_t row) const { return values + row * of_row; }  // row t * B + b
};

// Layer normalisation of an LSTM (see normal.h); null: there is none.
struct LayerNorm {
    const float *gain_ih, *gain_hh;  // [G*H]: of the products with x and with h; gain_ih is null without weight_ih
    const float *gain_c, *bias_c;    // [H]: of c before its tanh

    explicit operator bool() const { return gain_hh; }
};

// How an LSTM departs from the plain one; zeros: it does not.
struct LstmVariant {
    bool coupled;             // the forget gate is 1 - i, and there are three gates: i, g, o
    const float* weight_hr;   // [P, H]: the projection of h, or null: P is H
    const float* peephole;    // [3, H]: how i, f, o see the cell state ([2, H], i and o, where coupled); or null
    Factors dropout;          // of the candidate g
    Factors zoneout_h, zoneout_c;  // the part of h (P wide) and c that stays as it was
    LayerNorm norm;

    bool modified() const { return weight_hr || peephole || dropout || zoneout_h || zoneout_c; }
    int64_t gates() const { return coupled ? 3 : 4; }
    // K, the numbers kept of a step of a row: i, f, g, o after activation [4H]. With a norm they are followed by the
    // product with h as it was normalised [G*H], 1 over its standard deviation, and, where there is a gain_ih, the
    // same two of the product with x.
    int64_t kept(int64_t H) const { return 4 * H + (norm ? (gates() * H + 1) * (norm.gain_ih ? 2 : 1) : 0); }
};

// Forward: the gates' sums begin at bias_ih + bias_hh + x times the transpose of weight_ih, or, without weight_ih, at x
// itself, which then is [T, B, G*H] and has all biases in it but a GRU's b_hn. With symbols x is [V, D], or [V, G*H], here and below.
// G is 3 in a coupled LSTM.
struct LstmForward {
    const float* x;          // [T, B, D]
    const float* weight_hh;  // [G*H, P]
    const float *h0, *c0;    // [B, P], [B, H], or null: zero
    float* h;                // [T, B, P]
    float* c;                // [T / every, B, H], rounded up: the newest of every so many steps, updated in place
    float* gates;            // [T, B, K]; null when not kept
    float *h_n, *c_n;        // [B, P], [B, H]: after each row's last step; or null, as c_n is where gates are not kept
    int64_t every;           // 1 where gates are kept
    const float* weight_ih;  // [G*H, D]
    const float *bias_ih, *bias_hh;  // [G*H], or null: zero
    int64_t D;
    LstmVariant variant;
};

struct GruForward {
    const float* x;          // [T, B, D]
    const float* weight_hh;  // [3H, H]
    const float* h0;         // [B, H], or null: zero
    float* h;                // [T, B, H]
    float* gates;            // [T, B, 4H]: r, z, n and W_hn h + b_hn; null when not kept
    float* h_n;              // [B, H], or null
    const float* weight_ih;  // [3H, D]
    const float *bias_ih, *bias_hh;  // [3H], or null: zero; b_hn, the last of bias_hh, stays with the product that r multiplies
    int64_t D;
    Factors zoneout_h;       // the part of h that stays as it was
};

struct RnnForward {
    const float* x;          // [T, B, D]
    const float* weight_hh;  // [H, H]
    const float* h0;         // [B, H], or null: zero
    float* h;                // [T, B, H]
    float* h_n;              // [B, H], or null
    bool relu;               // false: tanh
    const float* weight_ih;  // [H, D]
    const float *bias_ih, *bias_hh;  // [H], or null: zero
    int64_t D;
};

// Backward. Without weight_ih, `x` is the gradient at the gates' sums, [T, B, G*H], and D is G*H. Null is what
// nobody wants.
struct Gradients {
    float* x;          // [T, B, D]
    float* weight_ih;  // [G*H, D]
    float* weight_hh;  // [G*H, P]
    float* bias_ih;    // [G*H]; that of bias_hh too, but for a GRU's
    float* h0;         // [B, P]; wanted together with an LSTM's c0
    // Whether they hold what later steps gave: that of h0, and of c0, is the gradient at the state after the last step, from
    // where the way back goes on, and to all others but x's this call's are added. Not of an RNN, whose way back is one call.
    bool continued;
};

struct LstmBackward {
    const float *grad_h, *grad_c;      // [T, B, P], [T, B, H], or null: zero
    const float *grad_h_n, *grad_c_n;  // [B, P], [B, H], likewise: of the states after each row's last step
    const float* x;          // [T, B, D]; not read without weight_ih
    const float* weight_ih;  // [G*H, D], or null
    const float* weight_hh;  // [G*H, P]
    const float *h0, *c0;    // [B, P], [B, H], or null: zero
    const float *h, *c;      // [T, B, P], [T, B, H]
    const float* gates;      // [T, B, K]
    int64_t D;
    LstmVariant variant;
    Gradients grad;
    float* grad_c0;          // [B, H]
    float* grad_weight_hr;   // as weight_hr
    float* grad_peephole;    // as the peephole
    float *grad_gain_ih, *grad_gain_hh, *grad_gain_c, *grad_bias_c;  // as those of the norm
};

struct GruBackward {
    const float* grad_h;     // [T, B, H], or null: zero
    const float* grad_h_n;   // [B, H], likewise: of the state after each row's last step
    const float* x;          // [T, B, D]
    const float* weight_ih;  // [3H, D], or null
    const float* weight_hh;  // [3H, H]
    const float* h0;         // [B, H], or null: zero
    const float* h;          // [T, B, H]
    const float* gates;      // [T, B, 4H]
    int64_t D;
    Factors zoneout_h;
    Gradients grad;
    float* grad_bias_hh;     // [3H]; without weight_ih, zero but for b_hn's
};

struct RnnBackward {
    const float* grad_h;     // [T, B, H], or null: zero
    const float* grad_h_n;   // [B, H], likewise: of the state after each row's last step
    const float* x;          // [T, B, D]
    const float* weight_ih;  // [H, D], or null
    const float* weight_hh;  // [H, H]
    const float* h0;         // [B, H], or null: zero
    const float* h;          // [T, B, H]
    int64_t D;
    Gradients grad;
    bool relu;
};

enum class Cell { rnn_tanh, rnn_relu, lstm, lstm_coupled, gru };

constexpr bool is_lstm(Cell cell) { return cell == Cell::lstm || cell == Cell::lstm_coupled; }
constexpr int gates_of(Cell cell) {
    return cell == Cell::lstm ? 4 : cell == Cell::lstm_coupled || cell == Cell::gru ? 3 : 1;
}

// The format of packed weights. bfloat16: rounded to nearest, products and sums in float32. int8: whole numbers
// with a scale for each output, inputs rounded to 16 bits with a scale for each row, sums in int32.
enum class Weights { float32, bfloat16, int8 };

// One recurrent layer's parameters as they come. The last five are null where the layer has none of it.
struct Layer {
    int64_t D, H, P;
    const float* weight_ih;  // [G*H, D]
    const float* weight_hh;  // [G*H, P]
    const float* bias_ih;    // [G*H], or null
    const float* bias_hh;    // [G*H], or null; a GRU's for n stays with its recurrent product, which r multiplies
    const float* peephole;   // as in LstmVariant
    const float *zoneout_h, *zoneout_c;  // [P], [H]
    const float* weight_hr;              // [P, H]
    LayerNorm norm;

    // Whether its panels hold what a variant adds; with a norm that stands behind them.
    bool modified() const { return !norm && (peephole || zoneout_h || zoneout_c || weight_hr); }
};

struct PackedLayer {
    int64_t D;
    bool modified, normalised;
    const float* panels;
};

struct PackedStack {
    Cell cell;
    Weights weights;
    int64_t H, P, layer_count;
    bool projects_state;
    const PackedLayer* layers;
    bool projected;  // the inputs are what `project` made of them, and the first layer has D = 0
};

// Rows of floats: one after another, or those that `chosen` names.
struct Rows {
    const float* first;
    int64_t width;
    const int64_t* chosen;  // or null

    const float* operator[](int64_t i) const { return first + (chosen ? chosen[i] : i) * width; }
    Rows from(int64_t i) const {
        return chosen ? Rows{first, width, chosen + i} : Rows{first + i * width, width, nullptr};
    }
};

// A state, [L, B, P] or [L, B, H], wherever it lies; only the units of a row are next to each other.
struct StateRows {
    float* first;
    int64_t of_layer, of_row;  // how many floats on the next one begins

    float* at(int64_t l, int64_t b) const { return first + l * of_layer + b * of_row; }
    Rows layer(int64_t l) const { return {at(l, 0), of_row, nullptr}; }
};

struct StackRun {
    int64_t T, B;
    Rows x;          // [T, B, D]
    float* y;        // [T, B, P]
    StateRows h;     // the state before and then after
    StateRows c;     // LSTM only
    bool by_two;     // a row may take no more than two panels together
};

// One instruction set's kernels. Forward, each sums over its inner index in ascending order, one chain of
// multiply-adds an output, so a row's result does not depend on its batch, its tile or the thread count. On the way back
// it does not depend on the thread count.
struct Kernels {
    const char* isa;
    bool multiplies_bfloat16;  // whether sequences may have products of it; Weights::bfloat16 needs no such instruction
    void (*lstm_forward)(const Steps&, const LstmForward&, int threads);
    void (*lstm_backward)(const Steps&, const LstmBackward&, int threads);
    void (*gru_forward)(const Steps&, const GruForward&, int threads);
    void (*gru_backward)(const Steps&, const GruBackward&, int threads);
    void (*rnn_forward)(const Steps&, const RnnForward&, int threads);
    void (*rnn_backward)(const Steps&, const RnnBackward&, int threads);

    // Inference; sizes are in floats.
    size_t (*packed_layer_size)(Cell, Weights, const Layer&);
    void (*pack_layer)(Cell, Weights, const Layer&, float* panels);
    // A layer's sums over its inputs alone, biases included, where a step begins: x [B, D] -> [B, projection_size].
    size_t (*projection_size)(Cell, int64_t H);
    void (*project)(Cell, Weights, const PackedLayer&, int64_t H, int64_t P, const float* x, int64_t B, float* projections);
    void (*run_stack)(const PackedStack&, const StackRun&, int threads);

    // y [M, N] = bias [N] (or 0) + x [M, K] times the transpose of weight [N, K].
    size_t (*packed_dense_size)(Weights, int64_t N, int64_t K);
    void (*pack_dense)(Weights, const float* weight, const float* bias, int64_t N, int64_t K, float* packed);
    void (*dense)(Weights, const float* x, const float* packed, float* y, int64_t M, int64_t N, int64_t K,
                   int threads);

    // Elementwise; n values. Results below 2^-126 are flushed to zero.
    void (*exp)(const float* x, float* y, int64_t n);
    void (*tanh)(const float* x, float* y, int64_t n);
    void (*sigmoid)(const float* x, float* y, int64_t n);
};

// Whether NEON's kernels come with dot products of bytes too. Not all processors have these; GCC takes the instruction where it
// is written, Clang only where all code may use it, as on Apple's processors.
#if defined(__aarch64__) && (defined(__ARM_FEATURE_DOTPROD) || !defined(__clang__))
#define UNROLLED_NEON_DOTS
#endif

// The kernels in use: the best this machine has, or the one that use_isa() named.
const Kernels& kernels();
// Every instruction set this machine can run, best first, ended by null.
const Kernels* const* available_kernels();
// False when this machine does not have it.
bool use_isa(const char* isa);

// Threads for a call of so many multiply-adds: OpenMP's (and so torch's) setting; 1 where two would have less than
// `worth_a_thread` each, and in a forked child, where the parent's workers do not exist.
int threads_for(double multiply_adds, double worth_a_thread = 1e5);  // about 2 microseconds, what waking one costs

// A cache-line aligned buffer of the calling thread, kept from call to call so that training does not
// give memory back and fetch it anew at each step; valid until this thread asks again.
float* scratch(size_t floats);

// Tells the C library to keep freed memory for the next allocation instead of giving it back to the system,
// which otherwise clears every page anew at each training step. For a program that trains; process-wide.
void keep_freed_memory();

}  // namespace unrolled
