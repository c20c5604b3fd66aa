// Networks for inference: weights packed once, then stepped or run, the state in and out.
#pragma once

#include <atomic>
#include <cstdlib>
#include <memory>
#include <vector>

#include "pace.h"
#include "unrolled.h"

namespace unrolled {

struct Free {
    void operator()(float* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<float[], Free>;

// y = x times the transpose of a weight, plus a bias.
class Linear {
  public:
    // weight [N, K]; bias [N] or null.
    Linear(const float* weight, const float* bias, int64_t N, int64_t K, Weights weights);
    // x [M, K] -> y [M, N]
    void run(const float* x, float* y, int64_t M) const;

    const int64_t N, K;
    const Weights weights;

  private:
    const Kernels* kernels_;
    Buffer packed_;
};

class Stack {
  public:
    // Inputs are rows of D numbers, or, if V is not 0, symbols that stand for the rows of an embedding [V, D].
    // Where proj_size is not 0, layers project h to so many units.
    Stack(Cell cell, int64_t D, int64_t H, int64_t proj_size, Weights weights, const float* embedding, int64_t V);
    Stack(const Stack&) = delete;
    Stack& operator=(const Stack&) = delete;

    // One more layer, with D (after the first layer P) inputs.
    void add_layer(Layer layer);

    // x [T, B, D] -> y [T, B, P]; h and c hold the state and are brought up to date (c: LSTM only).
    void run(const float* x, float* y, const StateRows& h, const StateRows& c, int64_t T, int64_t B) const;
    // The same for symbols [T, B] from 0 to V-1.
    void run(const int64_t* symbols, float* y, const StateRows& h, const StateRows& c, int64_t T, int64_t B) const;

    int64_t layers() const { return static_cast<int64_t>(first_.layers.size()); }
    // Threads that a run asks for, at most.
    int threads(int64_t T, int64_t B) const;
    // Bytes of weights that a step reads.
    size_t bytes() const { return bytes_; }

    const Cell cell;
    const int64_t D, H, P, V;  // P: width of h; V = 0: inputs are numbers
    const bool projects_state;
    const Weights weights;

  private:
    // Layers, and the memory that their weights lie in.
    struct Copy {
        std::vector<PackedLayer> layers;
        std::vector<Buffer> buffers;
        void add(PackedLayer layer, Buffer buffer);
    };

    Buffer packed(const Layer& layer) const;
    void project(const Layer& layer, int64_t width);
    void run(const Rows& x, float* y, const StateRows& h, const StateRows& c, int64_t T, int64_t B) const;
    bool has_twin() const { return twin_.layers.size() == first_.layers.size(); }
    double work(int64_t T, int64_t B) const;

    const Kernels* kernels_;
    mutable Pace pace_, pace_in_turn_;  // of steps that have one copy to read, and of those that have two
    int64_t width_;
    Buffer of_symbols_;  // [V, width_], what each stands for: its row of the embedding, or that row's projection
    bool projected_ = false;
    Copy first_, twin_;  // the twin has as many layers, or is not used
    mutable std::atomic<uint32_t> turn_{0};  // of the two
    size_t bytes_ = 0;
};

}  // namespace unrolled
