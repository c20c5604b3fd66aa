// Packed weights and the register tile: every product of the engine is made of these.
//
// A panel holds the weights of one block of outputs, N vectors wide:
//
//     panel[k][n][lane]        k = 0 .. K-1 (the index summed over)
//
// so that step k of the sum reads N vectors one after the other and each is used for R rows at once. The
// sums of R rows by P panels stay in registers for the whole of K.
#pragma once

#include "pairs.h"

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
    const int sums = registers == 32 ? 16 : 8;
    int panels = sums / (R * N);
    return panels < 1 ? 1 : panels > 4 ? 4 : panels;
}

// Asks for n floats before they are used, or written: a processor sees neither coming where they lie far from what came
// before, and stores to lines that are not near wait for one another. The last may stand on a line more, where rows are no
// whole lines.
constexpr int64_t floats_of_a_line = 16;
UNROLLED_INLINE void ask(const float* p, int64_t n) {
    for (int64_t i = 0; i < n; i += floats_of_a_line) __builtin_prefetch(p + i);
    __builtin_prefetch(p + n - 1);
}
UNROLLED_INLINE void ask_to_write(const float* p, int64_t n) {
    for (int64_t i = 0; i < n; i += floats_of_a_line) __builtin_prefetch(p + i, 1);
    __builtin_prefetch(p + n - 1, 1);
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

// One k of the sum below, whose weights stand at `offset` in each panel.
template <int R, int P, int N, bool pairs>
UNROLLED_INLINE void add_product(vec (&sum)[R][P][N], const float* const (&rows)[R], int64_t k, const float* const (&panels)[P],
                                 int64_t offset) {
    if constexpr (R * P * N + P * N < registers) {
        vec weights[P][N];
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) weights[p][n] = load(panels[p] + offset + n * lanes);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            const vec input = splat(rows[r][k]);
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                for (int n = 0; n < N; ++n) sum[r][p][n] = multiply_add<pairs>(input, weights[p][n], sum[r][p][n]);
        }
    } else {
        vec inputs[R];
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) inputs[r] = splat(rows[r][k]);
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) {
                const vec weight = load(panels[p] + offset + n * lanes);
#pragma GCC unroll 16
                for (int r = 0; r < R; ++r) sum[r][p][n] = multiply_add<pairs>(inputs[r], weight, sum[r][p][n]);
            }
    }
}

// sums[r][p][n] += sum over k of rows[r][k] * panel p's [k][n], in ascending order of k; with Ahead asks for what
// is to come. Not inlined: where its caller has numbers to keep as well, sums would be moved to memory and back at every k.
// With `pairs` rows and panels hold words of two numbers each (see pairs.h), and K is how many words are summed over.
template <int R, int P, int N, bool pairs = false, class... Next>
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
    const float* panels[P];
    const auto go_on = [&](int ks) UNROLLED_INLINE_BODY {
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) {
            panels[p] += ks * N * lanes;
            if constexpr (P > 1) asm("" : "+r"(panels[p]));  // or the compiler keeps many offsets from the first, on the stack
        }
    };
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) panels[p] = panel + p * panel_size;
    go_on(0);
    int64_t k = 0;
    for (; k + together <= K; k += together) {
        (ahead.ask(together), ...);
#pragma GCC unroll 4
        for (int i = 0; i < together; ++i) add_product<R, P, N, pairs>(sum, row, k + i, panels, i * N * lanes);
        go_on(together);
    }
    for (; k < K; ++k) {
        add_product<R, P, N, pairs>(sum, row, k, panels, 0);
        go_on(1);
    }
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

// A tile among those that pass over a group of panels, one after the other.
struct Turn {
    int64_t tile, tiles;
    int64_t past;  // the group's last panel, plus one
};

// Calls body.operator()<R, P>(first row, first panel, turn) until `row_count` rows by the panels [begin, end) are covered in
// tiles of Shape::most_rows rows at most, as equal as can be, by Shape::panels(R) panels, or by two of what is left, if
// Shape::by_two(R), or by one; `group` panels serve all rows before the next ones, so that they are read from the near cache.
template <class Shape, int R, class Body>
UNROLLED_INLINE void cover_group(int64_t row, int64_t begin, Turn turn, Body& body) {
    constexpr int P = Shape::panels(R);
    int64_t panel = begin;
    for (; panel + P <= turn.past; panel += P) body.template operator()<R, P>(row, panel, turn);
    if constexpr (Shape::by_two(R))
        for (; panel + 2 <= turn.past; panel += 2) body.template operator()<R, 2>(row, panel, turn);
    if constexpr (P > 1)
        for (; panel < turn.past; ++panel) body.template operator()<R, 1>(row, panel, turn);
}

template <class Shape, int R, class Body>
UNROLLED_INLINE void cover_rows(int64_t rows, int64_t row, int64_t begin, Turn turn, Body& body) {
    if (rows == R) cover_group<Shape, R>(row, begin, turn, body);
    else if constexpr (R > 1) cover_rows<Shape, R - 1>(rows, row, begin, turn, body);
}

template <class Shape, class Body>
UNROLLED_INLINE void cover_tiles(int64_t row_count, int64_t begin, int64_t end, int64_t group, Body&& body) {
    if (row_count <= 0) return;
    const int64_t tiles = blocks_of(row_count, Shape::most_rows), fewest = row_count / tiles, longer = row_count % tiles;
    for (int64_t first = begin; first < end; first += group) {
        Turn turn{0, tiles, first + group < end ? first + group : end};
        for (int64_t row = 0, rows; turn.tile < tiles; ++turn.tile, row += rows) {
            rows = fewest + (turn.tile < longer);
            cover_rows<Shape, Shape::most_rows>(rows, row, first, turn, body);
        }
    }
}

// Tiles of add_products.
template <int N>
struct FloatTiles {
    static constexpr int most_rows = tile_rows(N) < 9 ? tile_rows(N) : 9;  // enough independent sums
    static constexpr int panels(int R) { return tile_panels(R, N); }
    static constexpr bool by_two(int) { return false; }
};

// Calls body.operator()<R, P>(first row, first panel, place) for all tiles; `all`: how many panels there are.
template <int N, class Body>
UNROLLED_INLINE void cover(int64_t row_count, int64_t begin, int64_t end, int64_t all, Body&& body) {
    using Shape = FloatTiles<N>;
    const int64_t group = row_count > Shape::most_rows ? Shape::panels((Shape::most_rows + 1) / 2) : 4;
    constexpr int64_t width = N * lanes;
    cover_tiles<Shape>(row_count, begin, end, group, [&]<int R, int P>(int64_t row, int64_t panel, Turn turn) UNROLLED_INLINE_BODY {
        const Place place{turn.past < all ? turn.past : 0, turn.tile * ((width << 16) / turn.tiles), blocks_of(width, turn.tiles)};
        body.template operator()<R, P>(row, panel, place);
    });
}

}  // namespace unrolled::UNROLLED_ISA
