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
// 32767 with a scale each row: the rounding of the inputs is too fine to matter. The sum of products is exact and is
// rounded once, so it has the same bits however it is made:
//
//     With VNNI four products of bytes are one instruction. An input plus 32768 is two bytes; each multiplies the weights
//     by itself, and `offset`, -128 times the sum of an output's weights, takes the 32768 off again.
//     Without, pairs of 16 bits are multiplied: a word's odd weights are the upper bytes of its halves, its even ones the
//     lower bytes, kept plus 128 so that a mask makes numbers of them; 128 times the row's even inputs takes that off.
//     Sums of 32 bits hold so many of these and are then added to two more, of their upper and lower halves.
template <bool vnni>
struct Int8 {
    struct Bytes {
        const uint8_t* high;
        const uint8_t* low;
        float scale;
    };
    struct Pairs {
        const int16_t* numbers;  // of every four the even ones, then the odd ones
        float scale;
        double even;  // the sum of the even ones
    };
    using Row = std::conditional_t<vnni, Bytes, Pairs>;
    static constexpr int most_rows(int) { return registers == 32 ? 3 : 1; }
    static constexpr int panels(int R, int) { return R == 1 ? 2 : 1; }

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
                words[(k / 4 * N * lanes + j) * 4 + k % 4] = static_cast<int8_t>(vnni || k % 2 ? weight : weight ^ 0x80);
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
        const auto numbers = [&](int64_t k) { return (ivec)(load(x + k, K - k) * factor + magic) - (ivec)splat(magic); };
        if constexpr (vnni) {
            for (int64_t k = 0; k < K; k += lanes) {
                const ivec raised = numbers(k) + 32768;
                put(area + k, __builtin_convertvector(raised >> 8, bytes));
                put(area + padded(K) + k, __builtin_convertvector(raised & 0xff, bytes));
            }
            return {area, area + padded(K), most / 32767.0f};
        } else {
            shorts order;
            for (int16_t lane = 0; lane < lanes; ++lane) order[lane] = lane % 4 == 1 ? lane + 1 : lane % 4 == 2 ? lane - 1 : lane;
            ivec sums{};
            for (int64_t k = 0; k < K; k += lanes) {
                const ivec now = numbers(k);
                put(area + 2 * k, __builtin_shuffle(__builtin_convertvector(now, shorts), order));
                sums += now;
            }
            double even = 0;
            for (int lane = 0; lane < lanes; lane += 2) even += sums[lane];
            return {reinterpret_cast<const int16_t*>(area), most / 32767.0f, even};
        }
    }
    template <int R, int P, int N>
    UNROLLED_INLINE_MEMBER static void add(vec (&sums)[R][P][N], const Row (&rows)[R], const float* panel,
                                           int64_t panel_stride, int64_t K) {
        const auto finish = [&](int r, int p, int n, numbers total) {
            const vec scale = splat(rows[r].scale) * load(panel + p * panel_stride + n * lanes);
            sums[r][p][n] = fma(scale, __builtin_convertvector(total, vec), sums[r][p][n]);
        };
        const float* words = panel + 2 * N * lanes;
        if constexpr (vnni) {
            ivec high[R][P][N], low[R][P][N] = {};
            for (int r = 0; r < R; ++r)
                for (int p = 0; p < P; ++p)
                    for (int n = 0; n < N; ++n) high[r][p][n] = (ivec)load(panel + p * panel_stride + (N + n) * lanes);
            for (int64_t k = 0; k < K; k += 4, words += N * lanes) {
                ivec high_inputs[R], low_inputs[R];
#pragma GCC unroll 4
                for (int r = 0; r < R; ++r) {
                    high_inputs[r] = four_bytes(rows[r].high + k);
                    low_inputs[r] = four_bytes(rows[r].low + k);
                }
#pragma GCC unroll 4
                for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                    for (int n = 0; n < N; ++n) {
                        const ivec four = (ivec)load(words + p * panel_stride + n * lanes);
#pragma GCC unroll 4
                        for (int r = 0; r < R; ++r) {
                            high[r][p][n] = dot(high_inputs[r], four, high[r][p][n]);
                            low[r][p][n] = dot(low_inputs[r], four, low[r][p][n]);
                        }
                    }
            }
            for (int r = 0; r < R; ++r)
                for (int p = 0; p < P; ++p)
                    for (int n = 0; n < N; ++n) finish(r, p, n, widened(high[r][p][n]) * 256.0 + widened(low[r][p][n]));
        } else {
            constexpr int64_t together = 256;  // a word adds 2 * 32767 * (255 + 127) at most, 64 words less than 2^31
            ivec upper[R][P][N] = {}, lower[R][P][N] = {};
            for (int64_t begin = 0; begin < K; begin += together) {
                const int64_t end = begin + together < K ? begin + together : K;
                ivec sum[R][P][N] = {};
                for (int64_t k = begin; k < end; k += 4, words += N * lanes) {
                    ivec even_inputs[R], odd_inputs[R];
#pragma GCC unroll 4
                    for (int r = 0; r < R; ++r) {
                        even_inputs[r] = four_bytes(rows[r].numbers + k);
                        odd_inputs[r] = four_bytes(rows[r].numbers + k + 2);
                    }
#pragma GCC unroll 4
                    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                        for (int n = 0; n < N; ++n) {
                            const ivec four = (ivec)load(words + p * panel_stride + n * lanes);
                            const ivec even = four & 0x00ff00ff, odd = (ivec)((halves)four >> 8);
#pragma GCC unroll 4
                            for (int r = 0; r < R; ++r)
                                sum[r][p][n] += multiply_pairs(even_inputs[r], even) + multiply_pairs(odd_inputs[r], odd);
                        }
                }
                for (int r = 0; r < R; ++r)
                    for (int p = 0; p < P; ++p)
                        for (int n = 0; n < N; ++n) {
                            upper[r][p][n] += sum[r][p][n] >> 16;
                            lower[r][p][n] += sum[r][p][n] & 0xffff;
                        }
            }
            for (int r = 0; r < R; ++r)
                for (int p = 0; p < P; ++p)
                    for (int n = 0; n < N; ++n)
                        finish(r, p, n, widened(upper[r][p][n]) * 65536.0 + (widened(lower[r][p][n]) - 128.0 * rows[r].even));
        }
    }

  private:
    typedef uint8_t bytes __attribute__((vector_size(lanes)));
    typedef int16_t halves __attribute__((vector_size(lanes * 4)));

    typedef int16_t shorts __attribute__((vector_size(lanes * 2)));
    typedef double numbers __attribute__((vector_size(lanes * 8)));

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
        if constexpr (vnni) return {area, area + padded(K), scale};
        else return {reinterpret_cast<const int16_t*>(area), scale, 0.0};
    }
    template <class Vector>
    UNROLLED_INLINE_MEMBER static void put(uint8_t* to, Vector v) { __builtin_memcpy(to, &v, sizeof v); }
    // The same four bytes in all lanes.
    UNROLLED_INLINE_MEMBER static ivec four_bytes(const void* from) {
        int32_t word;
        __builtin_memcpy(&word, from, 4);
        return word - ivec{};
    }
    UNROLLED_INLINE_MEMBER static numbers widened(ivec v) { return __builtin_convertvector(v, numbers); }
    // sum + the four products of unsigned and signed bytes in each lane.
    UNROLLED_INLINE_MEMBER static ivec dot(ivec unsigned_bytes, ivec signed_bytes, ivec sum) {
        // The one instruction that the rest of this instruction set's code may not use.
        asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(signed_bytes));
        return sum;
    }
    // Products of 16 bits, the two of each lane added.
    UNROLLED_INLINE_MEMBER static ivec multiply_pairs(ivec a, ivec b) {
#if defined(__AVX512BW__)
        return (ivec)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
        return (ivec)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
        return (ivec)_mm_madd_epi16((__m128i)a, (__m128i)b);
#endif
    }
};

template <class Product, int N>
struct TilesOf {
    static constexpr int most_rows = Product::most_rows(N);
    static constexpr int panels(int R) { return Product::panels(R, N); }
};

// Calls body.operator()<R, P>(first row, first panel) for all tiles of `Product`.
template <class Product, int N, class Body>
UNROLLED_INLINE void cover_with(int64_t row_count, int64_t begin, int64_t end, Body&& body) {
    constexpr int64_t group = 4;  // the most panels that one tile takes
    cover_tiles<TilesOf<Product, N>>(row_count, begin, end, group, [&]<int R, int P>(int64_t row, int64_t panel, Turn)
                                         UNROLLED_INLINE_BODY { body.template operator()<R, P>(row, panel); });
}

}  // namespace unrolled::UNROLLED_ISA
