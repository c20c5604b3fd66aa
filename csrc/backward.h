// A cell run over a sequence, backward, with the gradients of its weights.
//
// From the last step consumed to the first, the gradient at a step's h is grad_h plus what the step after it sends
// back, the gradients of that step's gates times weight_hh. Those of a chunk of steps stand in working memory; when
// the chunk is done, and they are still in the cache, the weights' gradients and x's are made of them.
//
// A Cell has `gates` (G), its `steps` and `args`, and
//   grad_runs                       how many runs of H gradients a step has: the first G are those of the product with
//                                   weight_ih, from the gate `rotation` on, and from the last to the first
//   recurrent_run                   where the G runs begin that belong to the product with weight_hh
//   sums_run                        where those of the gates' sums begin, and all that is to be summed over the steps
//   finish(flow, out, t, b, u, n)   makes them, in `out` (for the unit u): `flow` is the gradient at h[t] from later
//   finish_initial(flow, b, u, n)   the gradient at the initial state
//   finish_bias(sums)               stores the biases' gradients: `sums` of the runs from sums_run on over all steps
//   may_project                     whether h may be projected (P wide), which args.variant says; then `finish` also puts h
//                                   before the projection behind the runs, and its `flow` is the gradient at that: the
//                                   product with weight_hr of
//   finish_projected(flow, t, b, u, n)  the gradient at n units of the projection, which see `flow` from later steps
//   normalised                      whether products are normalised, which takes all units of a row; then
//   finish_row(flow, out, t, b)     stands for `finish`
#pragma once

#include "sequence.h"

namespace unrolled::UNROLLED_ISA {

// Working memory of a backward run, all threads together.
struct BackwardMemory {
    float* recurrent;      // weight_hh [G*H, P], packed by columns
    float* input;          // weight_ih [G*H, D], packed by columns, its gates in the order of the runs
    float* projection;     // weight_hr [P, H], packed by columns
    float* gradients;      // [chunk + 1, B, stride]: of the gates; first those of the step done before the chunk
    float* initial;        // [B, stride]: those of each row's first step
    float* flow;           // [B, the wider of H and P]
    const float* zeros;    // [stride]
    float* biases;         // [runs*H]: the gradients' sums over all steps
    float* outer;          // [threads, outer_memory]
    const float** rows;    // [threads, 5, limit]: pointers to rows
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

    BackwardRun(const Cell& cell, const BackwardMemory& memory, const Share& share)
        : cell_(cell), steps_(cell.steps), memory_(memory), share_(share), B_(cell.steps.B), H_(cell.steps.H),
          P_(cell.steps.P), width_(H_ > P_ ? H_ : P_), D_(cell.args.D), K_(G * H_),
          runs_(cell.grad_runs), projected_(projected(cell)) {
        const float** rows = memory.rows + share.rank * 5 * memory.limit;
        gradients_ = rows;
        recurrent_gradients_ = rows + memory.limit;
        before_ = rows + 2 * memory.limit;
        inputs_ = rows + 3 * memory.limit;
        grad_inputs_ = const_cast<float**>(rows + 4 * memory.limit);
        grad_weight_ih_ = memory.outputs;
        grad_weight_hh_ = grad_weight_ih_ + K_;
        grad_weight_hr_ = grad_weight_hh_ + K_;
    }

    // Packs the weights and clears their gradients.
    void prepare() const {
        const auto& args = cell_.args;
        const int64_t panels = blocks_of(P_, panel_width), input_panels = blocks_of(D_, panel_width);
        pack_columns(args.weight_hh, P_, K_, 0, share_.first(panels), share_.past(panels), memory_.recurrent);
        if (projects() && args.grad.x)
            pack_columns(args.weight_ih, D_, K_, Cell::rotation * H_, share_.first(input_panels),
                         share_.past(input_panels), memory_.input);
        for (int64_t k = share_.first(K_); k < share_.past(K_); ++k) {
            const int64_t row = k + Cell::rotation * H_ < K_ ? k + Cell::rotation * H_ : k + (Cell::rotation - G) * H_;
            grad_weight_hh_[k] = args.grad.weight_hh + k * P_;
            zero(grad_weight_hh_[k], P_);
            if (!projects()) continue;
            grad_weight_ih_[k] = args.grad.weight_ih + row * D_;
            zero(grad_weight_ih_[k], D_);
        }
        if constexpr (Cell::may_project)
            if (projected_) {
                const int64_t of_projection = blocks_of(H_, panel_width);
                pack_columns(args.variant.weight_hr, H_, P_, 0, share_.first(of_projection),
                             share_.past(of_projection), memory_.projection);
                for (int64_t u = share_.first(P_); u < share_.past(P_); ++u) {
                    grad_weight_hr_[u] = args.grad_weight_hr + u * H_;
                    zero(grad_weight_hr_[u], H_);
                }
            }
        const int64_t first = share_.first(runs_ * H_);
        zero(memory_.biases + first, share_.past(runs_ * H_) - first);
    }

    // The steps [begin, end), counted from the last one consumed.
    void chunk(int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) step(steps_.reverse ? p : steps_.T - 1 - p, p - begin);
#pragma omp barrier
        const int64_t count = list(begin, end), first = share_.first(count), past = share_.past(count);
        input_gradients(first, past);
        add_biases(count);
        const int64_t k = share_.first(K_), past_k = share_.past(K_);
        float* outer = memory_.outer + share_.rank * outer_memory;
        add_outer_products(recurrent_gradients_, before_, count, grad_weight_hh_, P_, k, past_k, outer);
        if (projects()) add_outer_products(gradients_, inputs_, count, grad_weight_ih_, D_, k, past_k, outer);
        if (projected_) add_to_projection(count, outer);
        for (int64_t b = share_.first(B_); b < share_.past(B_); ++b)
            copy(gradients_of(end - begin, b), gradients_of(0, b), runs_ * H_);
#pragma omp barrier
    }

    // After all chunks.
    void finish() {
        const int64_t rows = share_.rows.count;
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t b = share_.rows[row];
            const bool stepped = steps_.length(b) > 0;
            const int64_t t = steps_.reverse ? steps_.length(b) - 1 : 0;
            const bool cut = !stepped || steps_.reset(t, b);
            gradients_[row] = cut ? memory_.zeros : memory_.initial + b * memory_.stride + Cell::recurrent_run * H_;
        }
        flow_back(gradients_, rows, memory_.recurrent, P_, K_, [&](int64_t b, int64_t u, vec flow, int64_t n) { cell_.finish_initial(flow, b, u, n); });
        if (share_.rank == 0) cell_.finish_bias(memory_.biases + Cell::sums_run * H_);
    }

  private:
    bool projects() const { return cell_.args.weight_ih; }
    // Of the chunk's step slot - 1; slot 0 is the step done before.
    float* gradients_of(int64_t slot, int64_t b) const { return memory_.gradients + (slot * B_ + b) * memory_.stride; }

    // Behind the runs of a row of gradients: h before the projection [H], and the gradients at the projection [P].
    float* unprojected_of(float* gradients) const { return gradients + runs_ * H_; }
    float* projected_of(float* gradients) const { return gradients + (runs_ + 1) * H_; }

    // The first `count` rows' gradients [K] times a packed matrix [K, N], for this thread's part of the columns.
    template <class Use>
    UNROLLED_INLINE_MEMBER void flow_back(const float* const* gradients, int64_t count, const float* packed, int64_t N,
                                          int64_t K, Use use) const {
        float** flows = grad_inputs_;
        const int64_t panels = blocks_of(N, panel_width);
        const int64_t first = share_.first_of_units(panels), past = share_.past_of_units(panels);
        for (int64_t row = 0; row < count; ++row) flows[row] = memory_.flow + share_.rows[row] * width_;
        multiply_rows(gradients, flows, count, packed, nullptr, N, K, first, past);
        const int64_t past_unit = past * panel_width < N ? past * panel_width : N;
        for (int64_t row = 0; row < count; ++row)
            for (int64_t u = first * panel_width; u < past_unit; u += lanes)
                of_units(N - u, [&](int64_t n) UNROLLED_INLINE_BODY { use(share_.rows[row], u, load(flows[row] + u, n), n); });
    }

    void step(int64_t t, int64_t slot) {
        const int64_t active = share_.rows.active(steps_, t), after = steps_.after(t);
        for (int64_t row = 0; row < active; ++row) {
            const int64_t b = share_.rows[row];
            const bool cut = steps_.last(t, b) || steps_.reset(after, b);
            gradients_[row] = cut ? memory_.zeros : gradients_of(slot, b) + Cell::recurrent_run * H_;
        }
        const auto finish = [&](int64_t b, int64_t u, vec flow, int64_t n) UNROLLED_INLINE_BODY {
            if constexpr (!Cell::normalised) cell_.finish(flow, gradients_of(slot + 1, b) + u, t, b, u, n);
        };
        const float* weights = memory_.recurrent;
        int64_t K = K_;
        if constexpr (Cell::may_project)
            if (projected_) {
                flow_back(gradients_, active, memory_.recurrent, P_, K_, [&](int64_t b, int64_t u, vec flow, int64_t n) {
                    store(projected_of(gradients_of(slot + 1, b)) + u, cell_.finish_projected(flow, t, b, u, n), n);
                });
                share_.meet();
                for (int64_t row = 0; row < active; ++row) gradients_[row] = projected_of(gradients_of(slot + 1, share_.rows[row]));
                weights = memory_.projection;
                K = P_;
            }
        flow_back(gradients_, active, weights, H_, K, finish);
        if constexpr (Cell::normalised) {
            share_.meet();
            for (int64_t row = share_.first_of_units(active); row < share_.past_of_units(active); ++row) {
                const int64_t b = share_.rows[row];
                cell_.finish_row(memory_.flow + b * width_, gradients_of(slot + 1, b), t, b);
            }
        }
        if (share_.clears() && cell_.args.grad.x)
            for (int64_t row = active; row < share_.rows.count; ++row)
                zero(cell_.args.grad.x + (t * B_ + share_.rows[row]) * D_, D_);
        share_.meet();
    }

    // Points at everything of the chunk's steps that are taken, of all rows; keeps the gradients of first steps.
    int64_t list(int64_t begin, int64_t end) {
        const auto& args = cell_.args;
        int64_t count = 0;
        for (int64_t p = begin; p < end; ++p) {
            const int64_t t = steps_.reverse ? p : steps_.T - 1 - p, active = share_.all_rows.active(steps_, t);
            for (int64_t row = 0; row < active; ++row, ++count) {
                const int64_t b = share_.all_rows[row], at = t * B_ + b;
                gradients_[count] = gradients_of(p - begin + 1, b);
                recurrent_gradients_[count] = gradients_[count] + Cell::recurrent_run * H_;
                before_[count] = steps_.reset(t, b)   ? memory_.zeros
                                 : steps_.first(t, b) ? args.h0 + b * P_
                                                      : args.h + (steps_.before(t) * B_ + b) * P_;
                inputs_[count] = args.x + at * D_;
                if (args.grad.x) grad_inputs_[count] = args.grad.x + at * D_;
                if (steps_.first(t, b) && share_.rank == 0)
                    copy(gradients_[count], memory_.initial + b * memory_.stride, runs_ * H_);
            }
        }
        return count;
    }

    void add_biases(int64_t count) const {
        constexpr int before = Cell::sums_run;
        const int64_t summed = (runs_ - before) * H_;
        const int64_t first = before * H_ + share_.first(summed), past = before * H_ + share_.past(summed);
        for (int64_t i = 0; i < count; ++i)
            for (int64_t k = first; k < past; ++k) memory_.biases[k] += gradients_[i][k];
    }

    void add_to_projection(int64_t count, float* outer) {
        for (int64_t i = 0; i < count; ++i) {  // the two lists are free again
            recurrent_gradients_[i] = projected_of(const_cast<float*>(gradients_[i]));
            before_[i] = unprojected_of(const_cast<float*>(gradients_[i]));
        }
        add_outer_products(recurrent_gradients_, before_, count, grad_weight_hr_, H_, share_.first(P_), share_.past(P_), outer);
    }

    void input_gradients(int64_t first, int64_t past) const {
        if (!cell_.args.grad.x) return;
        if (projects()) {
            multiply_rows(gradients_ + first, grad_inputs_ + first, past - first, memory_.input, nullptr, D_, K_, 0,
                          blocks_of(D_, panel_width));
            return;
        }
        for (int64_t i = first; i < past; ++i)
            for (int run = 0; run < G; ++run)
                copy(gradients_[i] + (Cell::sums_run + run) * H_, grad_inputs_[i] + (run + Cell::rotation) % G * H_, H_);
    }

    const Cell& cell_;
    const Steps& steps_;
    const BackwardMemory& memory_;
    const Share& share_;
    const int64_t B_, H_, P_, width_, D_, K_, runs_;
    const bool projected_;
    const float **gradients_, **recurrent_gradients_, **before_, **inputs_;
    float **grad_inputs_, **grad_weight_ih_, **grad_weight_hh_, **grad_weight_hr_;
};

template <class Cell>
void run_backward(const Cell& cell, int wanted_threads) {
    constexpr int G = Cell::gates;
    const Steps& steps = cell.steps;
    const int64_t T = steps.T, B = steps.B, H = steps.H, P = steps.P, K = G * H, D = cell.args.weight_ih ? cell.args.D : 0;
    const int64_t packed = packed_columns_size(P, K), of_projection = BackwardRun<Cell>::projected(cell) ? packed_columns_size(H, P) : 0;
    const Team team(wanted_threads, B, blocks_of(H, panel_width), (packed + of_projection) * sizeof(float),
                    tile_rows(panel_vectors));
    const int64_t size = chunk_steps(T, B), limit = size * B;
    const int64_t stride = BackwardRun<Cell>::stride(cell);
    auto [recurrent, input, projection, gradients, initial, flow, zeros, biases, outer, order, rows, outputs] = working_memory(
        {packed, packed_columns_size(D, K), of_projection, (size + 1) * B * stride, B * stride, B * (H > P ? H : P), stride,
         cell.grad_runs * H, team.threads * outer_memory, numbers(B + T + 1),
         numbers(team.threads * 5 * limit), numbers(2 * K + P)});
    zero(zeros, stride);
    order_rows(steps, reinterpret_cast<int64_t*>(order), reinterpret_cast<int64_t*>(order) + B);
    const BackwardMemory memory{recurrent, input, projection, gradients, initial, flow, zeros, biases, outer,
                                reinterpret_cast<const float**>(rows), reinterpret_cast<float**>(outputs),
                                stride, limit};
#pragma omp parallel num_threads(team.threads) if (team.threads > 1)
    {
        FlushDenormals flush;
        const Share share(reinterpret_cast<const int64_t*>(order), B, team.by_units);
        BackwardRun<Cell> run(cell, memory, share);
        run.prepare();
#pragma omp barrier
        for (int64_t begin = 0; begin < T; begin += size) run.chunk(begin, begin + size < T ? begin + size : T);
        run.finish();
    }
}

}  // namespace unrolled::UNROLLED_ISA
