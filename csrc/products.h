// Products of input rows with packed weights, one class for each format in which weights may be kept.
//
// The weights of one product lie in panels, each a block of outputs N vectors wide, in words of 32 bits:
//
//     Float32    word[k][n][lane]      one weight
//     Bfloat16   word[k/2][n][lane]    two weights: even k in the lower half, odd k in the upper
//     Int8       scale[n][lane], offset[n][lane], word[k/4][n][lane]    four weights a word
//
// so that a product reads its panel from one end to the other, once. Float32 and Bfloat16 sum in float32, one
// chain of multiply-adds an output in ascending order of k; Int8 sums in int32, where order does not matter. An
// output's bits therefore depend on no tile, batch or thread count, and are the same on AVX2, AVX-512 and NEON.
#pragma once

#include <algorithm>
#include <cmath>

#include "tile.h"
#include "unrolled.h"

namespace unrolled::UNROLLED_ISA {

// A class of products has
//   size<N>(K)                   floats of one panel
//   pack<N>(weights_of, K, panel)   packs one panel; weights_of(output) are that output's K weights, or null for none
//   Row, row_bytes(K), row(x, K, area)   an input row in the form that the product reads, made in `area`
//   most_rows(N), panels(R, N)   the tile: most rows, and panels that R rows take together
//   by_two(R, N)   whether R rows may also take two panels together, where they take more
//   add(sums, rows, panel, panel_stride, K)   sums[r][p][n] += row r times panel p

struct Float32 {
    using Row = const float*;
    static constexpr int most_rows(int N) { return tile_rows(N); }
    static constexpr int panels(int R, int N) { return tile_panels(R, N); }
    static constexpr bool by_two(int R, int N) { return R == 1 && N == 4 && lanes == 16; }

    template <int N>
    static int64_t size(int64_t K) { return K * N * lanes; }
    template <int N, class Weights>
    static void pack(Weights weights_of, int64_t K, float* panel) {
        for (int j = 0; j < N * lanes; ++j) {
            const float* weights = weights_of(j);
            for (int64_t k = 0; k < K; ++k) panel[k * N * lanes + j] = weights ? weights[k] : 0.0f;
        }
    }
    static int64_t row_bytes(int64_t) { return 0; }
    static Row row(const float* x, int64_t, uint8_t*) { return x; }
    template <int R, int P, int N>
    UNROLLED_INLINE_MEMBER static void add(vec (&sums)[R][P][N], const Row (&rows)[R], const float* panel,
                                           int64_t panel_stride, int64_t K) {
        add_products<R, P, N>(sums, rows, panel, panel_stride, K);
    }
};

// Weights rounded to the nearest bfloat16; a weight is widened by a shift or a mask and then used as float32.
struct Bfloat16 {
    using Row = const float*;
    static constexpr int most_rows(int N) { return tile_rows(N); }
    static constexpr int panels(int R, int N) { return tile_panels(R, N); }
    static constexpr bool by_two(int, int) { return false; }

    template <int N>
    static int64_t size(int64_t K) { return blocks_of(K, 2) * N * lanes; }
    template <int N, class Weights>
    static void pack(Weights weights_of, int64_t K, float* panel) {
        uint16_t* halves = reinterpret_cast<uint16_t*>(panel);
        for (int j = 0; j < N * lanes; ++j) {
            const float* weights = weights_of(j);
            for (int64_t k = 0; k < blocks_of(K, 2) * 2; ++k)
                halves[(k / 2 * N * lanes + j) * 2 + k % 2] = weights && k < K ? rounded(weights[k]) : 0;
        }
    }
    static int64_t row_bytes(int64_t) { return 0; }
    static Row row(const float* x, int64_t, uint8_t*) { return x; }
    template <int R, int P, int N>
    UNROLLED_INLINE_MEMBER static void add(vec (&sums)[R][P][N], const Row (&rows)[R], const float* panel,
                                           int64_t panel_stride, int64_t K) {
        // Two more instructions a word than float32 has, so a processor looks half as far ahead by itself.
        constexpr int64_t floats_ahead = 512, worth_asking = 256;
        if (registers == 32 && K >= worth_asking) add_words<floats_ahead>(sums, rows, panel, panel_stride, K);
        else add_words<0>(sums, rows, panel, panel_stride, K);
    }

  private:
    // Asks for words so many floats ahead, if any.
    template <int64_t ahead, int R, int P, int N>
    UNROLLED_INLINE_MEMBER static void add_words(vec (&sums)[R][P][N], const Row (&rows)[R], const float* panel,
                                                 int64_t panel_stride, int64_t K) {
        vec sum[R][P][N];
        __builtin_memcpy(sum, sums, sizeof sum);
        for (int64_t k = 0; k + 1 < K; k += 2, panel += N * lanes) {
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                for (int n = 0; n < N; ++n) {
                    if constexpr (ahead) __builtin_prefetch(panel + p * panel_stride + n * lanes + ahead);
                    ivec words = (ivec)load(panel + p * panel_stride + n * lanes);
#if defined(__x86_64__)
                    asm("" : "+v"(words));  // read once: the compiler would load it for each of the two halves
#endif
                    const vec even = (vec)(words << 16), odd = (vec)(words & ~0xffff);
#pragma GCC unroll 16
                    for (int r = 0; r < R; ++r) {
                        sum[r][p][n] = fma(splat(rows[r][k]), even, sum[r][p][n]);
                        sum[r][p][n] = fma(splat(rows[r][k + 1]), odd, sum[r][p][n]);
                    }
                }
        }
        if (K % 2)
            for (int p = 0; p < P; ++p)
                for (int n = 0; n < N; ++n) {
                    const ivec words = (ivec)load(panel + p * panel_stride + n * lanes);
                    for (int r = 0; r < R; ++r)
                        sum[r][p][n] = fma(splat(rows[r][K - 1]), (vec)(words << 16), sum[r][p][n]);
                }
        __builtin_memcpy(sums, sum, sizeof sum);
    }

    static uint16_t rounded(float weight) {
        const uint32_t bits = __builtin_bit_cast(uint32_t, weight);
        if (std::isnan(weight)) return static_cast<uint16_t>(bits >> 16 | 0x40);
        return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);  // a half goes to even
    }
};

// Weights as whole numbers from -127 to 127 with a scale each output, inputs as whole numbers from -63 to 63 with a scale
// each row. Products of bytes want one side unsigned: inputs are kept plus 64, and `offset`, -64 times the sum of an output's
// weights, takes that off again. Then the sum of two products, 2 * 127 * 127 at most, fits the 16 bits that AVX2 gives it. The
// sum of all is exact in int32 and is rounded once, so it has the same bits with an instruction for dot products of bytes, which
// not every machine of an instruction set has (`dots`), and without.
#if defined(__AVX512F__) || (defined(UNROLLED_NEON) && defined(UNROLLED_NEON_DOTS))
#define UNROLLED_DOTS
#endif
template <bool dots>
struct Int8 {
    struct Row {
        const uint8_t* numbers;
        float scale;
    };
    static constexpr int most_rows(int) { return registers == 32 ? 3 : 1; }
    static constexpr int panels(int R, int) { return R == 1 ? 2 : 1; }
    static constexpr bool by_two(int, int) { return false; }

    template <int N>
    static int64_t size(int64_t K) { return (blocks_of(K, 4) + 2) * N * lanes; }
    template <int N, class Weights>
    static void pack(Weights weights_of, int64_t K, float* panel) {
        uint32_t* offsets = reinterpret_cast<uint32_t*>(panel + N * lanes);  // sums wrap on the way, as int32 does in vectors
        int8_t* words = reinterpret_cast<int8_t*>(panel + 2 * N * lanes);
        for (int j = 0; j < N * lanes; ++j) {
            const float* weights = weights_of(j);
            const float most = weights ? greatest(weights, K) : 0.0f;
            const float factor = most > 0 && std::isfinite(most) ? 127 / most : 0.0f;
            panel[j] = most / 127;
            offsets[j] = 0;
            for (int64_t k = 0; k < blocks_of(K, 4) * 4; ++k) {
                const int weight = factor != 0 && k < K ? static_cast<int>(std::lrint(weights[k] * factor)) : 0;
                words[(k / 4 * N * lanes + j) * 4 + k % 4] = static_cast<int8_t>(weight);
                offsets[j] -= static_cast<uint32_t>(zero * weight);
            }
        }
    }
    static int64_t row_bytes(int64_t K) { return blocks_of(K, 16) * 16; }
    static Row row(const float* x, int64_t K, uint8_t* numbers) {
        // As whole numbers the sizes of floats have their own order, with infinities and NaN at the end.
        constexpr int32_t infinity = 0x7f800000;
        ivec sizes{};
        for (int64_t k = 0; k < K; k += lanes) {
            const ivec size = (ivec)load(x + k, K - k) & 0x7fffffff;
            sizes = size > sizes ? size : sizes;
        }
        int32_t size = 0;
        for (int lane = 0; lane < lanes; ++lane) size = sizes[lane] > size ? sizes[lane] : size;
        const auto zeros = [&](float scale) -> Row {
            __builtin_memset(numbers, zero, row_bytes(K));
            return {numbers, scale};
        };
        const float most = __builtin_bit_cast(float, size), levels = most_number(K);
        if (size >= infinity) return zeros(__builtin_nanf(""));
        if (most < 1e-30f) return zeros(0.0f);  // 63 / most would overflow
        // Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits of the sum.
        constexpr float magic = 12582912.0f;
        const vec factor = splat(levels / most);
        for (int64_t k = 0; k < K; k += lanes) {
            const ivec whole = (ivec)(load(x + k, K - k) * factor + magic) - (ivec)splat(magic) + zero;
            const bytes narrow = __builtin_convertvector(whole, bytes);
            __builtin_memcpy(numbers + k, &narrow, sizeof narrow);
        }
        return {numbers, most / levels};
    }
    template <int R, int P, int N>
    UNROLLED_INLINE_MEMBER static void add(vec (&sums)[R][P][N], const Row (&rows)[R], const float* panel,
                                           int64_t panel_stride, int64_t K) {
        ivec sum[R][P][N];
        for (int r = 0; r < R; ++r)
            for (int p = 0; p < P; ++p)
                for (int n = 0; n < N; ++n) sum[r][p][n] = (ivec)load(panel + p * panel_stride + (N + n) * lanes);
        const float* words = panel + 2 * N * lanes;
        for (int64_t k = 0; k < K; k += 4, words += N * lanes) {
            ivec inputs[R];
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) inputs[r] = four(rows[r].numbers + k);
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                for (int n = 0; n < N; ++n) {
                    const ivec weights = (ivec)load(words + p * panel_stride + n * lanes);
#pragma GCC unroll 4
                    for (int r = 0; r < R; ++r) sum[r][p][n] = dot(inputs[r], weights, sum[r][p][n]);
                }
        }
        for (int r = 0; r < R; ++r)
            for (int p = 0; p < P; ++p)
                for (int n = 0; n < N; ++n) {
                    const vec scale = splat(rows[r].scale) * load(panel + p * panel_stride + n * lanes);
                    sums[r][p][n] = fma(scale, __builtin_convertvector(sum[r][p][n], vec), sums[r][p][n]);
                }
    }

  private:
    typedef uint8_t bytes __attribute__((vector_size(lanes)));
    static constexpr int zero = 64;  // what an input of 0 is kept as

    // The greatest size of an input: 63, or less where a sum of so many products would not fit its 32 bits.
    static float most_number(int64_t K) {
        constexpr int64_t greatest_sum = 0x7fffffff;
        return static_cast<float>(std::min<int64_t>(zero - 1, greatest_sum / (127 * std::max<int64_t>(K, 1))));
    }
    // The greatest size among weights; NaN where one of them is.
    static float greatest(const float* weights, int64_t K) {
        float most = 0;
        for (int64_t k = 0; k < K && !std::isnan(most); ++k)
            if (!(std::fabs(weights[k]) <= most)) most = std::fabs(weights[k]);
        return most;
    }
    // The same four inputs in each lane.
    UNROLLED_INLINE_MEMBER static ivec four(const uint8_t* from) {
        int32_t word;
        __builtin_memcpy(&word, from, 4);
        return word - ivec{};
    }
    // Wraps, as sums do on the way.
    UNROLLED_INLINE_MEMBER static ivec plus(ivec a, ivec b) {
        typedef uint32_t words __attribute__((vector_size(lanes * 4)));
        return (ivec)((words)a + (words)b);
    }
    // sum + the four products of inputs, from 0 to 127, and weights in each lane.
    UNROLLED_INLINE_MEMBER static ivec dot(ivec inputs, ivec weights, ivec sum) {
#if defined(UNROLLED_DOTS)
        if constexpr (dots) {
            // The one instruction that the rest of this instruction set's code may not use.
#if defined(__ARM_FEATURE_DOTPROD)
            sum = (ivec)vdotq_s32((int32x4_t)sum, (int8x16_t)inputs, (int8x16_t)weights);
#elif defined(UNROLLED_NEON)
            asm(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(inputs), "w"(weights));
#else
            asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(inputs), "v"(weights));
#endif
            return sum;
        }
#endif
#if defined(__AVX512BW__)
        return plus(sum, (ivec)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)inputs, (__m512i)weights), _mm512_set1_epi16(1)));
#elif defined(__AVX2__)
        return plus(sum, (ivec)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)inputs, (__m256i)weights), _mm256_set1_epi16(1)));
#elif defined(UNROLLED_NEON)
        const int8x16_t a = (int8x16_t)inputs, b = (int8x16_t)weights;
        const int16x8_t two = vpaddq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)), vmull_high_s8(a, b));
        return (ivec)vpadalq_s16((int32x4_t)sum, two);
#else
        typedef int16_t halves __attribute__((vector_size(lanes * 4)));
        const auto even = [](ivec words) { return (halves)words << 8 >> 8; };
        const auto odd = [](ivec words) { return (halves)words >> 8; };
        const ivec two = (ivec)(even(inputs) * even(weights) + odd(inputs) * odd(weights));
        return plus(sum, plus(two << 16 >> 16, two >> 16));
#endif
    }
};

template <class Product, int N>
struct TilesOf {
    static constexpr int most_rows = Product::most_rows(N);
    static constexpr int panels(int R) { return Product::panels(R, N); }
    static constexpr bool by_two(int R) { return Product::by_two(R, N); }
};

constexpr int64_t most_panels = 4;  // that one tile takes

// Calls body.operator()<R, P>(first row, first panel) for all tiles of `Product`, of `group` panels at most.
template <class Product, int N, class Body>
UNROLLED_INLINE void cover_with(int64_t row_count, int64_t begin, int64_t end, int64_t group, Body&& body) {
    cover_tiles<TilesOf<Product, N>>(row_count, begin, end, group, [&]<int R, int P>(int64_t row, int64_t panel, Turn)
                                         UNROLLED_INLINE_BODY { body.template operator()<R, P>(row, panel); });
}

}  // namespace unrolled::UNROLLED_ISA
