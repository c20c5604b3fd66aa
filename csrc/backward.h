// A cell run over a sequence, backward, with the gradients of its weights.
//
// From the last step consumed to the first, the gradient at a step's h is grad_h plus what the step after it sends
// back, the gradients of that step's gates times weight_hh; at a row's last step it is grad_h plus grad_h_n. Those of a
// chunk of steps stand in working memory; when the chunk is done, and they are still in the cache, the weights'
// gradients and x's are made of them.
//
// A Cell has `gates` (G), its `steps` and `args`, and
//   grad_runs                       how many runs of H gradients a step has: the first G are those of the product with
//                                   weight_ih, from the gate `rotation` on, and from the last to the first
//   recurrent_run                   where the G runs begin that belong to the product with weight_hh
//   sums_run                        where those of the gates' sums begin, and all that is to be summed over the steps
//   Row, row(t, b, out, zeros)      what step t of row b reads, and writes from `out` on; a state that is zero may be `zeros`
//   fetch(row, u, n)                asks for what that reads at n units from u on
//   finish(flow[count], row, u, n)  makes them, for n units from u on or for `count` whole vectors of these: `flow` is the
//                                   gradient at h[t] from later steps
//   carried_floats()                how many floats it carries from step to step, which stand in the gradients of the initial
//                                   states where these are wanted; else carry_in(memory) says where
//   finish_initial(flow, b, u, n)   the gradient at the initial state
//   finish_bias(sums)               stores the biases' gradients: `sums` of the runs from sums_run on over all steps
//   may_project                     whether h may be projected (P wide), which args.variant says; then `finish` also puts h
//                                   before the projection behind the runs, and its `flow` is the gradient at that: the
//                                   product with weight_hr of
//   finish_projected(flow, row, u, n)  the gradient at n units of the projection, which see `flow` from later steps
//   normalised                      whether products are normalised, which takes all units of a row; then
//   finish_row(flow, row)           stands for `finish`
#pragma once

#include "sequence.h"

namespace unrolled::UNROLLED_ISA {

// Stores n sums over this call's steps as a gradient, or adds them to what later steps gave.
UNROLLED_INLINE void deliver(const Gradients& grad, const float* sums, float* out, int64_t n) {
    if (!grad.continued) return copy(sums, out, n);
    for (int64_t i = 0; i < n; ++i) out[i] += sums[i];
}

// Of the rows that take no step, what arrived at the last state, or 0, to the initial one, both [B, width].
[[gnu::noinline]] inline void hand_on(const Steps& steps, const float* last, int64_t width, float* initial) {
    for (int64_t b = 0; b < steps.B; ++b)
        if (steps.length(b) == 0) copy_or_zero(row_of(last, b, width), initial + b * width, width);
}

// Working memory of a backward run, all threads together.
template <class Cell>
struct BackwardMemory {
    float* recurrent;      // weight_hh [G*H, P], packed by columns
    float* input;          // weight_ih [G*H, D], packed by columns, its gates in the order of the runs
    float* projection;     // weight_hr [P, H], packed by columns
    float* gradients;      // [chunk + 1, B, stride]: of the gates; first those of the step done before the chunk
    float* initial;        // [B, stride]: those of each row's first step; or null: nobody wants the initial states'
    float* flow;           // [B, the wider of H and P]
    const float* zeros;    // [the wider of stride and D]
    float* biases;         // [runs*H]: the gradients' sums over all steps
    float* of_symbols;     // [V, G*H], the gates in the order of the runs: the sums for each symbol; or null; and
                           // outer_outputs floats more, as add_outer_products reads beyond the last row
    float* area;           // [threads, area_floats]: for sums of outer products, and words of rows
    int64_t area_floats;
    const int64_t* order;  // [B]: see Rows
    typename Cell::Row* rows;  // [threads, B]: of a step
    const float** lists;   // [threads, 5, limit]: pointers to rows
    float** outputs;       // [2*G*H + P]: the rows of the weights' gradients, in the order of the runs
    int64_t stride, limit;
};

template <class Cell>
class BackwardRun {
  public:
    static constexpr int G = Cell::gates;
    // Of a row of gradients, in floats; rows a power of two apart would share few places of a cache.
    static int64_t stride(const Cell& cell) {
        return cell.grad_runs * cell.steps.H + (projected(cell) ? cell.steps.H + cell.steps.P : 0) + 16;
    }
    static bool projected(const Cell& cell) {
        if constexpr (Cell::may_project) return cell.args.variant.weight_hr;
        else return false;
    }

    BackwardRun(const Cell& cell, const BackwardMemory<Cell>& memory, const Team& team, crew::Member& member)
        : cell_(cell), steps_(cell.steps), memory_(memory), team_(team), member_(member), B_(cell.steps.B), H_(cell.steps.H),
          P_(cell.steps.P), width_(H_ > P_ ? H_ : P_), D_(cell.args.D), K_(G * H_),
          runs_(cell.grad_runs), projected_(projected(cell)), pairs_(cell.steps.bfloat16),
          rows_(memory.rows + member.index() * B_), area_(memory.area + member.index() * memory.area_floats) {
        const float** lists = memory.lists + member.index() * 5 * memory.limit;
        gradients_ = lists;
        recurrent_gradients_ = lists + memory.limit;
        before_ = lists + 2 * memory.limit;
        inputs_ = lists + 3 * memory.limit;
        grad_inputs_ = const_cast<float**>(lists + 4 * memory.limit);
        grad_weight_ih_ = memory.outputs;
        grad_weight_hh_ = grad_weight_ih_ + K_;
        grad_weight_hr_ = grad_weight_hh_ + K_;
    }

    // Packs the weights, but those that are `packed_when_taken`, and says where their gradients are.
    void prepare() const {
        const auto& args = cell_.args;
        if (!packed_when_taken(steps_, team_)) {
            divide_on(member_, blocks_of(P_, panel_width), 1,
                      [&](int64_t first, int64_t past) { pack_recurrent(first, past); });
            if (projects() && args.grad.x)
                divide_on(member_, blocks_of(D_, panel_width), 1, [&](int64_t first, int64_t past) { pack_input(first, past); });
        }
        divide_on(member_, K_, least_floats, [&](int64_t first, int64_t past) {
            for (int64_t k = first; k < past; ++k) {
                const int64_t row = k + Cell::rotation * H_ < K_ ? k + Cell::rotation * H_ : k + (Cell::rotation - G) * H_;
                if (args.grad.weight_hh) grad_weight_hh_[k] = args.grad.weight_hh + k * P_;
                if (args.grad.weight_ih) grad_weight_ih_[k] = args.grad.weight_ih + row * D_;
            }
        });
        if constexpr (Cell::may_project)
            if (projected_) {
                divide_on(member_, blocks_of(H_, panel_width), 1, [&](int64_t first, int64_t past) {
                    pack_columns(args.variant.weight_hr, H_, P_, 0, first, past, pairs_, memory_.projection);
                });
                divide_on(member_, P_, least_floats, [&](int64_t first, int64_t past) {
                    for (int64_t u = first; u < past; ++u) grad_weight_hr_[u] = args.grad_weight_hr + u * H_;
                });
            }
        if (memory_.of_symbols)
            divide_on(member_, steps_.V * K_, least_floats, [&](int64_t first, int64_t past) {
                zero(memory_.of_symbols + first, past - first);
            });
        divide(member_, runs_ * H_, least_floats, [&](int64_t first, int64_t past) { zero(memory_.biases + first, past - first); });
    }

    // The steps [begin, end), counted from the last one consumed.
    void chunk(int64_t begin, int64_t end) {
        divide_rows(team_, member_, memory_.order, B_, [&](const Rows& rows, crew::Member& member) {
            for (int64_t p = begin; p < end; ++p) step(rows, member, steps_.reverse ? p : steps_.T - 1 - p, p - begin);
        });
        member_.meet();
        const int64_t count = list(begin, end);
        const bool fresh = begin == 0 && !cell_.args.grad.continued;
        if (memory_.of_symbols) add_to_symbols(count);
        else of_input(count, of_sums(), fresh);
        add_biases(count);
        if (cell_.args.grad.weight_hh) add_products_of(recurrent_gradients_, before_, count, grad_weight_hh_, K_, P_, fresh);
        if (projected_) add_to_projection(count, fresh);
        divide(member_, B_, 1, [&](int64_t first, int64_t past) {
            for (int64_t b = first; b < past; ++b) {
                if (memory_.initial) keep_first(begin, end, b);
                copy(gradients_of(end - begin, b), gradients_of(0, b), runs_ * H_);
            }
        });
    }

    // After all chunks.
    void finish() {
        if (memory_.initial) send_to_initial();
        divide_on(member_, 1, 1, [&](int64_t, int64_t) { cell_.finish_bias(memory_.biases + Cell::sums_run * H_); });
        if (memory_.of_symbols) {
            member_.meet();
            for (int64_t symbol = 0; symbol < steps_.V; ++symbol) {
                gradients_[symbol] = memory_.of_symbols + symbol * K_;
                inputs_[symbol] = memory_.zeros;  // NaN too may stand in a row that no step reads
                if (cell_.args.grad.x) grad_inputs_[symbol] = cell_.args.grad.x + symbol * D_;
            }
            for (int64_t b = 0; b < B_; ++b)
                for (int64_t t = 0; t < steps_.length(b); ++t) {
                    const int64_t symbol = steps_.input(t, b);
                    inputs_[symbol] = cell_.args.x + symbol * D_;
                }
            of_input(steps_.V, 0, !cell_.args.grad.continued);
        }
    }

  private:
    void send_to_initial() {
        divide_rows(team_, member_, memory_.order, B_, [&](const Rows& rows, crew::Member& member) {
            const int64_t count = cell_.args.grad.continued ? rows.active(steps_, 0) : rows.count;  // the others' go on as they are
            for (int64_t row = 0; row < count; ++row) {
                const int64_t b = rows[row];
                const bool stepped = steps_.length(b) > 0, cut = !stepped || steps_.reset(first_of(b), b);
                gradients_[row] = cut ? memory_.zeros : memory_.initial + b * memory_.stride + Cell::recurrent_run * H_;
            }
            flow_back(rows, member, gradients_, count, recurrent(), P_, K_, [](int64_t, int64_t, int64_t) {},
                      [&]<int vectors>(int64_t row, int64_t u, const vec (&flow)[vectors], int64_t n) {
                          for (int v = 0; v < vectors; ++v) cell_.finish_initial(flow[v], rows[row], u + v * lanes, n);
                      });
        });
    }

    void pack_recurrent(int64_t first, int64_t past) const {
        pack_columns(cell_.args.weight_hh, P_, K_, 0, first, past, pairs_, memory_.recurrent);
    }
    void pack_input(int64_t first, int64_t past) const {
        pack_columns(cell_.args.weight_ih, D_, K_, Cell::rotation * H_, first, past, pairs_, memory_.input);
    }
    // A packed matrix, with what makes of its panels [first, past) that, where they are `packed_when_taken`.
    struct Packed {
        const float* panels;
        void (BackwardRun::*pack)(int64_t first, int64_t past) const;  // or null: they are packed
        const float* in_place;  // or null; else the matrix itself, for one row
    };
    Packed recurrent() const {
        if (read_in_place(steps_, team_)) return {nullptr, nullptr, cell_.args.weight_hh};
        return {memory_.recurrent, packed_when_taken(steps_, team_) ? &BackwardRun::pack_recurrent : nullptr, nullptr};
    }

    bool projects() const { return cell_.args.weight_ih; }
    // Of the chunk's step slot - 1; slot 0 is the step done before.
    float* gradients_of(int64_t slot, int64_t b) const { return memory_.gradients + (slot * B_ + b) * memory_.stride; }

    // Behind the runs of a row of gradients: h before the projection [H], and the gradients at the projection [P].
    float* unprojected_of(float* gradients) const { return gradients + runs_ * H_; }
    float* projected_of(float* gradients) const { return gradients + (runs_ + 1) * H_; }

    // The step that a row takes first.
    int64_t first_of(int64_t b) const { return steps_.reverse ? steps_.length(b) - 1 : 0; }

    // How many rows ahead what a row reads is asked for; it was kept long ago and lies far away.
    static constexpr int64_t rows_ahead = 4;

    // The first `count` rows' gradients [K] times a packed matrix [K, N], which are 0 where `gradients` is null: use(row, u,
    // flow[vectors], n), and before it, of the units of several vectors, fetch(row, u, n).
    template <class Fetch, class Use>
    UNROLLED_INLINE_MEMBER void flow_back(const Rows& rows, crew::Member& member, const float* const* gradients, int64_t count,
                                          Packed packed, int64_t N, int64_t K, Fetch fetch, Use use) const {
        float** flows = grad_inputs_;
        for (int64_t row = 0; row < count; ++row) flows[row] = memory_.flow + rows[row] * width_;
        divide(member, blocks_of(N, panel_width), 1, [&](int64_t first, int64_t past) UNROLLED_INLINE_BODY {
            const int64_t first_unit = first * panel_width, past_unit = past * panel_width < N ? past * panel_width : N;
            for (int64_t row = 0; row < rows_ahead && row < count; ++row) fetch(row, first_unit, past_unit - first_unit);
            if (gradients && packed.pack) (this->*packed.pack)(first, past);
            // Not by `count` alone: which rows a thread has changes no bits.
            if (!gradients)
                for (int64_t row = 0; row < count; ++row) zero(flows[row] + first_unit, past_unit - first_unit);
            else if (packed.in_place && count) multiply_row_in_quarters(gradients[0], flows[0], packed.in_place, N, K, first, past);
            else if (B_ == 1 && count == 1 && !pairs_) multiply_row(gradients[0], flows[0], packed.panels, N, K, first, past);
            else multiply_rows(gradients, flows, count, packed.panels, nullptr, N, K, first, past, pairs_, area_);
            for (int64_t row = 0; row < count; ++row) {
                int64_t u = first_unit;
                if (row + rows_ahead < count) fetch(row + rows_ahead, first_unit, past_unit - first_unit);
                for (; u + panel_width <= past_unit; u += panel_width) {
                    vec flow[panel_vectors];
                    for (int v = 0; v < panel_vectors; ++v) flow[v] = load(flows[row] + u + v * lanes);
                    use(row, u, flow, lanes);
                }
                for (; u < past_unit; u += lanes) {
                    const vec flow[] = {load(flows[row] + u, N - u)};
                    use(row, u, flow, N - u);
                }
            }
        });
    }

    // Of rows, those that are active, with whoever is a member.
    void step(const Rows& rows, crew::Member& member, int64_t t, int64_t slot) {
        const int64_t active = rows.active(steps_, t), after = steps_.after(t);
        bool flows = false;
        for (int64_t row = 0; row < active; ++row) {
            const int64_t b = rows[row];
            const bool cut = steps_.last(t, b) || steps_.reset(after, b);
            flows |= !cut;
            gradients_[row] = cut ? memory_.zeros : gradients_of(slot, b) + Cell::recurrent_run * H_;
            if (team_.by_units && active == 1) ask(gradients_[row], K_);  // what others wrote of it, at once
            rows_[row] = cell_.row(t, b, gradients_of(slot + 1, b), memory_.zeros);
        }
        const float* const* gradients = flows ? gradients_ : nullptr;
        Packed weights = recurrent();
        int64_t K = K_;
        if constexpr (Cell::may_project)
            if (projected_) {
                flow_back(rows, member, gradients, active, weights, P_, K_, [](int64_t, int64_t, int64_t) {},
                          [&]<int count>(int64_t row, int64_t u, const vec (&flow)[count], int64_t n) {
                              const auto& one = rows_[row];
                              for (int v = 0; v < count; ++v, u += lanes)
                                  store(projected_of(one.out) + u, cell_.finish_projected(flow[v], one, u, n), n);
                          });
                for (int64_t row = 0; row < active; ++row) gradients_[row] = projected_of(rows_[row].out);
                gradients = gradients_;
                weights = {memory_.projection, nullptr, nullptr};
                K = P_;
            }
        flow_back(rows, member, gradients, active, weights, H_, K,
                  [&](int64_t row, int64_t u, int64_t n) UNROLLED_INLINE_BODY { cell_.fetch(rows_[row], u, n); },
                  [&]<int count>(int64_t row, int64_t u, const vec (&flow)[count], int64_t n) UNROLLED_INLINE_BODY {
                      if constexpr (!Cell::normalised) cell_.finish(flow, rows_[row], u, n);
                  });
        if constexpr (Cell::normalised)
            divide(member, active, 1, [&](int64_t first, int64_t past) {
                for (int64_t row = first; row < past; ++row)
                    cell_.finish_row(memory_.flow + rows[row] * width_, rows_[row]);
            });
        if (active < rows.count && cell_.args.grad.x && !steps_.symbols)
            divide_on(member, rows.count - active, 1, [&](int64_t first, int64_t past) {
                for (int64_t row = active + first; row < active + past; ++row)
                    zero(cell_.args.grad.x + (t * B_ + rows[row]) * D_, D_);
            });
    }

    // Points at everything of the chunk's steps that are taken, of all rows.
    int64_t list(int64_t begin, int64_t end) {
        const auto& args = cell_.args;
        const Rows rows(memory_.order, B_);
        int64_t count = 0;
        for (int64_t p = begin; p < end; ++p) {
            const int64_t t = steps_.reverse ? p : steps_.T - 1 - p, active = rows.active(steps_, t);
            for (int64_t row = 0; row < active; ++row, ++count) {
                const int64_t b = rows[row], at = t * B_ + b;
                gradients_[count] = gradients_of(p - begin + 1, b);
                recurrent_gradients_[count] = gradients_[count] + Cell::recurrent_run * H_;
                before_[count] = steps_.reset(t, b)   ? memory_.zeros
                                 : steps_.first(t, b) ? row_of(args.h0, b, P_, memory_.zeros)
                                                      : args.h + (steps_.before(t) * B_ + b) * P_;
                if (memory_.of_symbols) {
                    grad_inputs_[count] = memory_.of_symbols + steps_.input(t, b) * K_;
                    continue;
                }
                inputs_[count] = args.x + at * D_;
                if (args.grad.x) grad_inputs_[count] = args.grad.x + at * D_;
            }
        }
        return count;
    }

    // Where the G runs begin that are the gradients of the input's share: that of the product with weight_ih, or of the sums.
    int64_t of_sums() const { return projects() ? 0 : Cell::sums_run * H_; }

    // Adds the chunk's to those of their symbols.
    void add_to_symbols(int64_t count) const {
        divide_on(member_, K_, least_floats, [&](int64_t first, int64_t past) {
            for (int64_t i = 0; i < count; ++i) {
                float* sums = grad_inputs_[i];
                const float* gradients = gradients_[i] + of_sums();
                for (int64_t k = first; k < past; ++k) sums[k] += gradients[k];
            }
        });
    }

    // The gradients of x, and of weight_ih, from those of `count` rows, which begin `from` floats behind gradients_.
    void of_input(int64_t count, int64_t from, bool fresh) const {
        input_gradients(count, from);
        if (cell_.args.grad.weight_ih) add_products_of(gradients_, inputs_, count, grad_weight_ih_, K_, D_, fresh);
    }

    // Keeps the gradients of the row's first step, where that is one of the chunk's.
    void keep_first(int64_t begin, int64_t end, int64_t b) const {
        const int64_t p = steps_.reverse ? first_of(b) : steps_.T - 1 - first_of(b);
        if (steps_.length(b) > 0 && begin <= p && p < end)
            copy(gradients_of(p - begin + 1, b), memory_.initial + b * memory_.stride, runs_ * H_);
    }

    void add_biases(int64_t count) const {
        constexpr int before = Cell::sums_run;
        divide_on(member_, (runs_ - before) * H_, least_floats, [&](int64_t first, int64_t past) {
            for (int64_t i = 0; i < count; ++i)
                for (int64_t k = before * H_ + first; k < before * H_ + past; ++k) memory_.biases[k] += gradients_[i][k];
        });
    }

    // The gradient y [M, N] of a weight, of which `fresh` says that it holds nothing yet.
    void add_products_of(const float* const* a, const float* const* x, int64_t count, float* const* y, int64_t M, int64_t N,
                         bool fresh) const {
        divide_on(member_, blocks_of(M, outer_outputs), least_outputs, [&](int64_t first, int64_t past) {
            const int64_t begin = first * outer_outputs, end = past * outer_outputs < M ? past * outer_outputs : M;
            add_outer_products(a, x, count, y, N, fresh, begin, end, pairs_, area_);
        });
    }

    void add_to_projection(int64_t count, bool fresh) {
        for (int64_t i = 0; i < count; ++i) {  // the two lists are free again
            recurrent_gradients_[i] = projected_of(const_cast<float*>(gradients_[i]));
            before_[i] = unprojected_of(const_cast<float*>(gradients_[i]));
        }
        add_products_of(recurrent_gradients_, before_, count, grad_weight_hr_, P_, H_, fresh);
    }

    void input_gradients(int64_t count, int64_t from) const {
        if (!cell_.args.grad.x) return;
        if (projects() && packed_when_taken(steps_, team_))
            return divide_on(member_, blocks_of(D_, panel_width), 1, [&](int64_t first, int64_t past) {
                if (read_in_place(steps_, team_) && count)
                    return multiply_row_by_columns(gradients_[0], grad_inputs_[0], cell_.args.weight_ih, D_, K_, Cell::rotation * H_,
                                                   first, past);
                pack_input(first, past);
                multiply_rows(gradients_, grad_inputs_, count, memory_.input, nullptr, D_, K_, first, past, pairs_, area_);
            });
        divide_on(member_, count, least_rows, [&](int64_t first, int64_t past) {
            if (projects()) {
                multiply_rows(gradients_ + first, grad_inputs_ + first, past - first, memory_.input, nullptr, D_, K_, 0,
                              blocks_of(D_, panel_width), pairs_, area_);
                return;
            }
            for (int64_t i = first; i < past; ++i)
                for (int run = 0; run < G; ++run)
                    copy(gradients_[i] + from + run * H_, grad_inputs_[i] + (run + Cell::rotation) % G * H_, H_);
        });
    }

    const Cell& cell_;
    const Steps& steps_;
    const BackwardMemory<Cell>& memory_;
    const Team& team_;
    crew::Member& member_;
    const int64_t B_, H_, P_, width_, D_, K_, runs_;
    const bool projected_, pairs_;
    typename Cell::Row* const rows_;
    float* const area_;
    const float **gradients_, **recurrent_gradients_, **before_, **inputs_;
    float **grad_inputs_, **grad_weight_ih_, **grad_weight_hh_, **grad_weight_hr_;
};

template <class Cell>
void run_backward(Cell cell, int wanted_threads) {
    constexpr int G = Cell::gates;
    const Steps& steps = cell.steps;
    const int64_t T = steps.T, B = steps.B, H = steps.H, P = steps.P, K = G * H, D = cell.args.weight_ih ? cell.args.D : 0;
    const int64_t packed = packed_columns_size(P, K), of_projection = BackwardRun<Cell>::projected(cell) ? packed_columns_size(H, P) : 0;
    const bool pairs = steps.bfloat16;
    const Team team(wanted_threads, B, blocks_of(H, panel_width), (packed + of_projection) * (pairs ? 2 : 4),
                    tile_rows(panel_vectors));
    const int64_t of_rows = pairs ? rows_area(K > P ? K : P) : 0, of_outer = outer_memory(pairs);
    const int64_t area_floats = of_rows > of_outer ? of_rows : of_outer;
    const int64_t size = chunk_steps(T, B), of_symbols = steps.symbols ? steps.V * K : 0;
    const int64_t limit = of_symbols && steps.V > size * B ? steps.V : size * B;
    const int64_t stride = BackwardRun<Cell>::stride(cell);
    const bool wants_initial = cell.args.grad.h0;
    auto [recurrent, input, projection, gradients, initial, carried, flow, zeros, biases, symbols, area, order, rows, lists,
          outputs] = working_memory(
        {packed, packed_columns_size(D, K), of_projection, (size + 1) * B * stride, wants_initial ? B * stride : 0,
         wants_initial ? 0 : cell.carried_floats(), B * (H > P ? H : P), stride > D ? stride : D,
         cell.grad_runs * H, of_symbols + outer_outputs, team.threads * area_floats, numbers(B + T + 1),
         floats_of<typename Cell::Row>(team.threads * B), numbers(team.threads * 5 * limit), numbers(2 * K + P)});
    zero(zeros, stride > D ? stride : D);
    if (!wants_initial) cell.carry_in(carried);
    const auto in_order = reinterpret_cast<int64_t*>(order);
    order_rows(steps, in_order, in_order + B);
    const BackwardMemory<Cell> memory{recurrent, input, projection, gradients, wants_initial ? initial : nullptr, flow, zeros, biases,
                                      of_symbols ? symbols : nullptr, area, area_floats, in_order,
                                      reinterpret_cast<typename Cell::Row*>(rows), reinterpret_cast<const float**>(lists),
                                      reinterpret_cast<float**>(outputs), stride, limit};
    take_part_in_team(team.threads, [&](crew::Member& member) {
        FlushDenormals flush;
        BackwardRun<Cell> run(cell, memory, team, member);
        run.prepare();
        for (int64_t begin = 0; begin < T; begin += size) run.chunk(begin, begin + size < T ? begin + size : T);
        run.finish();
    });
    if (wants_initial && !cell.args.grad.continued) hand_on(steps, cell.args.grad_h_n, P, cell.args.grad.h0);
}

}  // namespace unrolled::UNROLLED_ISA
