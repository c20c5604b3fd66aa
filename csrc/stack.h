// A stack of recurrent layers for inference: weights packed once, then stepped or run, the state in and out.
#pragma once

#include <vector>

#include "unrolled.h"

namespace unrolled {

enum class Cell { rnn_tanh, rnn_relu, lstm, gru };

constexpr int64_t gates_of(Cell cell) { return cell == Cell::lstm ? 4 : cell == Cell::gru ? 3 : 1; }

// y = x times the transpose of a weight, plus a bias.
class Linear {
  public:
    // weight [N, K]; bias [N] or null.
    Linear(const float* weight, const float* bias, int64_t N, int64_t K);
    // x [M, K] -> y [M, N]
    void run(const float* x, float* y, int64_t M) const;

    int64_t N, K;

  private:
    const Kernels* kernels_;
    std::vector<float> packed_, bias_;
};

class Stack {
  public:
    Stack(Cell cell, int64_t D, int64_t H) : cell(cell), D(D), H(H), kernels_(&kernels()) {}

    // One more layer: weight_ih [G*H, D or H], weight_hh [G*H, H], biases [G*H] or null.
    void add_layer(const float* weight_ih, const float* weight_hh, const float* bias_ih, const float* bias_hh);

    // x [T, B, D] -> y [T, B, H]; h and c [L, B, H] hold the state and are brought up to date (c: LSTM only).
    void run(const float* x, float* y, float* h, float* c, int64_t T, int64_t B) const;

    int64_t layers() const { return static_cast<int64_t>(layers_.size()); }
    const Cell cell;
    const int64_t D, H;

  private:
    struct Layer {
        Linear input;
        std::vector<float> recurrent, bias_hn;
    };
    void run_layer(const Layer& layer, const float* gates, float* y, float* h, float* c, int64_t T,
                   int64_t B) const;

    const Kernels* kernels_;
    std::vector<Layer> layers_;
};

}  // namespace unrolled
