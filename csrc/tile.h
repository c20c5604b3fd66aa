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

// A vector of outputs in its panel: out[k * width + lane] = rows[lane * stride + k] for k < K; zero from `count` on.
UNROLLED_INLINE void pack_vector(const float* rows, int64_t stride, int64_t count, int64_t K, float* out, int64_t width) {
    int64_t k = 0;
    if (count >= lanes)
        for (; k + lanes <= K; k += lanes) {
            vec block[lanes];
#pragma GCC unroll 16
            for (int lane = 0; lane < lanes; ++lane) block[lane] = load(rows + lane * stride + k);
            transpose(block);
#pragma GCC unroll 16
            for (int lane = 0; lane < lanes; ++lane) store(out + (k + lane) * width, block[lane]);
        }
    for (; k < K; ++k)
        for (int lane = 0; lane < lanes; ++lane) out[k * width + lane] = lane < count ? rows[lane * stride + k] : 0.0f;
}

// Of the index summed over: how far one vector of a panel is packed before the next, so that the lines written stay near.
constexpr int64_t packed_together = 64;

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

// Asks for n floats before they are used, or written: a processor sees neither coming where they lie far from what came
// before, and stores to lines that are not near wait for one another.
constexpr int64_t floats_of_a_line = 16;
UNROLLED_INLINE void ask(const float* p, int64_t n) {
    for (int64_t i = 0; i < n; i += floats_of_a_line) __builtin_prefetch(p + i);
}
UNROLLED_INLINE void ask_to_write(const float* p, int64_t n) {
    for (int64_t i = 0; i < n; i += floats_of_a_line) __builtin_prefetch(p + i, 1);
}

// Weights to be read soon: `step` floats further with each k.
struct Ahead {
    const float* at;
    int64_t step;

    UNROLLED_INLINE_MEMBER void ask(int64_t ks) {
        const float* const end = at + ks * step;
        do __builtin_prefetch(at, 0, 2);
        while ((at += floats_of_a_line) < end);
        at = end;
    }
};

// One k of the sum below.
template <int R, int P, int N, int stride>
UNROLLED_INLINE void add_product(vec (&sum)[R][P][N], const float* const (&rows)[R], int64_t k, const float* weights_of_k,
                                 int64_t panel_size) {
    if constexpr (R * P * N + P * N < registers) {
        vec weights[P][N];
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) weights[p][n] = load(weights_of_k + p * panel_size + n * lanes);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            const vec input = splat(rows[r][k * stride]);
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                for (int n = 0; n < N; ++n) sum[r][p][n] = fma(input, weights[p][n], sum[r][p][n]);
        }
    } else {
        vec inputs[R];
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) inputs[r] = splat(rows[r][k * stride]);
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) {
                const vec weight = load(weights_of_k + p * panel_size + n * lanes);
#pragma GCC unroll 16
                for (int r = 0; r < R; ++r) sum[r][p][n] = fma(inputs[r], weight, sum[r][p][n]);
            }
    }
}

// sums[r][p][n] += sum over k of rows[r][k * stride] * panel p's [k][n], in ascending order of k; with Ahead asks for what
// is to come. Not inlined: where its caller has numbers to keep as well, sums would be moved to memory and back at every k.
template <int R, int P, int N, int stride = 1, class... Next>
[[gnu::noinline]] void add_products(vec (&sums)[R][P][N], const float* const (&rows)[R], const float* panel,
                                    int64_t panel_size, int64_t K, Next... ahead) {
    constexpr int together = 4;  // all besides multiply-adds, an eighth of what a k takes, is done once for so many
    vec sum[R][P][N];  // copies whose address nobody takes, so that they live in registers
    const float* row[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
        row[r] = rows[r];
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) sum[r][p][n] = sums[r][p][n];
    }
    int64_t k = 0;
    for (; k + together <= K; k += together, panel += together * N * lanes) {
        (ahead.ask(together), ...);
#pragma GCC unroll 4
        for (int i = 0; i < together; ++i) add_product<R, P, N, stride>(sum, row, k + i, panel + i * N * lanes, panel_size);
    }
    for (; k < K; ++k, panel += N * lanes) add_product<R, P, N, stride>(sum, row, k, panel, panel_size);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) sums[r][p][n] = sum[r][p][n];
}

// Which panel comes after a tile's own, and which part of that the tile is to ask for: `part` floats for each k, from
// `begin` 65536ths of a float for each k on.
struct Place {
    int64_t next, begin, part;

    // That part, of panels of `size` floats: while the rows pass over one panel, the next one comes near, evenly, so that
    // what came first is there still. The last panel of a pass is followed by the first, which the next step begins with.
    Ahead ahead(const float* panels, int64_t size, int64_t K) const { return {panels + next * size + (begin * K >> 16), part}; }
};

// Calls body.operator()<R, P>(first row, first panel, place) until `row_count` rows by the panels [begin, end) are
// covered; a panel serves all rows before the next one, so that it is read from the near cache. `all`: how many panels
// there are.
template <int N, int R, class Body>
UNROLLED_INLINE void cover_panels(int64_t row, int64_t begin, int64_t end, Place place, Body& body) {
    constexpr int P = tile_panels(R, N);
    int64_t panel = begin;
    for (; panel + P <= end; panel += P) body.template operator()<R, P>(row, panel, place);
    if constexpr (P > 1)
        for (; panel < end; ++panel) body.template operator()<R, 1>(row, panel, place);
}

template <int N, class Body>
UNROLLED_INLINE void cover(int64_t row_count, int64_t begin, int64_t end, int64_t all, Body&& body) {
    constexpr int most = tile_rows(N) < 9 ? tile_rows(N) : 9;  // enough independent sums
    if (row_count <= 0) return;
    const int64_t tiles = blocks_of(row_count, most), group = tiles > 1 ? tile_panels((most + 1) / 2, N) : 4;
    constexpr int64_t width = N * lanes;
    const int64_t fewest = row_count / tiles, longer = row_count % tiles;
    const int64_t part = blocks_of(width, tiles), each = (width << 16) / tiles;
    for (int64_t first = begin; first < end; first += group) {
        const int64_t past = first + group < end ? first + group : end;
        for (int64_t tile = 0, row = 0, rows; tile < tiles; ++tile, row += rows) {
            rows = fewest + (tile < longer);
            const Place place{past < all ? past : 0, tile * each, part};
            if (rows == 1) cover_panels<N, 1>(row, first, past, place, body);
            if constexpr (most >= 2) if (rows == 2) cover_panels<N, 2>(row, first, past, place, body);
            if constexpr (most >= 3) if (rows == 3) cover_panels<N, 3>(row, first, past, place, body);
            if constexpr (most >= 4) if (rows == 4) cover_panels<N, 4>(row, first, past, place, body);
            if constexpr (most >= 5) if (rows == 5) cover_panels<N, 5>(row, first, past, place, body);
            if constexpr (most >= 6) if (rows == 6) cover_panels<N, 6>(row, first, past, place, body);
            if constexpr (most >= 7) if (rows == 7) cover_panels<N, 7>(row, first, past, place, body);
            if constexpr (most >= 8) if (rows == 8) cover_panels<N, 8>(row, first, past, place, body);
            if constexpr (most >= 9) if (rows == 9) cover_panels<N, 9>(row, first, past, place, body);
        }
    }
}

}  // namespace unrolled::UNROLLED_ISA
