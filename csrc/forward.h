// A cell run over a sequence, forward. A Cell has `gates` (G), its `steps` and `args`, and
//   shared_biases                          how many gates, from the first, have both biases in their sums; the others' have
//                                          bias_ih alone
//   Row, row(common, t, b, zeros)          what step t of row b reads and writes: a ForwardRow, and the cell's own; a state
//                                          that is zero may be `zeros`
//   start(g, row, u, n)                    gate g's sum before the product, for n units from u on
//   finish(sums[rows][G], rows, u, n)      applies the gates of some rows and stores h, and what else is to be
//   clear(t, b)                            zeroes the outputs of a step not taken, but h
//   kept()                                 where the input's share of a step may stand until `finish` puts what
//                                          it keeps in its place: [T, B, kept_width()]; or null
//   may_project                            whether that h may be multiplied by a weight_hr [P, H] to be the state, which
//                                          args.variant says; then
//   finish_projected(h, state, t, b, u, n) gives the state for n of its P units from u on
//   normalised                             whether products are normalised, which takes all units of a row; then
//   normalise_input(product, biases, share) makes the row's share of the input of its product with weight_ih, and
//   finish_row(in, product, state, t, b, h) does for all units of a row, of its product with weight_hh, what `start` and
//                                          `finish` do for some; `state` is null where h is to be projected. The products
//                                          [G*H] stand at kept_product and kept_input of what is kept, if it is
#pragma once

#include "sequence.h"

namespace unrolled::UNROLLED_ISA {

struct ForwardRow {
    const float* in;     // the row's share of the input [G*H]
    const float* state;  // its h before the step [P]
    float* h;            // [H]: where h is to stand
};

// Working memory of a forward run, all threads together.
template <class Cell>
struct ForwardMemory {
    float* recurrent;        // packed weights, as ForwardBlock says
    float* input;            // packed weights of the input
    const float* biases;     // [G*H]: what is added to products with them
    float* projection;       // packed weights of the projection
    float* of_symbols;       // [V, G*H]: the symbols' shares of the gates; or null: there are none, or they stand in x
    float* unprojected;      // [B, H]: h before the projection
    float* sums;             // [chunk, B, G*H]: the input's share, where it cannot stand in what is kept
    float* products;         // [B, G*H]: what is to be normalised, likewise
    const float* zeros;      // [the wider of H and P]
    typename Cell::Row* rows;  // [threads, B]
    const int64_t* order;    // [B]: see Rows
    const float** inputs;    // rows to be multiplied, of a chunk or of a step, `limit` for each thread
    float** outputs;         // where the products with them go
    int64_t limit;
    float* area;             // [threads, area_floats]: words of rows, where products are of bfloat16
    int64_t area_floats;
};

template <class Cell>
class ForwardRun {
  public:
    static constexpr int G = Cell::gates;
    using Block = ForwardBlock<G>;
    static constexpr int N = Block::N;

    ForwardRun(const Cell& cell, const ForwardMemory<Cell>& memory, const Team& team, crew::Member& member)
        : cell_(cell), steps_(cell.steps), memory_(memory), team_(team), member_(member), H_(cell.steps.H), P_(cell.steps.P),
          panel_size_(P_ * N * lanes), projected_(projected(cell)), pairs_(steps_.bfloat16), recurrent_(memory.recurrent),
          rows_(memory.rows + member.index() * steps_.B), inputs_(memory.inputs + member.index() * memory.limit),
          outputs_(memory.outputs + member.index() * memory.limit),
          area_(memory.area + member.index() * memory.area_floats) {}

    static bool projected(const Cell& cell) {
        if constexpr (Cell::may_project) return cell.args.variant.weight_hr;
        else return false;
    }

    void pack() const {
        const int64_t blocks = blocks_of(H_, Block::units), panels = blocks_of(G * H_, panel_width), D = cell_.args.D;
        if constexpr (Cell::normalised)
            divide_on(member_, panels, 1, [&](int64_t first, int64_t past) {
                pack_rows(cell_.args.weight_hh, G * H_, P_, first, past, pairs_, memory_.recurrent);
            });
        else if (!packs_when_taken())
            divide_on(member_, blocks, 1, [&](int64_t first, int64_t past) { pack_units(first, past); });
        if (cell_.args.weight_ih && !packs_when_taken())
            divide_on(member_, panels, 1, [&](int64_t first, int64_t past) { pack_input(first, past); });
        if constexpr (Cell::may_project)
            if (const float* weight_hr = cell_.args.variant.weight_hr)
                divide_on(member_, blocks_of(P_, panel_width), 1, [&](int64_t first, int64_t past) {
                    pack_rows(weight_hr, P_, H_, first, past, pairs_, memory_.projection);
                });
        member_.meet();
        if (memory_.of_symbols) {
            for (int64_t symbol = 0; symbol < steps_.V; ++symbol) {
                inputs_[symbol] = cell_.args.x + symbol * D;
                outputs_[symbol] = memory_.of_symbols + symbol * G * H_;
            }
            multiply_inputs(steps_.V, least_symbols);
        }
    }

    // The steps [begin, end), counted in the order in which they are consumed.
    void chunk(int64_t begin, int64_t end) const {
        const bool projects = cell_.args.weight_ih && !memory_.of_symbols;
        // Whoever is done with a chunk's rows makes the products of the next chunk, where these have memory of their own.
        if (!projects || !cell_.kept()) member_.meet();
        if (projects) project(begin, end);
        divide_rows(team_, member_, memory_.order, steps_.B, [&](const Rows& rows, crew::Member& member) {
            for (int64_t i = begin; i < end; ++i) step(rows, member, steps_.reverse ? steps_.T - 1 - i : i, i - begin);
        });
    }

  private:
    bool packs_when_taken() const { return !Cell::normalised && packed_when_taken(steps_, team_); }
    bool reads_in_place() const { return !Cell::normalised && read_in_place(steps_, team_); }
    void pack_units(int64_t first, int64_t past) const {
        for (int64_t block = first; block < past; ++block)
            pack_forward_block<G>(cell_.args.weight_hh, H_, P_, block, pairs_, memory_.recurrent);
    }
    void pack_input(int64_t first, int64_t past) const {
        pack_rows(cell_.args.weight_ih, G * H_, cell_.args.D, first, past, pairs_, memory_.input);
    }

    // The row's share of the input at step t, the chunk's step `slot`.
    float* sums_of(int64_t t, int64_t b, int64_t slot) const {
        if (cell_.kept()) return cell_.kept() + (t * steps_.B + b) * cell_.kept_width();
        return memory_.sums + (slot * steps_.B + b) * G * H_;
    }
    const float* share_of_input(int64_t t, int64_t b, int64_t slot) const {
        if (memory_.of_symbols) return memory_.of_symbols + steps_.input(t, b) * G * H_;
        return cell_.args.weight_ih ? sums_of(t, b, slot) : cell_.args.x + steps_.input(t, b) * G * H_;
    }

    void project(int64_t begin, int64_t end) const {
        const int64_t D = cell_.args.D;
        const Rows rows(memory_.order, steps_.B);
        int64_t count = 0;
        for (int64_t i = begin; i < end; ++i) {
            const int64_t t = steps_.reverse ? steps_.T - 1 - i : i, active = rows.active(steps_, t);
            for (int64_t row = 0; row < active; ++row, ++count) {
                const int64_t b = rows[row];
                inputs_[count] = cell_.args.x + (t * steps_.B + b) * D;
                outputs_[count] = sums_of(t, b, i - begin);
            }
        }
        multiply_inputs(count, least_rows);
    }

    // The first `count` inputs' products, in parts of `least` rows or more.
    void multiply_inputs(int64_t count, int64_t least) const {
        const int64_t D = cell_.args.D;
        const float* biases = memory_.biases;
        int64_t product = 0;  // where products stand behind the shares that are made of them
        if constexpr (Cell::normalised) {
            biases = nullptr;
            if (cell_.kept()) product = cell_.kept_input();
            for (int64_t i = 0; i < count; ++i) outputs_[i] += product;
        }
        if (packs_when_taken())
            return divide(member_, blocks_of(G * H_, panel_width), 1, [&](int64_t first, int64_t past) {
                if (reads_in_place() && count)
                    return multiply_row_by_rows(inputs_[0], outputs_[0], cell_.args.weight_ih, biases, G * H_, D, first, past);
                pack_input(first, past);
                multiply_rows(inputs_, outputs_, count, memory_.input, biases, G * H_, D, first, past, pairs_, area_);
            });
        divide(member_, count, least, [&](int64_t first, int64_t past) {
            multiply_rows(inputs_ + first, outputs_ + first, past - first, memory_.input, biases, G * H_, D, 0,
                          blocks_of(G * H_, panel_width), pairs_, area_);
            if constexpr (Cell::normalised)
                for (int64_t i = first; i < past; ++i) cell_.normalise_input(outputs_[i], memory_.biases, outputs_[i] - product);
        });
    }

    // Of rows, those that are active, with whoever is a member.
    void step(const Rows& rows, crew::Member& member, int64_t t, int64_t slot) const {
        const int64_t B = steps_.B, active = rows.active(steps_, t);
        if constexpr (Cell::normalised) take_rows(rows, member, t, slot, active);
        else {
            for (int64_t row = 0; row < active; ++row) {
                const int64_t b = rows[row];
                rows_[row] = cell_.row({share_of_input(t, b, slot), state_before(t, b), h_now(t, b)}, t, b, memory_.zeros);
                if (team_.by_units && active == 1) ask(rows_[row].state, P_);  // what others wrote of it, at once
                if (pairs_) pair_row(rows_[row].state, P_, area_ + row * words_of_row(P_));
            }
            divide(member, blocks_of(H_, Block::units), least_panels(active),
                   [&](int64_t first, int64_t past) {
                       if (packs_when_taken() && !reads_in_place()) pack_units(first, past);
                       take_units(active, first, past);
                   });
        }
        if constexpr (Cell::may_project)
            if (projected_) project_state(rows, member, t, active);
        if (active < rows.count)
            divide_on(member, rows.count - active, 1, [&](int64_t first, int64_t past) {
                for (int64_t row = active + first; row < active + past; ++row) {
                    zero(cell_.args.h + (t * B + rows[row]) * P_, P_);
                    cell_.clear(t, rows[row]);
                }
            });
    }

    // The blocks of units [begin, end) of the first `active` rows, in tiles.
    void take_units(int64_t active, int64_t begin, int64_t end) const {
        const int64_t H = H_;
        cover<N>(active, begin, end, blocks_of(H, Block::units), [&]<int R, int P>(int64_t row, int64_t block, const Place& place) {
            const typename Cell::Row* rows = rows_ + row;
            const float* state[R];
            vec sums[R][P][N];
            for (int r = 0; r < R; ++r) {
                const int64_t later = row + R + r;
                state[r] = pairs_ ? area_ + (row + r) * words_of_row(P_) : rows[r].state;
                if (later < active) fetch(rows_[later], block * Block::units);
                else fetch(rows_[later - active], (block + P) * Block::units);
#pragma GCC unroll 4
                for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                    for (int v = 0; v < Block::vectors; ++v) {
                        const int64_t u = (block + p) * Block::units + v * lanes;
                        of_units(H - u, [&](int64_t n) UNROLLED_INLINE_BODY {
#pragma GCC unroll 4
                            for (int g = 0; g < G; ++g) sums[r][p][v * G + g] = cell_.start(g, rows[r], u, n);
                        });
                    }
            }
            const auto multiply = [&]<bool pairs>() UNROLLED_INLINE_BODY {
                const int64_t K = pairs ? pairs_of(P_) : P_;
                add_products<R, P, N, pairs>(sums, state, recurrent_ + block * panel_size_, panel_size_, K,
                                             place.ahead(recurrent_, panel_size_, K));
            };
            if (R == 1 && reads_in_place()) multiply_in_place(sums[0], state[0], block);
            else if (may_pair && pairs_) multiply.template operator()<may_pair>();  // where there are none: one copy, not two
            else multiply.template operator()<false>();
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                for (int v = 0; v < Block::vectors; ++v) {
                    const int64_t u = (block + p) * Block::units + v * lanes;
                    if (u >= H) break;
                    const vec* of_rows[R];
                    for (int r = 0; r < R; ++r) of_rows[r] = &sums[r][p][v * G];
                    of_units(H - u, [&](int64_t n) UNROLLED_INLINE_BODY { cell_.finish(of_rows, rows, u, n); });
                }
        });
    }

    // A row's sums of P blocks, of weights as they lie.
    template <int P>
    void multiply_in_place(vec (&sums)[P][N], const float* state, int64_t block) const {
        for (int p = 0; p < P; ++p)
            for (int v = 0; v < Block::vectors; ++v) {
                const int64_t u = (block + p) * Block::units + v * lanes;
                if (u >= H_) return;
                for (int g = 0; g < G; ++g) {
                    vec& sum = sums[p][v * G + g];
                    sum = add_row_of_products(sum, state, cell_.args.weight_hh + (g * H_ + u) * P_, H_ - u, P_);
                }
            }
    }

    // Asks for what a row of a tile to come reads and writes, which lies too far away for the processor to see it coming.
    void fetch(const typename Cell::Row& row, int64_t u) const {
#pragma GCC unroll 4
        for (int g = 0; g < G; ++g) __builtin_prefetch(row.in + g * H_ + u);
        __builtin_prefetch(row.h + u, 1);
        if constexpr (requires { row.c; }) {
            __builtin_prefetch(row.c_before + u);
            __builtin_prefetch(row.c + u, 1);
        }
    }

    // The products of the first `active` rows, then, of each row, all units.
    void take_rows(const Rows& rows, crew::Member& member, int64_t t, int64_t slot, int64_t active) const {
        for (int64_t row = 0; row < active; ++row) {
            const int64_t b = rows[row];
            inputs_[row] = state_before(t, b);
            outputs_[row] = cell_.kept() ? sums_of(t, b, slot) + cell_.kept_product() : memory_.products + b * G * H_;
        }
        divide(member, blocks_of(G * H_, panel_width), least_panels(active), [&](int64_t first, int64_t past) {
            multiply_rows(inputs_, outputs_, active, recurrent_, nullptr, G * H_, P_, first, past, pairs_, area_);
        });
        divide(member, active, 1, [&](int64_t first, int64_t past) {
            for (int64_t row = first; row < past; ++row) {
                const int64_t b = rows[row];
                cell_.finish_row(share_of_input(t, b, slot), outputs_[row], projected_ ? nullptr : inputs_[row], t, b, h_now(t, b));
            }
        });
    }

    // Where a step's h is to stand.
    float* h_now(int64_t t, int64_t b) const {
        return projected_ ? memory_.unprojected + b * H_ : cell_.args.h + (t * steps_.B + b) * H_;
    }
    // The row's h as step t sees it.
    const float* state_before(int64_t t, int64_t b) const {
        return steps_.reset(t, b)   ? memory_.zeros
               : steps_.first(t, b) ? row_of(cell_.args.h0, b, P_, memory_.zeros)
                                    : cell_.args.h + (steps_.before(t) * steps_.B + b) * P_;
    }

    // The states of the first `active` rows, from all of their units.
    void project_state(const Rows& rows, crew::Member& member, int64_t t, int64_t active) const {
        for (int64_t row = 0; row < active; ++row) {
            const int64_t b = rows[row];
            inputs_[row] = memory_.unprojected + b * H_;
            outputs_[row] = cell_.args.h + (t * steps_.B + b) * P_;
        }
        divide(member, blocks_of(P_, panel_width), least_panels(active), [&](int64_t first, int64_t past) {
            multiply_rows(inputs_, outputs_, active, memory_.projection, nullptr, P_, H_, first, past, pairs_, area_);
            const int64_t past_unit = past * panel_width < P_ ? past * panel_width : P_;
            for (int64_t row = 0; row < active; ++row)
                for (int64_t u = first * panel_width; u < past_unit; u += lanes) {
                    const int64_t b = rows[row], n = P_ - u;
                    float* h = outputs_[row] + u;
                    store(h, cell_.finish_projected(load(h, n), state_before(t, b) + u, t, b, u, n), n);
                }
        });
    }

    const Cell& cell_;
    const Steps& steps_;
    const ForwardMemory<Cell>& memory_;
    const Team& team_;
    crew::Member& member_;
    const int64_t H_, P_, panel_size_;
    const bool projected_, pairs_;
    const float* recurrent_;
    typename Cell::Row* const rows_;
    const float** inputs_;
    float** outputs_;
    float* const area_;
};

// What the gates' sums begin at besides products: bias_ih [n], or 0, and bias_hh, or 0, in the first `shared` of them.
[[gnu::noinline]] inline void add_biases(const float* bias_ih, const float* bias_hh, int64_t n, int64_t shared, float* biases) {
    for (int64_t k = 0; k < n; ++k) biases[k] = (bias_ih ? bias_ih[k] : 0.0f) + (bias_hh && k < shared ? bias_hh[k] : 0.0f);
}

// The states [B, width] after each row's last step, of those after every step; where a row takes none, the initial one.
[[gnu::noinline]] inline void copy_last(const Steps& steps, const float* states, const float* initial, int64_t width, float* last) {
    if (!last) return;
    for (int64_t b = 0; b < steps.B; ++b) {
        const float* state = steps.length(b) > 0 ? states + (steps.last_of(b) * steps.B + b) * width : row_of(initial, b, width);
        copy_or_zero(state, last + b * width, width);
    }
}

template <class Cell>
void run_forward(const Cell& cell, int wanted_threads) {
    constexpr int G = Cell::gates;
    using Block = ForwardBlock<G>;
    const Steps& steps = cell.steps;
    const int64_t T = steps.T, B = steps.B, H = steps.H, P = steps.P, D = cell.args.D;
    const int64_t blocks = blocks_of(H, Block::units);
    const int64_t packed = Cell::normalised ? packed_columns_size(G * H, P) : blocks * Block::units * G * P;
    const bool projected = ForwardRun<Cell>::projected(cell), pairs = steps.bfloat16;
    const int64_t of_projection = projected ? packed_columns_size(P, H) : 0;
    const bool projects = cell.args.weight_ih;
    const Team team(wanted_threads, B, blocks, (packed + of_projection) * (pairs ? 2 : 4), tile_rows(Block::N));
    const int64_t size = chunk_steps(T, B), of_symbols = projects && steps.symbols ? steps.V * G * H : 0;
    const int64_t of_chunk = projects || projected || Cell::normalised ? size * B : 0;
    const int64_t limit = of_symbols && steps.V > of_chunk ? steps.V : of_chunk;
    const int64_t widest = H > P ? (H > D ? H : D) : P > D ? P : D;
    const int64_t of_states = (team.by_units ? B : blocks_of(B, team.threads)) * words_of_row(P);
    const int64_t area_floats = !pairs ? 0 : of_states > rows_area(widest) ? of_states : rows_area(widest);
    auto [recurrent, input, biases, projection, symbols, unprojected, sums, products, zeros, rows, order, inputs, outputs,
          area] = working_memory(
        {packed, projects ? packed_columns_size(G * H, D) : 0, projects ? G * H : 0, of_projection, of_symbols, projected ? B * H : 0,
         projects && !of_symbols && !cell.kept() ? limit * G * H : 0, Cell::normalised && !cell.kept() ? B * G * H : 0, H > P ? H : P,
         floats_of<typename Cell::Row>(team.threads * B), numbers(B + T + 1), numbers(team.threads * limit),
         numbers(team.threads * limit), team.threads * area_floats});
    zero(zeros, H > P ? H : P);
    if (projects) add_biases(cell.args.bias_ih, cell.args.bias_hh, G * H, Cell::shared_biases * H, biases);
    const auto in_order = reinterpret_cast<int64_t*>(order);
    order_rows(steps, in_order, in_order + B);
    const ForwardMemory<Cell> memory{recurrent, input, biases, projection, of_symbols ? symbols : nullptr, unprojected, sums, products, zeros,
                                     reinterpret_cast<typename Cell::Row*>(rows), in_order,
                                     reinterpret_cast<const float**>(inputs), reinterpret_cast<float**>(outputs), limit,
                                     area, area_floats};
    take_part_in_team(team.threads, [&](crew::Member& member) {
        FlushDenormals flush;
        const ForwardRun<Cell> run(cell, memory, team, member);
        run.pack();
        for (int64_t begin = 0; begin < T; begin += size) run.chunk(begin, begin + size < T ? begin + size : T);
    });
    copy_last(steps, cell.args.h, cell.args.h0, P, cell.args.h_n);
    if constexpr (requires { cell.args.c_n; }) copy_last(steps, cell.args.c, cell.args.c0, H, cell.args.c_n);
}

}  // namespace unrolled::UNROLLED_ISA
