// What both directions of a sequence share: which rows step when, who computes what, in which chunks. It knows
// nothing of any cell's equations: those are the Cell classes of lstm.cpp, gru.cpp and rnn.cpp.
#pragma once

#include <algorithm>
#include <array>

#include "divide.h"
#include "linear.h"
#include "unrolled.h"

namespace unrolled::UNROLLED_ISA {

// A forward block holds `units` hidden units with all their gates side by side, so that a unit's gates are
// in registers together: one vector of units for G gates, four for a cell that has a single gate.
template <int G>
struct ForwardBlock {
    static constexpr int vectors = G == 1 ? 4 : 1;  // of units
    static constexpr int N = G * vectors;
    static constexpr int units = vectors * lanes;
};

// panel[k][v][g][lane] = weight_hh[g*H + unit][k] of the K columns, zero past H.
// With `pairs` a panel holds words, in the first half of its place.
template <int G>
UNROLLED_INLINE void pack_forward_block(const float* weight_hh, int64_t H, int64_t K, int64_t block, bool pairs, float* packed) {
    using Block = ForwardBlock<G>;
    constexpr int64_t width = Block::N * lanes;
    float* panel = packed + block * K * width;
    for (int64_t k = 0; k < K; k += packed_together) {
        const int64_t count = K - k < packed_together ? K - k : packed_together;
        for (int v = 0; v < Block::vectors; ++v)
            for (int g = 0; g < G; ++g) {
                const int64_t unit = block * Block::units + v * lanes;
                pack_vector(weight_hh + (g * H + unit) * K + k, K, H - unit, count, panel + k * width + (v * G + g) * lanes, width);
            }
    }
    if (pairs) pair_panel(panel, K, width);
}

// How a call is shared out. Either rows are stepped by themselves, a part of them through a whole chunk of steps by one
// thread, and nobody waits, or, when the weights are too large for one core's cache or the rows too few, the units of a
// step are divided and all meet after it; a step must have work enough to be worth that.
struct Team {
    int threads;
    bool by_units;

    Team(int wanted, int64_t B, int64_t blocks, size_t weight_bytes, int rows_of_a_tile) {
        constexpr size_t share_of_cache = 1 << 19, worth_a_meeting = 1 << 17;  // bytes, bytes read a step
        constexpr int worth_reading_all = 4;  // rows: fewer wait for weights from the second cache
        const bool enough_rows = B >= int64_t{wanted} * std::min(rows_of_a_tile, worth_reading_all);
        by_units = blocks >= wanted && B * weight_bytes >= worth_a_meeting && (!enough_rows || weight_bytes > share_of_cache);
        threads = static_cast<int>(by_units ? wanted : B < wanted ? B : wanted);
        if (threads <= 1) {  // a batch may have no rows
            threads = 1;
            by_units = false;
        }
    }
};

// Least parts in which work is divided: panels for so many rows, rows of the large products, of those of symbols, which are
// few, tiles of outputs of outer products, floats.
constexpr int64_t least_panels(int64_t rows) { return rows < 8 ? 8 : 2; }
constexpr int64_t least_rows = 128, least_symbols = 24, least_outputs = 16, least_floats = 1024;

// Steps are taken in chunks: few enough that what a chunk makes is still in the cache when the large products read
// it, and enough that these reach their rate.
UNROLLED_INLINE int64_t chunk_steps(int64_t T, int64_t B) {
    constexpr int64_t rows = 512;
    if (B == 0) return T;
    return blocks_of(rows, B) < T ? blocks_of(rows, B) : T;
}

// Whether weights are packed, a part at a time, by who multiplies with that part, where nobody else does and nobody again.
UNROLLED_INLINE bool packed_when_taken(const Steps& steps, const Team& team) {
    return steps.T == 1 && !steps.symbols && (team.by_units || team.threads == 1);
}

// Whether weights are read where they lie: those that are used once, for one row.
UNROLLED_INLINE bool read_in_place(const Steps& steps, const Team& team) {
    return packed_when_taken(steps, team) && steps.B == 1 && !steps.bfloat16;
}

// Rows that are stepped together: every `parts`-th of the order, so longest first, and the active ones in front.
struct Rows {
    const int64_t* order;  // [B]
    int64_t part, parts, count;

    Rows(const int64_t* order, int64_t B, int64_t part = 0, int64_t parts = 1)
        : order(order), part(part), parts(parts), count(B > part ? (B - part - 1) / parts + 1 : 0) {}
    int64_t operator[](int64_t i) const { return order[part + i * parts]; }
    int64_t active(const Steps& steps, int64_t t) const {
        if (!steps.lengths) return count;
        int64_t low = 0, high = count;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (steps.lengths[(*this)[middle]] > t) low = middle + 1;
            else high = middle;
        }
        return low;
    }
};

// Row numbers by descending length (a counting sort), into order [B]; `counts` holds T + 1 numbers.
[[gnu::noinline]] inline void order_rows(const Steps& steps, int64_t* order, int64_t* counts) {
    if (!steps.lengths) {
        for (int64_t b = 0; b < steps.B; ++b) order[b] = b;
        return;
    }
    for (int64_t t = 0; t <= steps.T; ++t) counts[t] = 0;
    for (int64_t b = 0; b < steps.B; ++b) ++counts[steps.lengths[b]];
    int64_t place = 0;
    for (int64_t t = steps.T; t >= 0; --t) {
        int64_t rows = counts[t];
        counts[t] = place;
        place += rows;
    }
    for (int64_t b = 0; b < steps.B; ++b) order[counts[steps.lengths[b]]++] = b;
}

// Calls body(rows, member) for the rows of a call: for all of them, where every thread has to divide each step with the
// others, or for parts, each with a member that is alone. All parts have been begun when it returns.
template <class Body>
UNROLLED_INLINE void divide_rows(const Team& team, crew::Member& member, const int64_t* order, int64_t B, Body body) {
    if (team.by_units) return body(Rows(order, B), member);
    divide_on(member, team.threads, 1, [&](int64_t first, int64_t past) {
        for (int64_t part = first; part < past; ++part) {
            crew::Member alone;
            body(Rows(order, B, part, team.threads), alone);
        }
    });
}

// Parts of the calling thread's scratch memory, each on a cache line of its own.
[[gnu::noinline]] inline void share_out_scratch(const int64_t* floats, size_t count, float** parts) {
    int64_t total = 0;
    for (size_t i = 0; i < count; ++i) total += blocks_of(floats[i], 16) * 16;
    float* next = scratch(total);
    for (size_t i = 0; i < count; ++i) {
        parts[i] = next;
        next += blocks_of(floats[i], 16) * 16;
    }
}
template <size_t N>
std::array<float*, N> working_memory(const int64_t (&floats)[N]) {
    std::array<float*, N> parts;
    share_out_scratch(floats, N, parts.data());
    return parts;
}

// So many things in working memory, in floats.
template <class Thing>
constexpr int64_t floats_of(int64_t n) { return blocks_of(n * sizeof(Thing), sizeof(float)); }
constexpr int64_t numbers(int64_t n) { return floats_of<int64_t>(n); }

UNROLLED_INLINE void zero(float* p, int64_t n) {
    for (int64_t i = 0; i < n; ++i) p[i] = 0.0f;
}
UNROLLED_INLINE void copy(const float* from, float* to, int64_t n) {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}

// A row of what may be null, which stands for zeros, or then what is given in its place.
UNROLLED_INLINE const float* row_of(const float* rows, int64_t b, int64_t width, const float* otherwise = nullptr) {
    return rows ? rows + b * width : otherwise;
}
UNROLLED_INLINE void copy_or_zero(const float* from, float* to, int64_t n) {
    if (from) copy(from, to, n);
    else zero(to, n);
}

}  // namespace unrolled::UNROLLED_ISA
