#include "normal.h"

#include <cmath>

namespace unrolled::UNROLLED_ISA {
namespace {

constexpr float epsilon = 1e-5f;

// The sum of what values(i, n) says of the numbers i, i + 1, ... of a row, of which n are left.
template <class Values>
UNROLLED_INLINE float sum(int64_t count, Values values) {
    constexpr int width = 16, parts = width / lanes;
    vec sums[parts] = {};
    int64_t i = 0;
    for (; i + width <= count; i += width)
        for (int p = 0; p < parts; ++p) sums[p] += values(i + p * lanes, lanes);
    for (int p = 0; p < parts && i < count; ++p, i += lanes) sums[p] += first(values(i, count - i), count - i);
    float all[width];
    __builtin_memcpy(all, sums, sizeof all);
    for (int half = width / 2; half; half /= 2)
        for (int j = 0; j < half; ++j) all[j] += all[j + half];
    return all[0];
}

template <bool coupled>
UNROLLED_INLINE float step(const LstmVariant& variant, int64_t H, int64_t at, const float* share, float* product,
                           const float* h_before, const float* c_before, float* c, float* h, float* gates) {
    constexpr int G = coupled ? 3 : 4;
    const LayerNorm& norm = variant.norm;
    const float scale = normalise(product, G * H);
    float* o = gates ? gates + 3 * H : product + (G - 1) * H;
    for (int64_t u = 0; u < H; u += lanes) {
        const int64_t n = H - u;
        vec sums[G];
        for (int g = 0; g < G; ++g) {
            const int64_t i = g * H + u;
            sums[g] = fma(load(norm.gain_hh + i, n), load(product + i, n), load(share + i, n));
        }
        const LstmValues now = lstm_gates<coupled, true>(sums, c_before ? load(c_before + u, n) : vec{},
                                                         modification(variant, at, H, u, n));
        store(c + u, now.c, n);
        store(h + u, now.fresh, n);
        store(o + u, now.o, n);
        if (!gates) continue;
        store(gates + u, now.i, n);
        store(gates + H + u, now.f, n);
        store(gates + 2 * H + u, now.g, n);
    }
    normalise(h, H);
    for (int64_t u = 0; u < H; u += lanes) {
        const int64_t n = H - u;
        const vec now = load(o + u, n) * tanh(fma(load(norm.gain_c + u, n), load(h + u, n), load(norm.bias_c + u, n)));
        const vec zoneout = modification(variant, at, H, u, n).zoneout_h;
        store(h + u, h_before ? zoned_out(zoneout, load(h_before + u, n), now) : now, n);
    }
    return scale;
}

}  // namespace

float normalise(float* values, int64_t n) {
    const auto value = [&](int64_t i, int64_t left) { return load(values + i, left); };
    const float mean = sum(n, value) / static_cast<float>(n);
    const float variance = sum(n, [&](int64_t i, int64_t left) {
        const vec from_mean = value(i, left) - mean;
        return from_mean * from_mean;
    }) / static_cast<float>(n);
    const float scale = 1.0f / std::sqrt(variance + epsilon);
    for (int64_t i = 0; i < n; i += lanes) store(values + i, (value(i, n - i) - mean) * scale, n - i);
    return scale;
}

void normalise_back(const float* grad, const float* gain, const float* normal, float scale, int64_t n, float* out) {
    const auto at_normal = [&](int64_t i, int64_t left) { return load(grad + i, left) * load(gain + i, left); };
    const float mean = sum(n, at_normal) / static_cast<float>(n);
    const float slope = sum(n, [&](int64_t i, int64_t left) { return at_normal(i, left) * load(normal + i, left); }) /
                        static_cast<float>(n);
    for (int64_t i = 0; i < n; i += lanes)
        store(out + i, scale * (at_normal(i, n - i) - mean - slope * load(normal + i, n - i)), n - i);
}

void add_gain(const float* normal, const float* gain, const float* bias, int64_t n, float* share) {
    for (int64_t i = 0; i < n; i += lanes) {
        const int64_t left = n - i;
        store(share + i, fma(load(gain + i, left), load(normal + i, left), bias ? load(bias + i, left) : vec{}), left);
    }
}

float normalised_step(const LstmVariant& variant, int64_t H, int64_t at, const float* share, float* product,
                      const float* h_before, const float* c_before, float* c, float* h, float* gates) {
    if (variant.coupled) return step<true>(variant, H, at, share, product, h_before, c_before, c, h, gates);
    return step<false>(variant, H, at, share, product, h_before, c_before, c, h, gates);
}

}  // namespace unrolled::UNROLLED_ISA
