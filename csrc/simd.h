// One vector of floats at the width of the instruction set this file is compiled for, and exp, tanh and
// sigmoid on it. Included only by kernel sources, inside whose namespace everything lives: the same inline
// name compiled for two instruction sets must never be merged by the linker.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace unrolled::UNROLLED_ISA {

#if defined(__AVX512F__)
constexpr int lanes = 16, registers = 32;
#elif defined(__AVX2__)
constexpr int lanes = 8, registers = 16;
#else
constexpr int lanes = 4, registers = 16;
#endif

typedef float vec __attribute__((vector_size(lanes * 4)));
typedef int32_t ivec __attribute__((vector_size(lanes * 4)));

#define UNROLLED_INLINE_MEMBER inline __attribute__((always_inline))
#define UNROLLED_INLINE static UNROLLED_INLINE_MEMBER

UNROLLED_INLINE vec splat(float x) { return x - vec{}; }
UNROLLED_INLINE vec select(ivec mask, vec yes, vec no) { return mask ? yes : no; }

UNROLLED_INLINE vec load(const float* p) {
    vec v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
UNROLLED_INLINE void store(float* p, vec v) { __builtin_memcpy(p, &v, sizeof v); }

// The first n lanes (all of them when n >= lanes); the others read as zero and are not written.
UNROLLED_INLINE vec load(const float* p, int64_t n) {
    if (n >= lanes) return load(p);
#if defined(__AVX512F__)
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
    vec v{};
    for (int i = 0; i < n; ++i) v[i] = p[i];
    return v;
#endif
}
UNROLLED_INLINE void store(float* p, vec v, int64_t n) {
    if (n >= lanes) return store(p, v);
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#else
    for (int i = 0; i < n; ++i) p[i] = v[i];
#endif
}

// a * b + c, rounded once where the instruction set can (AVX2 and AVX-512: the same bits on both).
UNROLLED_INLINE vec fma(vec a, vec b, vec c) {
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

// x = n ln 2 + r with |r| <= ln 2 / 2: exp(x) = 2^n (1 + q) with q = exp(r) - 1.
struct Reduced {
    ivec n;
    vec q;
};

UNROLLED_INLINE Reduced reduce(vec x) {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the sum.
    const vec magic = splat(12582912.0f);
    vec shifted = fma(x, splat(1.44269504088896341f), magic);
    vec n = shifted - magic;
    vec r = fma(n, splat(-0.693359375f), x);
    r = fma(n, splat(2.12194440e-4f), r);
    // Cephes expf: minimax for (exp(r) - 1 - r) / r^2.
    vec p = splat(1.9875691500e-4f);
    p = fma(p, r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(5.0000001201e-1f));
    return {(ivec)shifted - (ivec)magic, fma(p, r * r, r)};
}

// 2^n for -126 <= n <= 127.
UNROLLED_INLINE vec power_of_two(ivec n) { return (vec)((n + 127) << 23); }

// Greatest error 1.5 ulp; NaN stays NaN; below 2^-126 zero.
UNROLLED_INLINE vec exp(vec x) {
    x = select(x > 89.0f, splat(89.0f), x);  // a comparison with NaN is false, so NaN passes
    x = select(x < -104.0f, splat(-104.0f), x);
    Reduced e = reduce(x);
    ivec half = e.n >> 1;  // two factors, so that neither leaves the range of exponents
    return (1.0f + e.q) * power_of_two(half) * power_of_two(e.n - half);
}

// Greatest error 2.5 ulp.
UNROLLED_INLINE vec sigmoid(vec x) { return 1.0f / (1.0f + exp(-x)); }

// tanh(x) = m / (m + 2) with m = exp(2|x|) - 1, which keeps small arguments exact. Greatest error 3 ulp.
UNROLLED_INLINE vec tanh(vec x) {
    const ivec sign = (ivec)splat(-0.0f);
    vec twice = (vec)((ivec)x & ~sign) * 2.0f;
    twice = select(twice > 20.0f, splat(20.0f), twice);  // tanh(10) rounds to 1
    Reduced e = reduce(twice);
    vec scale = power_of_two(e.n);
    vec m = fma(scale, e.q, scale - 1.0f);
    vec magnitude = m / (m + 2.0f);
    return (vec)((ivec)magnitude | ((ivec)x & sign));
}

// Denormal numbers cost a hundred cycles each and carry nothing here: flushed in the kernel's threads,
// the caller's setting put back on leaving.
class FlushDenormals {
  public:
    FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(saved_); }
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;

  private:
    unsigned saved_;
};

}  // namespace unrolled::UNROLLED_ISA
