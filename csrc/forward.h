// A cell run over a sequence, forward. A Cell has `gates` (G), its `steps` and `args`, and
//   start(g, in, u, n)                     gate g's sum before the product, for n units from u on; `in` is the row's
//                                          share of the input, [G*H]
//   finish(sums[G], in, state, t, b, u, n) applies the gates, stores what else is to be and returns h; `state` is the
//                                          row's h before the step
//   clear(t, b)                            zeroes the outputs of a step not taken, but h
//   kept()                                 where the input's share of a step may stand until `finish` puts what
//                                          it keeps in its place: [T, B, kept_width()]; or null
//   may_project                            whether that h may be multiplied by a weight_hr [P, H] to be the state, which
//                                          args.variant says; then
//   finish_projected(h, state, t, b, u, n) gives the state for n of its P units from u on
//   normalised                             whether products are normalised, which takes all units of a row; then
//   normalise_input(product, share)        makes the row's share of the input of its product with weight_ih, and
//   finish_row(in, product, state, t, b, h) does for all units of a row, of its product with weight_hh, what `start` and
//                                          `finish` do for some; `state` is null where h is to be projected. The products
//                                          [G*H] stand at kept_product and kept_input of what is kept, if it is
#pragma once

#include "sequence.h"

namespace unrolled::UNROLLED_ISA {

// Working memory of a forward run, all threads together.
struct ForwardMemory {
    float* recurrent;        // packed weights, as ForwardBlock says
    float* input;            // packed weights of the input
    float* projection;       // packed weights of the projection
    float* unprojected;      // [B, H]: h before the projection
    float* sums;             // [chunk, B, G*H]: the input's share, where it cannot stand in what is kept
    float* products;         // [B, G*H]: what is to be normalised, likewise
    const float* zeros;      // [P]
    const float** inputs;    // rows to be multiplied, of a chunk or of a step, `limit` for each thread
    float** outputs;         // where the products with them go
    int64_t limit;
};

template <class Cell>
class ForwardRun {
  public:
    static constexpr int G = Cell::gates;
    using Block = ForwardBlock<G>;
    static constexpr int N = Block::N;

    ForwardRun(const Cell& cell, const ForwardMemory& memory, const Share& share)
        : cell_(cell), steps_(cell.steps), memory_(memory), share_(share), H_(cell.steps.H), P_(cell.steps.P),
          panel_size_(P_ * N * lanes), projected_(projected(cell)), recurrent_(memory.recurrent), inputs_(memory.inputs + share.rank * memory.limit),
          outputs_(memory.outputs + share.rank * memory.limit) {}

    static bool projected(const Cell& cell) {
        if constexpr (Cell::may_project) return cell.args.variant.weight_hr;
        else return false;
    }

    void pack() const {
        const int64_t blocks = blocks_of(H_, Block::units), panels = blocks_of(G * H_, panel_width), D = cell_.args.D;
        if constexpr (Cell::normalised)
            pack_rows(cell_.args.weight_hh, G * H_, P_, share_.first(panels), share_.past(panels), memory_.recurrent);
        else
            for (int64_t block = share_.first(blocks); block < share_.past(blocks); ++block)
                pack_forward_block<G>(cell_.args.weight_hh, H_, P_, block, memory_.recurrent);
        if (cell_.args.weight_ih)
            pack_rows(cell_.args.weight_ih, G * H_, D, share_.first(panels), share_.past(panels), memory_.input);
        if constexpr (Cell::may_project)
            if (const float* weight_hr = cell_.args.variant.weight_hr) {
                const int64_t of_projection = blocks_of(P_, panel_width);
                pack_rows(weight_hr, P_, H_, share_.first(of_projection), share_.past(of_projection),
                             memory_.projection);
            }
    }

    // The steps [begin, end), counted in the order in which they are consumed.
    void chunk(int64_t begin, int64_t end) const {
        if (cell_.args.weight_ih) project(begin, end);
        for (int64_t i = begin; i < end; ++i) step(steps_.reverse ? steps_.T - 1 - i : i, i - begin);
    }

  private:
    // The row's share of the input at step t, the chunk's step `slot`.
    float* sums_of(int64_t t, int64_t b, int64_t slot) const {
        if (cell_.kept()) return cell_.kept() + (t * steps_.B + b) * cell_.kept_width();
        return memory_.sums + (slot * steps_.B + b) * G * H_;
    }
    const float* share_of_input(int64_t t, int64_t b, int64_t slot) const {
        return cell_.args.weight_ih ? sums_of(t, b, slot) : cell_.args.x + (t * steps_.B + b) * G * H_;
    }

    void project(int64_t begin, int64_t end) const {
        const int64_t D = cell_.args.D;
        int64_t count = 0;
        for (int64_t i = begin; i < end; ++i) {
            const int64_t t = steps_.reverse ? steps_.T - 1 - i : i, active = share_.rows.active(steps_, t);
            for (int64_t row = 0; row < active; ++row, ++count) {
                const int64_t b = share_.rows[row];
                inputs_[count] = cell_.args.x + (t * steps_.B + b) * D;
                outputs_[count] = sums_of(t, b, i - begin);
            }
        }
        const int64_t first = share_.first_of_units(count), past = share_.past_of_units(count);
        const float* bias = cell_.args.bias;
        int64_t product = 0;  // where products stand behind the shares that are made of them
        if constexpr (Cell::normalised) {
            bias = nullptr;
            if (cell_.kept()) product = cell_.kept_input();
            for (int64_t i = first; i < past; ++i) outputs_[i] += product;
        }
        multiply_rows(inputs_ + first, outputs_ + first, past - first, memory_.input, bias, G * H_, D, 0,
                      blocks_of(G * H_, panel_width));
        if constexpr (Cell::normalised)
            for (int64_t i = first; i < past; ++i) cell_.normalise_input(outputs_[i], outputs_[i] - product);
        share_.meet();
    }

    void step(int64_t t, int64_t slot) const {
        const int64_t B = steps_.B, active = share_.rows.active(steps_, t);
        if constexpr (Cell::normalised) take_rows(t, slot, active);
        else take_units(t, slot, active);
        if constexpr (Cell::may_project)
            if (projected_) project_state(t, active);
        if (share_.clears())
            for (int64_t row = active; row < share_.rows.count; ++row) {
                zero(cell_.args.h + (t * B + share_.rows[row]) * P_, P_);
                cell_.clear(t, share_.rows[row]);
            }
        share_.meet();
    }

    // This thread's units of the first `active` rows, in tiles.
    UNROLLED_INLINE_MEMBER void take_units(int64_t t, int64_t slot, int64_t active) const {
        const int64_t H = H_, blocks = blocks_of(H, Block::units);
        cover<N>(active, share_.first_of_units(blocks), share_.past_of_units(blocks),
                 [&]<int R, int P>(int64_t row, int64_t block, Place place) {
            const float* state[R];
            const float* in[R];
            vec sums[R][P][N];
            for (int r = 0; r < R; ++r) {
                const int64_t b = share_.rows[row + r], later = row + R + r;
                in[r] = share_of_input(t, b, slot);
                state[r] = state_before(t, b);
                if (later < active) fetch(t, share_.rows[later], slot, block * Block::units);
                else fetch(t, share_.rows[later - active], slot, (block + P) * Block::units);
#pragma GCC unroll 4
                for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                    for (int v = 0; v < N; ++v) {
                        const int64_t u = (block + p) * Block::units + v / G * lanes;
                        of_units(H - u, [&](int64_t n) UNROLLED_INLINE_BODY { sums[r][p][v] = cell_.start(v % G, in[r], u, n); });
                    }
            }
            add_products<R, P, N>(sums, state, recurrent_ + block * panel_size_, panel_size_, P_,
                                  place.ahead(recurrent_, panel_size_, P_));
            for (int r = 0; r < R; ++r) {
                const int64_t b = share_.rows[row + r];
                float* h = h_now(t, b);
#pragma GCC unroll 4
                for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                    for (int v = 0; v < Block::vectors; ++v) {
                        const int64_t u = (block + p) * Block::units + v * lanes;
                        if (u >= H) break;
                        of_units(H - u, [&](int64_t n) UNROLLED_INLINE_BODY {
                            store(h + u, cell_.finish(&sums[r][p][v * G], in[r], state[r], t, b, u, n), n);
                        });
                    }
            }
        });
    }

    // Asks for what a row of a tile to come reads and writes, which lies too far away for the processor to see it coming.
    void fetch(int64_t t, int64_t b, int64_t slot, int64_t u) const {
        const float* in = share_of_input(t, b, slot);
#pragma GCC unroll 4
        for (int g = 0; g < G; ++g) __builtin_prefetch(in + g * H_ + u);
        __builtin_prefetch(h_now(t, b) + u, 1);
        if constexpr (requires { cell_.c_before(t, b); }) {
            if (const float* c = cell_.c_before(t, b)) __builtin_prefetch(c + u);
            __builtin_prefetch(cell_.c_now(t, b) + u, 1);
        }
    }

    // This thread's units of the products of the first `active` rows, then, of its rows, all units.
    void take_rows(int64_t t, int64_t slot, int64_t active) const {
        for (int64_t row = 0; row < active; ++row) {
            const int64_t b = share_.rows[row];
            inputs_[row] = state_before(t, b);
            outputs_[row] = cell_.kept() ? sums_of(t, b, slot) + cell_.kept_product() : memory_.products + b * G * H_;
        }
        const int64_t panels = blocks_of(G * H_, panel_width);
        multiply_rows(inputs_, outputs_, active, recurrent_, nullptr, G * H_, P_, share_.first_of_units(panels),
                      share_.past_of_units(panels));
        share_.meet();
        for (int64_t row = share_.first_of_units(active); row < share_.past_of_units(active); ++row) {
            const int64_t b = share_.rows[row];
            cell_.finish_row(share_of_input(t, b, slot), outputs_[row], projected_ ? nullptr : inputs_[row], t, b, h_now(t, b));
        }
    }

    // Where a step's h is to stand.
    float* h_now(int64_t t, int64_t b) const {
        return projected_ ? memory_.unprojected + b * H_ : cell_.args.h + (t * steps_.B + b) * H_;
    }
    // The row's h as step t sees it.
    const float* state_before(int64_t t, int64_t b) const {
        return steps_.reset(t, b)   ? memory_.zeros
               : steps_.first(t, b) ? cell_.args.h0 + b * P_
                                    : cell_.args.h + (steps_.before(t) * steps_.B + b) * P_;
    }

    // The states of the first `active` rows, from all of their units.
    void project_state(int64_t t, int64_t active) const {
        share_.meet();
        for (int64_t row = 0; row < active; ++row) {
            const int64_t b = share_.rows[row];
            inputs_[row] = memory_.unprojected + b * H_;
            outputs_[row] = cell_.args.h + (t * steps_.B + b) * P_;
        }
        const int64_t panels = blocks_of(P_, panel_width);
        const int64_t first = share_.first_of_units(panels), past = share_.past_of_units(panels);
        multiply_rows(inputs_, outputs_, active, memory_.projection, nullptr, P_, H_, first, past);
        const int64_t past_unit = past * panel_width < P_ ? past * panel_width : P_;
        for (int64_t row = 0; row < active; ++row)
            for (int64_t u = first * panel_width; u < past_unit; u += lanes) {
                const int64_t b = share_.rows[row], n = P_ - u;
                float* h = outputs_[row] + u;
                store(h, cell_.finish_projected(load(h, n), state_before(t, b) + u, t, b, u, n), n);
            }
    }

    const Cell& cell_;
    const Steps& steps_;
    const ForwardMemory& memory_;
    const Share& share_;
    const int64_t H_, P_, panel_size_;
    const bool projected_;
    const float* recurrent_;
    const float** inputs_;
    float** outputs_;
};

template <class Cell>
void run_forward(const Cell& cell, int wanted_threads) {
    constexpr int G = Cell::gates;
    using Block = ForwardBlock<G>;
    const Steps& steps = cell.steps;
    const int64_t T = steps.T, B = steps.B, H = steps.H, P = steps.P, D = cell.args.D;
    const int64_t blocks = blocks_of(H, Block::units);
    const int64_t packed = Cell::normalised ? packed_columns_size(G * H, P) : blocks * Block::units * G * P;
    const bool projected = ForwardRun<Cell>::projected(cell);
    const int64_t of_projection = projected ? packed_columns_size(P, H) : 0;
    const bool projects = cell.args.weight_ih;
    const Team team(wanted_threads, B, blocks, (packed + of_projection) * sizeof(float), tile_rows(Block::N));
    const int64_t size = chunk_steps(T, B), limit = projects || projected || Cell::normalised ? size * B : 0;
    auto [recurrent, input, projection, unprojected, sums, products, zeros, order, inputs, outputs] = working_memory(
        {packed, projects ? packed_columns_size(G * H, D) : 0, of_projection, projected ? B * H : 0,
         projects && !cell.kept() ? limit * G * H : 0, Cell::normalised && !cell.kept() ? B * G * H : 0, P, numbers(B + T + 1), numbers(team.threads * limit),
         numbers(team.threads * limit)});
    zero(zeros, P);
    order_rows(steps, reinterpret_cast<int64_t*>(order), reinterpret_cast<int64_t*>(order) + B);
    const ForwardMemory memory{recurrent, input, projection, unprojected, sums, products, zeros, reinterpret_cast<const float**>(inputs),
                               reinterpret_cast<float**>(outputs), limit};
#pragma omp parallel num_threads(team.threads) if (team.threads > 1)
    {
        FlushDenormals flush;
        const Share share(reinterpret_cast<const int64_t*>(order), B, team.by_units);
        const ForwardRun<Cell> run(cell, memory, share);
        run.pack();
#pragma omp barrier
        for (int64_t begin = 0; begin < T; begin += size) run.chunk(begin, begin + size < T ? begin + size : T);
    }
}

}  // namespace unrolled::UNROLLED_ISA
