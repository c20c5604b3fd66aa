// One vector of floats at the width of the instruction set this file is compiled for, and exp, tanh and
// sigmoid on it. Included only by kernel sources, inside whose namespace everything lives: the same inline
// name compiled for two instruction sets must never be merged by the linker.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(UNROLLED_NEON)
#include <arm_neon.h>
#endif

#include <cstdint>
#include <utility>

namespace unrolled::UNROLLED_ISA {

#if defined(__AVX512F__)
constexpr int lanes = 16, registers = 32;
#elif defined(__AVX2__)
constexpr int lanes = 8, registers = 16;
#elif defined(UNROLLED_NEON)
constexpr int lanes = 4, registers = 32;
#else
constexpr int lanes = 4, registers = 12;  // of 16: what is multiplied stands in some before it is added
#endif

typedef float vec __attribute__((vector_size(lanes * 4)));
typedef int32_t ivec __attribute__((vector_size(lanes * 4)));

#define UNROLLED_INLINE_MEMBER inline __attribute__((always_inline))
#define UNROLLED_INLINE static UNROLLED_INLINE_MEMBER
#define UNROLLED_INLINE_BODY __attribute__((always_inline))  // of a lambda

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

// Calls body(n) for n units that are left, `lanes` of them at most: for a whole vector with a constant, so that nothing in
// it asks again, and else out of the way. There the body is a copy: one whose address is known would have to be written to
// memory each time.
template <class Body>
[[gnu::noinline]] void of_part(int64_t left, Body body) { body(left); }
template <class Body>
UNROLLED_INLINE void of_units(int64_t left, const Body& body) {
    if (left >= lanes) body(int64_t{lanes});
    else of_part(left, body);
}

// Of each pair of lanes j, j + d (j & d is 0): what two vectors have at j (of_past: at j + d), one beside the other.
template <int d, bool of_past, int... j>
UNROLLED_INLINE vec beside(vec a, vec b, std::integer_sequence<int, j...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, (j & d ? lanes - !of_past * d : of_past * d) + j...);
#else
    return __builtin_shuffle(a, b, ivec{(j & d ? lanes - !of_past * d : of_past * d) + j...});
#endif
}

// Rows become columns: in turn the halves, quarters, … off the diagonal change places.
template <int d = lanes / 2>
UNROLLED_INLINE void transpose(vec (&m)[lanes]) {
    constexpr auto all = std::make_integer_sequence<int, lanes>{};
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i)
        if (!(i & d)) {
            const vec a = m[i], b = m[i + d];
            m[i] = beside<d, false>(a, b, all);
            m[i + d] = beside<d, true>(a, b, all);
        }
    if constexpr (d > 1) transpose<d / 2>(m);
}

// The first n lanes; the others become zero.
UNROLLED_INLINE vec first(vec v, int64_t n) {
    if (n >= lanes) return v;
    vec kept{};
    for (int i = 0; i < n; ++i) kept[i] = v[i];
    return kept;
}

// a * b + c, rounded once where the instruction set can (AVX2, AVX-512, NEON: the same bits on each).
UNROLLED_INLINE vec fma(vec a, vec b, vec c) {
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(UNROLLED_NEON)
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

// The smaller and the larger; NaN in x passes, and of two zeros x.
UNROLLED_INLINE vec at_most(vec limit, vec x) {
#if defined(__AVX512F__)
    return (vec)_mm512_min_ps((__m512)limit, (__m512)x);
#elif defined(__AVX2__)
    return (vec)_mm256_min_ps((__m256)limit, (__m256)x);
#else
    return select(limit < x, limit, x);
#endif
}
UNROLLED_INLINE vec at_least(vec limit, vec x) {
#if defined(__AVX512F__)
    return (vec)_mm512_max_ps((__m512)limit, (__m512)x);
#elif defined(__AVX2__)
    return (vec)_mm256_max_ps((__m256)limit, (__m256)x);
#else
    return select(limit > x, limit, x);
#endif
}

// x = n ln 2 + r with |r| <= ln 2 / 2: exp(x) = 2^n (1 + q) with q = exp(r) - 1.
struct Reduced {
    ivec biased;  // n + 127 in the low bits: the exponent of 2^n
    vec q;
};

// Of several vectors side by side: each is one chain of operations that wait for one another, longer than a processor
// looks ahead.
template <int count>
UNROLLED_INLINE void reduce(const vec (&x)[count], Reduced (&e)[count]) {
    vec shifted[count], r[count], p[count];
    const auto each = [](auto body) UNROLLED_INLINE_BODY {
#pragma GCC unroll 16
        for (int i = 0; i < count; ++i) body(i);
    };
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the sum.
    const vec magic = splat(12582912.0f + 127.0f);
    each([&](int i) UNROLLED_INLINE_BODY { shifted[i] = fma(x[i], splat(1.44269504088896341f), magic); });
    each([&](int i) UNROLLED_INLINE_BODY { r[i] = fma(shifted[i] - magic, splat(-0.693359375f), x[i]); });
    each([&](int i) UNROLLED_INLINE_BODY { r[i] = fma(shifted[i] - magic, splat(2.12194440e-4f), r[i]); });
    // Cephes expf: minimax for (exp(r) - 1 - r) / r^2.
    each([&](int i) UNROLLED_INLINE_BODY { p[i] = fma(splat(1.9875691500e-4f), r[i], splat(1.3981999507e-3f)); });
    constexpr float coefficients[] = {8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
#pragma GCC unroll 4
    for (const float coefficient : coefficients)
        each([&](int i) UNROLLED_INLINE_BODY { p[i] = fma(p[i], r[i], splat(coefficient)); });
    each([&](int i) UNROLLED_INLINE_BODY { e[i] = {(ivec)shifted[i], fma(p[i], r[i] * r[i], r[i])}; });
}

UNROLLED_INLINE Reduced reduce(vec x) {
    Reduced e[1];
    reduce({x}, e);
    return e[0];
}

// 2^n for -126 <= n <= 127, from n + 127 in the low bits.
UNROLLED_INLINE vec power_of_two(ivec biased) { return (vec)(biased << 23); }

// Greatest error 1.5 ulp; NaN stays NaN; below 2^-126 zero.
UNROLLED_INLINE vec exp(vec x) {
    Reduced e = reduce(at_least(splat(-104.0f), at_most(splat(89.0f), x)));
    ivec n = e.biased - (ivec)splat(12582912.0f + 127.0f), half = n >> 1;
    // Two factors, so that neither leaves the range of exponents.
    return (1.0f + e.q) * power_of_two(half + 127) * power_of_two(n - half + 127);
}

// Each x[i] becomes its tanh, where is_tanh(i) says so, else its sigmoid.
template <int count, class IsTanh>
UNROLLED_INLINE void squash(vec (&x)[count], IsTanh is_tanh) {
    const ivec sign = (ivec)splat(-0.0f);
    vec from[count];
    Reduced e[count];
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) {
        const vec magnitude = (vec)((ivec)x[i] & ~sign);
        from[i] = is_tanh(i) ? at_most(splat(20.0f), magnitude + magnitude)  // tanh(10) rounds to 1
                             : at_least(splat(-87.0f), at_most(splat(88.3f), -x[i]));
    }
    reduce(from, e);
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) {
        const vec scale = power_of_two(e[i].biased);
        if (is_tanh(i)) {
            const vec m = fma(scale, e[i].q, scale - 1.0f);
            x[i] = (vec)((ivec)(m / (m + 2.0f)) | ((ivec)x[i] & sign));
        } else {
            x[i] = 1.0f / (1.0f + fma(scale, e[i].q, scale));
        }
    }
}

// Greatest error 2.5 ulp. Where exp(-x) would leave the normal numbers the result is 1, or zero.
UNROLLED_INLINE vec sigmoid(vec x) {
    vec one[] = {x};
    squash(one, [](int) { return false; });
    return one[0];
}

// tanh(x) = m / (m + 2) with m = exp(2|x|) - 1, which keeps small arguments exact. Greatest error 3 ulp.
template <int count>
UNROLLED_INLINE void tanh(vec (&x)[count]) {
    squash(x, [](int) { return true; });
}
UNROLLED_INLINE vec tanh(vec x) {
    vec one[] = {x};
    tanh(one);
    return one[0];
}

// Denormal numbers cost a hundred cycles each and carry nothing here: flushed in the kernel's threads,
// the caller's setting put back on leaving.
class FlushDenormals {
  public:
    FlushDenormals() : saved_(mode()) { set(saved_ | flushed); }
    ~FlushDenormals() { set(saved_); }
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;

  private:
#if defined(__x86_64__)
    static constexpr uint64_t flushed = 0x8040;  // results and operands
    static uint64_t mode() { return _mm_getcsr(); }
    static void set(uint64_t mode) { _mm_setcsr(static_cast<unsigned>(mode)); }
#elif defined(__aarch64__)
    static constexpr uint64_t flushed = 1 << 24;  // both too
    static uint64_t mode() {
        uint64_t mode;
        asm volatile("mrs %0, fpcr" : "=r"(mode));
        return mode;
    }
    static void set(uint64_t mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
#else
    static constexpr uint64_t flushed = 0;
    static uint64_t mode() { return 0; }
    static void set(uint64_t) {}
#endif
    uint64_t saved_;
};

}  // namespace unrolled::UNROLLED_ISA
