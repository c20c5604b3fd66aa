// A cell run over a sequence, forward. A Cell has `gates` (G), `kept_runs`, its `steps` and `args`, and
//   start(g, in, u, n)                     gate g's sum before the product, for n units from u on; `in` is the row's
//                                          share of the input, [G*H]
//   finish(sums[G], in, state, t, b, u, n) applies the gates and stores; `state` is the row's h before the step
//   clear(t, b)                            zeroes the outputs of a step not taken
//   kept()                                 where the input's share of a step may stand until `finish` puts what
//                                          it keeps in its place: [T, B, kept_runs*H]; or null
#pragma once

#include "sequence.h"

namespace unrolled::UNROLLED_ISA {

// Working memory of a forward run, all threads together.
struct ForwardMemory {
    float* recurrent;        // packed weights, as ForwardBlock says
    float* input;            // packed weights of the input
    float* sums;             // [chunk, B, G*H]: the input's share, where it cannot stand in what is kept
    const float* zeros;      // [H]
    const float** inputs;    // the rows of x in a chunk, `limit` for each thread
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
        : cell_(cell), steps_(cell.steps), memory_(memory), share_(share), H_(cell.steps.H),
          panel_size_(H_ * N * lanes), recurrent_(memory.recurrent) {}

    void pack() const {
        const int64_t blocks = blocks_of(H_, Block::units), panels = blocks_of(G * H_, panel_width), D = cell_.args.D;
        for (int64_t block = share_.first(blocks); block < share_.past(blocks); ++block)
            pack_forward_block<G>(cell_.args.weight_hh, H_, block, memory_.recurrent);
        if (cell_.args.weight_ih)
            pack_columns(cell_.args.weight_ih, 1, D, G * H_, D, 0, share_.first(panels), share_.past(panels), memory_.input);
    }

    // The steps [begin, end), counted in the order in which they are consumed.
    void chunk(int64_t begin, int64_t end) const {
        if (cell_.args.weight_ih) project(begin, end);
        for (int64_t i = begin; i < end; ++i) step(steps_.reverse ? steps_.T - 1 - i : i, i - begin);
    }

  private:
    // The row's share of the input at step t, the chunk's step `slot`.
    float* sums_of(int64_t t, int64_t b, int64_t slot) const {
        if (cell_.kept()) return cell_.kept() + (t * steps_.B + b) * Cell::kept_runs * H_;
        return memory_.sums + (slot * steps_.B + b) * G * H_;
    }
    const float* share_of_input(int64_t t, int64_t b, int64_t slot) const {
        return cell_.args.weight_ih ? sums_of(t, b, slot) : cell_.args.x + (t * steps_.B + b) * G * H_;
    }

    void project(int64_t begin, int64_t end) const {
        const float** inputs = memory_.inputs + share_.rank * memory_.limit;
        float** outputs = memory_.outputs + share_.rank * memory_.limit;
        const int64_t D = cell_.args.D;
        int64_t count = 0;
        for (int64_t i = begin; i < end; ++i) {
            const int64_t t = steps_.reverse ? steps_.T - 1 - i : i, active = share_.rows.active(steps_, t);
            for (int64_t row = 0; row < active; ++row, ++count) {
                const int64_t b = share_.rows[row];
                inputs[count] = cell_.args.x + (t * steps_.B + b) * D;
                outputs[count] = sums_of(t, b, i - begin);
            }
        }
        const int64_t first = share_.first_of_units(count), past = share_.past_of_units(count);
        multiply_rows(inputs + first, outputs + first, past - first, memory_.input, cell_.args.bias, G * H_, D, 0,
                      blocks_of(G * H_, panel_width));
        share_.meet();
    }

    void step(int64_t t, int64_t slot) const {
        const int64_t B = steps_.B, H = H_, blocks = blocks_of(H, Block::units);
        const int64_t active = share_.rows.active(steps_, t);
        cover<N>(active, share_.first_of_units(blocks), share_.past_of_units(blocks),
                 [&]<int R, int P>(int64_t row, int64_t block) {
            const float* state[R];
            const float* in[R];
            vec sums[R][P][N];
            for (int r = 0; r < R; ++r) {
                const int64_t b = share_.rows[row + r];
                in[r] = share_of_input(t, b, slot);
                state[r] = steps_.reset(t, b)   ? memory_.zeros
                           : steps_.first(t, b) ? cell_.args.h0 + b * H
                                                : cell_.args.h + (steps_.before(t) * B + b) * H;
#pragma GCC unroll 4
                for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                    for (int v = 0; v < N; ++v) {
                        const int64_t u = (block + p) * Block::units + v / G * lanes;
                        sums[r][p][v] = cell_.start(v % G, in[r], u, H - u);
                    }
            }
            add_products<R, P, N>(sums, state, recurrent_ + block * panel_size_, panel_size_, H);
            for (int r = 0; r < R; ++r) {
                const int64_t b = share_.rows[row + r];
#pragma GCC unroll 4
                for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                    for (int v = 0; v < Block::vectors; ++v) {
                        const int64_t u = (block + p) * Block::units + v * lanes;
                        if (u < H) cell_.finish(&sums[r][p][v * G], in[r], state[r], t, b, u, H - u);
                    }
            }
        });
        if (share_.clears())
            for (int64_t row = active; row < share_.rows.count; ++row) cell_.clear(t, share_.rows[row]);
        share_.meet();
    }

    const Cell& cell_;
    const Steps& steps_;
    const ForwardMemory& memory_;
    const Share& share_;
    const int64_t H_, panel_size_;
    const float* recurrent_;
};

template <class Cell>
void run_forward(const Cell& cell, int wanted_threads) {
    constexpr int G = Cell::gates;
    using Block = ForwardBlock<G>;
    const Steps& steps = cell.steps;
    const int64_t T = steps.T, B = steps.B, H = steps.H, D = cell.args.D;
    const int64_t blocks = blocks_of(H, Block::units), packed = blocks * Block::units * G * H;
    const bool projects = cell.args.weight_ih;
    const Team team(wanted_threads, B, blocks, packed * sizeof(float), tile_rows(Block::N));
    const int64_t size = chunk_steps(T, B), limit = projects ? size * B : 0;
    auto [recurrent, input, sums, zeros, order, inputs, outputs] = working_memory(
        {packed, projects ? packed_columns_size(G * H, D) : 0,
         cell.kept() ? 0 : limit * G * H, H, numbers(B + T + 1), numbers(team.threads * limit),
         numbers(team.threads * limit)});
    zero(zeros, H);
    order_rows(steps, reinterpret_cast<int64_t*>(order), reinterpret_cast<int64_t*>(order) + B);
    const ForwardMemory memory{recurrent, input, sums, zeros, reinterpret_cast<const float**>(inputs),
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
