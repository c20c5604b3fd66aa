#include "stack.h"

#include <algorithm>

namespace unrolled {

Linear::Linear(const float* weight, const float* bias, int64_t N, int64_t K)
    : N(N), K(K), kernels_(&kernels()), packed_(kernels_->packed_linear_size(N, K)) {
    kernels_->pack_linear(weight, N, K, packed_.data());
    if (bias) bias_.assign(bias, bias + N);
}

void Linear::run(const float* x, float* y, int64_t M) const {
    const double work = static_cast<double>(M) * N * K;
    kernels_->linear(x, packed_.data(), bias_.empty() ? nullptr : bias_.data(), y, M, N, K, threads_for(work));
}

void Stack::add_layer(const float* weight_ih, const float* weight_hh, const float* bias_ih,
                      const float* bias_hh) {
    const int64_t G = gates_of(cell), K = layers_.empty() ? D : H;
    std::vector<float> bias(G * H, 0.0f), bias_hn;
    // The GRU's candidate keeps its recurrent bias apart: the reset gate multiplies it.
    const int64_t shared = cell == Cell::gru ? 2 * H : G * H;
    for (int64_t j = 0; j < G * H; ++j)
        bias[j] = (bias_ih ? bias_ih[j] : 0.0f) + (bias_hh && j < shared ? bias_hh[j] : 0.0f);
    if (cell == Cell::gru) {
        bias_hn.assign(H, 0.0f);
        if (bias_hh) std::copy(bias_hh + shared, bias_hh + 3 * H, bias_hn.begin());
    }
    std::vector<float> recurrent(kernels_->packed_recurrent_size(G, H));
    kernels_->pack_recurrent(weight_hh, G, H, recurrent.data());
    layers_.push_back({Linear(weight_ih, bias.data(), G * H, K), std::move(recurrent), std::move(bias_hn)});
}

void Stack::run_layer(const Layer& layer, const float* gates, float* y, float* h, float* c, int64_t T,
                      int64_t B) const {
    const Steps steps{T, B, H, nullptr, nullptr, false};
    const float* packed = layer.recurrent.data();
    const int threads = threads_for(static_cast<double>(T) * B * gates_of(cell) * H * H);
    if (cell == Cell::lstm) {
        kernels_->lstm_forward(steps, {gates, nullptr, packed, h, c, y, c, nullptr, false}, threads);
    } else if (cell == Cell::gru) {
        kernels_->gru_forward(steps, {gates, nullptr, packed, layer.bias_hn.data(), h, y, nullptr}, threads);
    } else {
        kernels_->rnn_forward(steps, {gates, nullptr, packed, h, y, cell == Cell::rnn_relu}, threads);
    }
    std::copy(y + (T - 1) * B * H, y + T * B * H, h);
}

void Stack::run(const float* x, float* y, float* h, float* c, int64_t T, int64_t B) const {
    // Long sequences go in chunks whose gates stay in the cache; cutting changes no bit of the result.
    constexpr int64_t gate_floats = 1 << 18;
    const int64_t G = gates_of(cell);
    const int64_t chunk = std::clamp<int64_t>(gate_floats / std::max<int64_t>(1, B * G * H), 1, std::max<int64_t>(1, T));
    thread_local std::vector<float> gates, hidden;
    gates.resize(std::max(gates.size(), static_cast<size_t>(chunk * B * G * H)));
    hidden.resize(std::max(hidden.size(), static_cast<size_t>(layers() > 1 ? chunk * B * H : 0)));
    for (int64_t t = 0; t < T; t += chunk) {
        const int64_t count = std::min(chunk, T - t);
        const float* input = x + t * B * D;
        for (int64_t l = 0; l < layers(); ++l) {
            float* output = l + 1 == layers() ? y + t * B * H : hidden.data();
            layers_[l].input.run(input, gates.data(), count * B);
            run_layer(layers_[l], gates.data(), output, h + l * B * H, c ? c + l * B * H : nullptr, count, B);
            input = output;
        }
    }
}

}  // namespace unrolled
