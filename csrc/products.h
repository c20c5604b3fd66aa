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
// output's bits therefore depend on no tile, batch or thread count, and are the same on AVX2 and AVX-512.
#pragma once

#include <cmath>

#include "tile.h"

namespace unrolled::UNROLLED_ISA {

// A class of products has
//   size<N>(K)                   floats of one panel
//   pack<N>(weights_of, K, panel)   packs one panel; weights_of(output) are that output's K weights, or null for none
//   Row, row_bytes(K), row(x, K, area)   an input row in the form that the product reads, made in `area`
//   most_rows(N), panels(R, N)   the tile: most rows, and panels that R rows take together
//   add(sums, rows, panel, panel_stride, K)   sums[r][p][n] += row r times panel p

struct Float32 {
    using Row = const float*;
    static constexpr int most_rows(int N) { return tile_rows(N); }
    static constexpr int panels(int R, int N) { return tile_panels(R, N); }

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
        vec sum[R][P][N];
        __builtin_memcpy(sum, sums, sizeof sum);
        for (int64_t k = 0; k + 1 < K; k += 2, panel += N * lanes) {
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                for (int n = 0; n < N; ++n) {
                    ivec words = (ivec)load(panel + p * panel_stride + n * lanes);
                    asm("" : "+v"(words));  // read once: the compiler would load it for each of the two halves
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

  private:
    static uint16_t rounded(float weight) {
        const uint32_t bits = __builtin_bit_cast(uint32_t, weight);
        if (std::isnan(weight)) return static_cast<uint16_t>(bits >> 16 | 0x40);
        return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);  // a half goes to even
    }
};

// Weights as whole numbers from -127 to 127 with a scale each output, inputs as whole numbers from -32767 to
// 32767 with a scale each row: the rounding of the inputs is too fine to matter. An input plus 32768 is two
// bytes; each multiplies the weights by itself, and `offset`, -128 times the sum of an output's weights, takes
// the 32768 off again. With VNNI four products are one instruction; without, the same sums take several.
template <bool vnni>
struct Int8 {
    struct Row {
        const uint8_t* high;
        const uint8_t* low;
        float scale;
    };
    static constexpr int most_rows(int) { return registers == 32 ? 3 : 1; }
    static constexpr int panels(int R, int) { return registers == 32 && R == 1 ? 2 : 1; }

    template <int N>
    static int64_t size(int64_t K) { return (blocks_of(K, 4) + 2) * N * lanes; }
    template <int N, class Weights>
    static void pack(Weights weights_of, int64_t K, float* panel) {
        int32_t* offsets = reinterpret_cast<int32_t*>(panel + N * lanes);
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
                offsets[j] -= 128 * weight;
            }
        }
    }
    static int64_t row_bytes(int64_t K) { return 2 * padded(K); }
    static Row row(const float* x, int64_t K, uint8_t* area) {
        // As whole numbers the sizes of floats have their own order, with infinities and NaN at the end.
        constexpr int32_t infinity = 0x7f800000;
        ivec sizes{};
        for (int64_t k = 0; k < K; k += lanes) {
            const ivec size = (ivec)load(x + k, K - k) & 0x7fffffff;
            sizes = size > sizes ? size : sizes;
        }
        int32_t size = 0;
        for (int lane = 0; lane < lanes; ++lane) size = sizes[lane] > size ? sizes[lane] : size;
        const float most = __builtin_bit_cast(float, size);
        if (size >= infinity) return filled(area, K, __builtin_nanf(""));
        if (most < 1e-30f) return filled(area, K, 0.0f);  // 32767 / most would overflow
        // Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits of the sum.
        constexpr float magic = 12582912.0f;
        const vec factor = splat(32767.0f / most);
        for (int64_t k = 0; k < K; k += lanes) {
            const ivec numbers = (ivec)(load(x + k, K - k) * factor + (magic + 32768.0f)) - (ivec)splat(magic);
            const bytes high = __builtin_convertvector(numbers >> 8, bytes);
            const bytes low = __builtin_convertvector(numbers & 0xff, bytes);
            __builtin_memcpy(area + k, &high, lanes);
            __builtin_memcpy(area + padded(K) + k, &low, lanes);
        }
        return {area, area + padded(K), most / 32767.0f};
    }
    template <int R, int P, int N>
    UNROLLED_INLINE_MEMBER static void add(vec (&sums)[R][P][N], const Row (&rows)[R], const float* panel,
                                           int64_t panel_stride, int64_t K) {
        ivec high[R][P][N], low[R][P][N] = {};
        for (int r = 0; r < R; ++r)
            for (int p = 0; p < P; ++p)
                for (int n = 0; n < N; ++n)
                    high[r][p][n] = (ivec)load(panel + p * panel_stride + (N + n) * lanes);
        const float* words = panel + 2 * N * lanes;
        for (int64_t k = 0; k < K; k += 4, words += N * lanes) {
            Bytes high_inputs[R], low_inputs[R];
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) {
                high_inputs[r] = inputs(rows[r].high + k);
                low_inputs[r] = inputs(rows[r].low + k);
            }
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                for (int n = 0; n < N; ++n) {
                    const Bytes four = weights((ivec)load(words + p * panel_stride + n * lanes));
#pragma GCC unroll 4
                    for (int r = 0; r < R; ++r) {
                        high[r][p][n] = dot(high_inputs[r], four, high[r][p][n]);
                        low[r][p][n] = dot(low_inputs[r], four, low[r][p][n]);
                    }
                }
        }
        for (int r = 0; r < R; ++r)
            for (int p = 0; p < P; ++p)
                for (int n = 0; n < N; ++n) {
                    const vec total = fma(__builtin_convertvector(high[r][p][n], vec), splat(256.0f),
                                          __builtin_convertvector(low[r][p][n], vec));
                    const vec scale = splat(rows[r].scale) * load(panel + p * panel_stride + n * lanes);
                    sums[r][p][n] = fma(scale, total, sums[r][p][n]);
                }
    }

  private:
    typedef uint8_t bytes __attribute__((vector_size(lanes)));
    typedef int16_t halves __attribute__((vector_size(lanes * 4)));

    // Four bytes a lane, as `dot` wants them: as they are, or widened to even and odd ones.
    struct Pairs {
        halves even, odd;
    };
    using Bytes = std::conditional_t<vnni, ivec, Pairs>;

    static int64_t padded(int64_t K) { return blocks_of(K, 16) * 16; }
    // The greatest size among weights; NaN where one of them is.
    static float greatest(const float* weights, int64_t K) {
        float most = 0;
        for (int64_t k = 0; k < K; ++k)
            if (!(std::fabs(weights[k]) <= most)) most = std::fabs(weights[k]);
        return most;
    }
    static Row filled(uint8_t* area, int64_t K, float scale) {
        __builtin_memset(area, 0, row_bytes(K));
        return {area, area + padded(K), scale};
    }
    UNROLLED_INLINE_MEMBER static Bytes inputs(const uint8_t* four) {
        int32_t word;
        __builtin_memcpy(&word, four, 4);
        const ivec words = word - ivec{};
        if constexpr (vnni) return words;
        else return {(halves)(words & 0x00ff00ff), (halves)((words >> 8) & 0x00ff00ff)};
    }
    UNROLLED_INLINE_MEMBER static Bytes weights(ivec words) {
        if constexpr (vnni) return words;
        else return {((halves)words << 8) >> 8, (halves)words >> 8};
    }
    // sum + the four products of unsigned and signed bytes in each lane.
    UNROLLED_INLINE_MEMBER static ivec dot(Bytes unsigned_bytes, Bytes signed_bytes, ivec sum) {
        if constexpr (vnni) {
            // The one instruction that the rest of this instruction set's code may not use.
            asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(signed_bytes));
            return sum;
        } else {
            return sum + (multiply_pairs(unsigned_bytes.even, signed_bytes.even) +
                          multiply_pairs(unsigned_bytes.odd, signed_bytes.odd));
        }
    }
    UNROLLED_INLINE_MEMBER static ivec multiply_pairs(halves a, halves b) {
#if defined(__AVX512BW__)
        return (ivec)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
        return (ivec)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
        return (ivec)_mm_madd_epi16((__m128i)a, (__m128i)b);
#endif
    }
};

// Calls body.operator()<R, P>(first row, first panel) until `row_count` rows by the panels [begin, end) are
// covered in tiles of `Product`; a group of panels serves all rows before the next one, from the near cache.
template <class Product, int N, int R, class Body>
UNROLLED_INLINE void cover_group(int64_t row, int64_t begin, int64_t end, Body& body) {
    constexpr int P = Product::panels(R, N);
    int64_t panel = begin;
    for (; panel + P <= end; panel += P) body.template operator()<R, P>(row, panel);
    if constexpr (P > 1)
        for (; panel < end; ++panel) body.template operator()<R, 1>(row, panel);
}

template <class Product, int N, int R = Product::most_rows(N), class Body>
UNROLLED_INLINE void cover_rows(int64_t rows, int64_t row, int64_t begin, int64_t end, Body& body) {
    if (rows == R) cover_group<Product, N, R>(row, begin, end, body);
    else if constexpr (R > 1) cover_rows<Product, N, R - 1>(rows, row, begin, end, body);
}

template <class Product, int N, class Body>
UNROLLED_INLINE void cover_with(int64_t row_count, int64_t begin, int64_t end, Body&& body) {
    constexpr int64_t group = 4;  // the most panels that one tile takes
    const int64_t tiles = blocks_of(row_count, Product::most_rows(N));
    for (int64_t first = begin; first < end; first += group) {
        const int64_t past = first + group < end ? first + group : end;
        for (int64_t tile = 0; tile < tiles; ++tile) {
            const int64_t row = row_count * tile / tiles;
            cover_rows<Product, N>(row_count * (tile + 1) / tiles - row, row, first, past, body);
        }
    }
}

}  // namespace unrolled::UNROLLED_ISA
