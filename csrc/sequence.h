// A cell run over a sequence, forward or backward: which rows step when, who computes what, in which tiles.
// It knows nothing of any cell's equations: those are the Cell classes of lstm.cpp, gru.cpp and rnn.cpp.
#pragma once

#include <omp.h>

#include "tile.h"
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

// A backward block holds the sums for 4 vectors of hidden units over all gates.
constexpr int backward_vectors = 4;
constexpr int backward_units = backward_vectors * lanes;

// panel[k][v][g][lane] = weight_hh[g*H + unit][k], zero past H.
template <int G>
UNROLLED_INLINE void pack_forward_block(const float* weight_hh, int64_t H, int64_t block, float* packed) {
    using Block = ForwardBlock<G>;
    float* panel = packed + block * H * Block::N * lanes;
    for (int v = 0; v < Block::vectors; ++v)
        for (int g = 0; g < G; ++g)
            for (int lane = 0; lane < lanes; ++lane) {
                int64_t unit = block * Block::units + v * lanes + lane;
                float* out = panel + (v * G + g) * lanes + lane;
                const float* row = weight_hh + (g * H + unit) * H;
                for (int64_t k = 0; k < H; ++k) out[k * Block::N * lanes] = unit < H ? row[k] : 0.0f;
            }
}

// panel[k][v][lane] = weight_hh[k][unit], zero past H; k runs over all gates' rows.
template <int G>
UNROLLED_INLINE void pack_backward_block(const float* weight_hh, int64_t H, int64_t block, float* packed) {
    float* panel = packed + block * G * H * backward_units;
    int64_t first = block * backward_units;
    for (int64_t k = 0; k < G * H; ++k)
        for (int v = 0; v < backward_vectors; ++v) {
            int64_t left = H - first - v * lanes;
            int n = left < 0 ? 0 : left < lanes ? static_cast<int>(left) : lanes;
            store(panel + (k * backward_vectors + v) * lanes, load(weight_hh + k * H + first + v * lanes, n));
        }
}

// How a call is shared out. Either each thread steps rows of its own through the whole sequence and nobody
// waits, or, when the weights are too large for one core's cache or the rows too few, each thread keeps the
// weights of its own units and all meet after every step; a step must have work enough to be worth that.
struct Team {
    int threads;
    bool by_units;

    Team(int wanted, int64_t B, int64_t blocks, size_t weight_bytes, int rows_of_a_tile) {
        constexpr size_t share_of_cache = 1 << 19, worth_a_meeting = 1 << 17;  // bytes, bytes read a step
        bool enough_rows = B >= int64_t{wanted} * rows_of_a_tile;
        by_units = blocks >= wanted && B * weight_bytes >= worth_a_meeting && (!enough_rows || weight_bytes > share_of_cache);
        threads = static_cast<int>(by_units ? wanted : B < wanted ? B : wanted);
        if (threads == 1) by_units = false;
    }
};

// The rows a thread steps: every `ranks`-th of the order, so longest first, and the active ones in front.
struct Rows {
    const int64_t* order;  // [B]
    int64_t rank, ranks, count;

    Rows(const int64_t* order, int64_t B, int64_t rank, int64_t ranks)
        : order(order), rank(rank), ranks(ranks), count(B > rank ? (B - rank - 1) / ranks + 1 : 0) {}
    int64_t operator[](int64_t i) const { return order[rank + i * ranks]; }
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
UNROLLED_INLINE void order_rows(const Steps& steps, int64_t* order, int64_t* counts) {
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

// One call's working memory: packed weights (when the caller brought none), a row of zeros that stands for
// an absent state, and the row order.
struct Workspace {
    float* packed;
    float* zeros;
    int64_t* order;  // [B]

    Workspace(const Steps& steps, int64_t packed_floats, int64_t zero_floats) {
        const int64_t zero_size = blocks_of(zero_floats, 16) * 16, numbers = steps.B + steps.T + 1;
        packed = scratch(packed_floats + zero_size + 2 * numbers);
        zeros = packed + packed_floats;
        order = reinterpret_cast<int64_t*>(zeros + zero_size);
        for (int64_t i = 0; i < zero_floats; ++i) zeros[i] = 0.0f;
        order_rows(steps, order, order + steps.B);
    }
};

UNROLLED_INLINE void zero(float* p, int64_t n) {
    for (int64_t i = 0; i < n; ++i) p[i] = 0.0f;
}

// Forward. A Cell has `gates` (G), its `args`, and
//   start(g, t, b, u, n)                gate g's sum before the product, for n units from u on
//   finish(sums[G], state, t, b, u, n)  applies the gates and stores; `state` is the row's h before the step
//   clear(t, b)                         zeroes the outputs of a step not taken
template <class Cell>
void run_forward(const Steps& steps, const Cell& cell, int wanted_threads) {
    constexpr int G = Cell::gates;
    using Block = ForwardBlock<G>;
    constexpr int N = Block::N;
    const int64_t B = steps.B, H = steps.H, blocks = blocks_of(H, Block::units), panel_size = H * N * lanes;
    const float* packed = cell.args.packed;
    Workspace work(steps, packed ? 0 : blocks * panel_size, H);
    const Team team(wanted_threads, B, blocks, blocks * panel_size * sizeof(float), tile_rows(N));

#pragma omp parallel num_threads(team.threads) if (team.threads > 1)
    {
        FlushDenormals flush;
        const int rank = omp_get_thread_num(), ranks = omp_get_num_threads();
        const int64_t first_block = team.by_units ? blocks * rank / ranks : 0;
        const int64_t past_block = team.by_units ? blocks * (rank + 1) / ranks : blocks;
        if (!packed) {
            for (int64_t block = blocks * rank / ranks; block < blocks * (rank + 1) / ranks; ++block)
                pack_forward_block<G>(cell.args.weight_hh, H, block, work.packed);
        }
        const Rows rows(work.order, B, team.by_units ? 0 : rank, team.by_units ? 1 : ranks);
#pragma omp barrier
        const float* weights = packed ? packed : work.packed;
        for (int64_t i = 0; i < steps.T; ++i) {
            const int64_t t = steps.reverse ? steps.T - 1 - i : i;
            const int64_t active = rows.active(steps, t);
            cover<N>(active, first_block, past_block, [&]<int R, int P>(int64_t row, int64_t block) {
                const float* state[R];
                vec sums[R][P][N];
                for (int r = 0; r < R; ++r) {
                    const int64_t b = rows[row + r];
                    state[r] = steps.reset(t, b)   ? work.zeros
                               : steps.first(t, b) ? cell.args.h0 + b * H
                                                   : cell.args.h + (steps.before(t) * B + b) * H;
#pragma GCC unroll 4
                    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                        for (int v = 0; v < N; ++v) {
                            const int64_t u = (block + p) * Block::units + v / G * lanes;
                            sums[r][p][v] = cell.start(v % G, t, b, u, H - u);
                        }
                }
                add_products<R, P, N>(sums, state, weights + block * panel_size, panel_size, H);
                for (int r = 0; r < R; ++r) {
                    const int64_t b = rows[row + r];
#pragma GCC unroll 4
                    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                        for (int v = 0; v < Block::vectors; ++v) {
                            const int64_t u = (block + p) * Block::units + v * lanes;
                            if (u < H) cell.finish(&sums[r][p][v * G], state[r], t, b, u, H - u);
                        }
                }
            });
            if (rank == 0 || !team.by_units)
                for (int64_t row = active; row < rows.count; ++row) cell.clear(t, rows[row]);
            if (team.by_units) {
#pragma omp barrier
            }
        }
    }
}

// Backward. From the last step consumed to the first, the gradient at a step's h is grad_h plus what the
// step after it sends back, grad_gates[after] times weight_hh; `Cell::finish` turns it into this step's
// grad_gates. One more product at the end gives the gradient at the initial state.
template <class Cell>
void run_backward(const Steps& steps, const Cell& cell, int wanted_threads) {
    constexpr int G = Cell::gates, N = backward_vectors;
    const int64_t B = steps.B, H = steps.H, K = G * H;
    const int64_t blocks = blocks_of(H, backward_units), panel_size = K * backward_units;
    Workspace work(steps, blocks * panel_size, K);
    const Team team(wanted_threads, B, blocks, blocks * panel_size * sizeof(float), tile_rows(N));

#pragma omp parallel num_threads(team.threads) if (team.threads > 1)
    {
        FlushDenormals flush;
        const int rank = omp_get_thread_num(), ranks = omp_get_num_threads();
        const int64_t first_block = team.by_units ? blocks * rank / ranks : 0;
        const int64_t past_block = team.by_units ? blocks * (rank + 1) / ranks : blocks;
        for (int64_t block = blocks * rank / ranks; block < blocks * (rank + 1) / ranks; ++block)
            pack_backward_block<G>(cell.args.weight_hh, H, block, work.packed);
        const Rows rows(work.order, B, team.by_units ? 0 : rank, team.by_units ? 1 : ranks);
#pragma omp barrier
        // What flows back into step t of row b (t = -1 stands for the initial state) for the units of a block.
        auto flow_back = [&](int64_t count, auto step_after, auto use) {
            cover<N>(count, first_block, past_block, [&]<int R, int P>(int64_t row, int64_t block) {
                const float* gradients[R];
                vec sums[R][P][N] = {};
                for (int r = 0; r < R; ++r) {
                    const int64_t b = rows[row + r], after = step_after(b);
                    const bool cut = after < 0 || steps.reset(after, b);
                    gradients[r] = cut ? work.zeros : cell.recurrent_gradient() + (after * B + b) * K;
                }
                add_products<R, P, N>(sums, gradients, work.packed + block * panel_size, panel_size, K);
                for (int r = 0; r < R; ++r)
                    for (int p = 0; p < P; ++p)
                        for (int v = 0; v < N; ++v) {
                            const int64_t u = (block + p) * backward_units + v * lanes;
                            if (u < H) use(rows[row + r], u, H - u, sums[r][p][v]);
                        }
            });
        };
        for (int64_t i = 0; i < steps.T; ++i) {
            const int64_t t = steps.reverse ? i : steps.T - 1 - i;
            const int64_t active = rows.active(steps, t);
            flow_back(
                active, [&](int64_t b) { return steps.last(t, b) ? -1 : steps.after(t); },
                [&](int64_t b, int64_t u, int64_t n, vec sum) { cell.finish(sum, t, b, u, n); });
            if (rank == 0 || !team.by_units)
                for (int64_t row = active; row < rows.count; ++row) cell.clear(t, rows[row]);
            if (team.by_units) {
#pragma omp barrier
            }
        }
        flow_back(
            rows.count,
            [&](int64_t b) { return steps.length(b) == 0 ? -1 : steps.reverse ? steps.length(b) - 1 : 0; },
            [&](int64_t b, int64_t u, int64_t n, vec sum) { cell.finish_initial(sum, b, u, n); });
    }
}

}  // namespace unrolled::UNROLLED_ISA
