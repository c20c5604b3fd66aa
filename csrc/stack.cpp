#include "stack.h"

#include <algorithm>

#include "allocate.h"

namespace unrolled {

namespace {

Buffer buffer_of(size_t floats) { return Buffer(allocate(floats * sizeof(float))); }

// So many multiply-adds of a small batch, as many as would take as long in float32: reading a weight is what it spends its time
// on, and a narrow one is read faster.
double in_float32(double multiply_adds, Weights weights) {
    return multiply_adds / (weights == Weights::float32 ? 1 : weights == Weights::bfloat16 ? 2 : 4);
}

// From how many of them on a thread may be worth it, and up to how many in all that is to be tried. Helpers (crew.h) are sooner
// there than OpenMP's threads.
constexpr double worth_a_helper = 3e4, worth_trying = 2e5;

// A Zen 5 reads from its second cache at 64 bytes a cycle where it goes through some 400 to 800 KB, in one or two streams, and at 48
// where it goes through less, again and again. So of weights of so many bytes there are two copies, which a step may read in turn,
// two panels at a time, where that turns out to be faster (pace.h).
constexpr size_t least_copied = size_t{160} << 10, most_copied = size_t{768} << 10;

// Symbols whose projections take more memory than this are multiplied at each step instead. A row is read faster than it
// is made, however many there are; what grows is the memory, and the time in which a model is loaded.
constexpr size_t most_projection_bytes = size_t{32} << 20;

}  // namespace

Linear::Linear(const float* weight, const float* bias, int64_t N, int64_t K, Weights weights)
    : N(N), K(K), weights(weights), kernels_(&kernels()), packed_(buffer_of(kernels_->packed_dense_size(weights, N, K))) {
    kernels_->pack_dense(weights, weight, bias, N, K, packed_.get());
}

void Linear::run(const float* x, float* y, int64_t M) const {
    const int threads = threads_for(in_float32(static_cast<double>(M) * N * K, weights), worth_a_helper);
    kernels_->dense(weights, x, packed_.get(), y, M, N, K, threads);
}

Stack::Stack(Cell cell, int64_t D, int64_t H, int64_t proj_size, Weights weights, const float* embedding, int64_t V)
    : cell(cell), D(D), H(H), P(proj_size ? proj_size : H), V(V), projects_state(proj_size), weights(weights),
      kernels_(&kernels()), width_(D), of_symbols_(V ? buffer_of(V * D) : nullptr) {
    std::copy_n(embedding, V * D, of_symbols_.get());
}

void Stack::add_layer(Layer layer) {
    const int64_t width = kernels_->projection_size(cell, H);
    if (V && layers() == 0 && V * width * sizeof(float) <= most_projection_bytes) {
        project(layer, width);
        layer.D = 0;
        layer.weight_ih = nullptr;
    }
    Buffer panels = packed(layer);
    const size_t floats = kernels_->packed_layer_size(cell, weights, layer);
    const PackedLayer added{layer.D, layer.modified(), bool{layer.norm}, panels.get()};
    bytes_ += floats * sizeof(float);
    if (bytes_ <= most_copied && has_twin()) {
        Buffer copied = buffer_of(floats);
        std::copy_n(panels.get(), floats, copied.get());
        twin_.add(added, std::move(copied));
    } else {
        twin_ = {};
    }
    first_.add(added, std::move(panels));
}

void Stack::Copy::add(PackedLayer layer, Buffer buffer) {
    layer.panels = buffer.get();
    layers.push_back(layer);
    buffers.push_back(std::move(buffer));
}

Buffer Stack::packed(const Layer& layer) const {
    Buffer panels = buffer_of(kernels_->packed_layer_size(cell, weights, layer));
    kernels_->pack_layer(cell, weights, layer, panels.get());
    return panels;
}

// What symbols stand for becomes the projections of their rows.
void Stack::project(const Layer& layer, int64_t width) {
    const Buffer panels = packed(layer);
    Buffer projections = buffer_of(V * width);
    kernels_->project(cell, weights, {layer.D, layer.modified(), bool{layer.norm}, panels.get()}, H, P, of_symbols_.get(), V, projections.get());
    of_symbols_ = std::move(projections);
    width_ = width;
    projected_ = true;
}

double Stack::work(int64_t T, int64_t B) const {
    double weights_read = 0;
    for (const PackedLayer& layer : first_.layers)
        weights_read += static_cast<double>(H * (gates_of(cell) * (layer.D + P) + (projects_state ? P : 0)));
    return in_float32(weights_read * T * B, weights);
}

int Stack::threads(int64_t T, int64_t B) const { return threads_for(work(T, B), worth_a_helper); }

void Stack::run(const float* x, float* y, const StateRows& h, const StateRows& c, int64_t T, int64_t B) const {
    run(Rows{x, D, nullptr}, y, h, c, T, B);
}

void Stack::run(const int64_t* symbols, float* y, const StateRows& h, const StateRows& c, int64_t T, int64_t B) const {
    run(Rows{of_symbols_.get(), width_, symbols}, y, h, c, T, B);
}

void Stack::run(const Rows& x, float* y, const StateRows& h, const StateRows& c, int64_t T, int64_t B) const {
    if (T == 0 || B == 0) return;
    const auto run_by = [&](int threads, const Copy& copy, bool by_two) {
        kernels_->run_stack({cell, weights, H, P, layers(), projects_state, copy.layers.data(), projected_},
                            {T, B, x, y, h, c, by_two}, threads);
    };
    const int most = threads(T, B);
    const bool helped = most > 1, copied = B == 1 && bytes_ >= least_copied && has_twin();
    if (T > 1 || !(helped || copied) || work(T, B) >= worth_trying) return run_by(most, first_, false);
    const int ways_alone = copied ? 2 : 1;  // ways: with helpers, alone; of each, one copy, two in turn
    (copied ? pace_in_turn_ : pace_)(helped ? 2 * ways_alone : ways_alone, [&](int way) {
        const bool in_turn = copied && way % 2;
        const bool alone = !helped || way >= ways_alone;
        const bool twin = in_turn && turn_.fetch_add(1, std::memory_order_relaxed) % 2;
        run_by(alone ? 1 : most, twin ? twin_ : first_, in_turn);
    });
}

}  // namespace unrolled
