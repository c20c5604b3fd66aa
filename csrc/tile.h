// Packed weights and the register tile: every product of the engine is made of these.
//
// A panel holds the weights of one block of outputs, N vectors wide:
//
//     panel[k][n][lane]        k = 0 .. K-1 (the index summed over)
//
// so that step k of the sum reads N vectors one after the other and each is used for R rows at once. The
// sums of R rows by P panels stay in registers for the whole of K.
#pragma once

#include "simd.h"

namespace unrolled::UNROLLED_ISA {

constexpr int64_t blocks_of(int64_t units, int64_t width) { return (units + width - 1) / width; }

// Most rows of a tile: its R * N sums fit the registers beside N weights and one input, or R inputs and one weight.
constexpr int tile_rows(int N) {
    const int beside_weights = (registers - 1) / N - 1, beside_inputs = (registers - 1) / (N + 1);
    return beside_weights > beside_inputs ? beside_weights : beside_inputs;
}

// Panels taken together: few rows alone give too few independent sums to hide a multiply-add's latency.
constexpr int tile_panels(int R, int N) {
    int panels = (registers / 2) / (R * N);
    return panels < 1 ? 1 : panels > 4 ? 4 : panels;
}

// sums[r][p][n] += sum over k of rows[r][k] * panel p's [k][n], in ascending order of k.
template <int R, int P, int N>
UNROLLED_INLINE void add_products(vec (&sums)[R][P][N], const float* const (&rows)[R], const float* panel,
                                  int64_t panel_size, int64_t K) {
    vec sum[R][P][N];  // a copy whose address nobody takes, so that it lives in registers
    __builtin_memcpy(sum, sums, sizeof sum);
    for (int64_t k = 0; k < K; ++k, panel += N * lanes) {
        if constexpr (R * P * N + P * N < registers) {
            vec weights[P][N];
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                for (int n = 0; n < N; ++n) weights[p][n] = load(panel + p * panel_size + n * lanes);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) {
                const vec input = splat(rows[r][k]);
#pragma GCC unroll 4
                for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                    for (int n = 0; n < N; ++n) sum[r][p][n] = fma(input, weights[p][n], sum[r][p][n]);
            }
        } else {
            vec inputs[R];
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) inputs[r] = splat(rows[r][k]);
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                for (int n = 0; n < N; ++n) {
                    const vec weight = load(panel + p * panel_size + n * lanes);
#pragma GCC unroll 16
                    for (int r = 0; r < R; ++r) sum[r][p][n] = fma(inputs[r], weight, sum[r][p][n]);
                }
        }
    }
    __builtin_memcpy(sums, sum, sizeof sum);
}

// Calls body.operator()<R, P>(first row, first panel) until `row_count` rows by the panels [begin, end) are
// covered; a panel serves all rows before the next one, so that it is read from the near cache.
template <int N, int R, class Body>
UNROLLED_INLINE void cover_panels(int64_t row, int64_t begin, int64_t end, Body& body) {
    constexpr int P = tile_panels(R, N);
    int64_t panel = begin;
    for (; panel + P <= end; panel += P) body.template operator()<R, P>(row, panel);
    if constexpr (P > 1)
        for (; panel < end; ++panel) body.template operator()<R, 1>(row, panel);
}

template <int N, class Body>
UNROLLED_INLINE void cover(int64_t row_count, int64_t begin, int64_t end, Body&& body) {
    constexpr int most = tile_rows(N) < 9 ? tile_rows(N) : 9;  // enough independent sums
    constexpr int64_t group = 4;  // the most panels that one tile takes
    int64_t tiles = blocks_of(row_count, most);
    for (int64_t first = begin; first < end; first += group) {
        int64_t past = first + group < end ? first + group : end;
        for (int64_t tile = 0; tile < tiles; ++tile) {
            int64_t row = row_count * tile / tiles;
            int64_t rows = row_count * (tile + 1) / tiles - row;
            if (rows == 1) cover_panels<N, 1>(row, first, past, body);
            if constexpr (most >= 2) if (rows == 2) cover_panels<N, 2>(row, first, past, body);
            if constexpr (most >= 3) if (rows == 3) cover_panels<N, 3>(row, first, past, body);
            if constexpr (most >= 4) if (rows == 4) cover_panels<N, 4>(row, first, past, body);
            if constexpr (most >= 5) if (rows == 5) cover_panels<N, 5>(row, first, past, body);
            if constexpr (most >= 6) if (rows == 6) cover_panels<N, 6>(row, first, past, body);
            if constexpr (most >= 7) if (rows == 7) cover_panels<N, 7>(row, first, past, body);
            if constexpr (most >= 8) if (rows == 8) cover_panels<N, 8>(row, first, past, body);
            if constexpr (most >= 9) if (rows == 9) cover_panels<N, 9>(row, first, past, body);
        }
    }
}

}  // namespace unrolled::UNROLLED_ISA
