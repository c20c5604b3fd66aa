// A stack of recurrent layers run for inference: any number of steps and rows, the state in and out, nothing
// kept for a backward pass. A single step reads each layer's weights once, those of its input and those of its
// state in one pass; over several steps the products with the inputs come first, for all steps at once. Where inputs are
// symbols, they may have been made when the layer was packed.
#include <algorithm>

#include "divide.h"
#include "packing.h"

namespace unrolled::UNROLLED_ISA {
namespace {

// One unit vector's new state: h, which was h_before (0 where h is still to be projected), and c in place. `sums` holds
// the gates' sums, for a GRU r, z and n from the state, to which `from_input` is n's; `additions` are those of the panel; a
// vector has n units. `relu` is an RNN's alone.
template <Cell cell, bool modified>
UNROLLED_INLINE vec next_state(const vec* sums, const vec* from_input, const float* additions, vec h_before, float* c, int64_t n,
                               bool relu) {
    if constexpr (is_lstm(cell)) {
        Modification by;
        if constexpr (modified) {
            by.peephole_i = load(additions);
            by.peephole_f = load(additions + lanes);
            by.peephole_o = load(additions + 2 * lanes);
            by.zoneout_h = load(additions + 3 * lanes);
            by.zoneout_c = load(additions + 4 * lanes);
        }
        const LstmValues now = lstm_gates<cell == Cell::lstm_coupled, modified>(sums, load(c, n), by);
        store(c, now.c, n);
        return lstm_state<modified>(now.o, tanh(now.fresh), h_before, by);
    } else if constexpr (cell == Cell::gru) {
        GruValues now = gru_gates(sums, *from_input);
        now.n = tanh(now.n);
        return gru_state<modified>(now, h_before, modified ? load(additions) : vec{});
    } else {
        vec h[] = {sums[0]};
        rnn_step(h, relu);
        return h[0];
    }
}

// What a thread computes: these rows, and of what is in panels the parts that it takes.
struct Share {
    int64_t row, rows;
    crew::Member& member;
    uint8_t* area;  // for rows in the form that products read
};

// A product of rows with K numbers, by weights at `weights` in the first panel of a tile.
template <class Product, int R>
struct Factor {
    typename Product::Row rows[R];
    const float* weights;
    int64_t K;
};

// A tile's sums: from `starts` on, the products. Not inlined: cells share it, and it is most of the engine's size. A GRU,
// which has two biases for its candidate, puts the sum over the inputs aside (`apart`) and goes on from the other one.
template <class Product, int R, int P, int N>
[[gnu::noinline]] void sum_up(vec (&sums)[R][P][N], const float* const (&starts)[R][P], const Factor<Product, R>* factors,
                              int count, int64_t panel_size, vec (*apart)[P], const float* other_bias) {
    for (int r = 0; r < R; ++r)
        for (int p = 0; p < P; ++p)
            for (int n = 0; n < N; ++n) sums[r][p][n] = load(starts[r][p] + n * lanes);
    for (int i = 0; i < count; ++i) {
        if (apart && i == count - 1)
            for (int r = 0; r < R; ++r)
                for (int p = 0; p < P; ++p) {
                    apart[r][p] = sums[r][p][2];
                    sums[r][p][2] = load(other_bias + p * panel_size);
                }
        Product::template add<R, P, N>(sums, factors[i].rows, factors[i].weights, panel_size, factors[i].K);
    }
}

template <Cell cell, class Product>
class Runner {
  public:
    Runner(const PackedStack& stack, const StackRun& run)
        : stack_(stack), run_(run), H_(stack.H), P_(stack.P), blocks_(blocks_of(H_, B::units)), gates_(blocks_ * B::N * lanes) {
        // Long sequences go in chunks whose gates stay in the cache; cutting changes no bit of the result.
        constexpr int64_t gate_floats = 1 << 18;
        chunk_ = std::clamp<int64_t>(gate_floats / std::max<int64_t>(1, run.B * gates_), 1, std::max<int64_t>(1, run.T));
    }

    // The first layer's sums over the inputs alone.
    void project(float* projections) {
        provide_memory(1);
        FlushDenormals flush;
        const PackedLayer& layer = stack_.layers[0];
        Row* rows = reinterpret_cast<Row*>(area_);
        crew::Member alone;
        const Share all{0, run_.B, alone, area_};
        const Layout<cell, Product> layout(layer.D, P_, layer.modified);
        prepare(run_.x, layer.D, 1, all, rows, area_ + run_.B * sizeof(Row));
        multiply(layer, layout, layout.input, layer.D, rows, 1, all, projections);
        if constexpr (is_lstm(cell))
            if (layer.normalised)
                for (int64_t b = 0; b < run_.B; ++b) vectors_of(layer, layout).share_of_input(projections + b * gates_);
    }

    // Either all threads take panels, or, where steps are too small for that, each takes rows and steps them alone.
    void run(int threads) {
        const bool by_panels = blocks_ >= threads && worth_meeting();
        threads = static_cast<int>(by_panels ? threads : std::min<int64_t>(threads, run_.B));
        provide_memory(threads);
        if (by_panels)
            take_part(threads, [run = *this](crew::Member& member) { run.execute({0, run.run_.B, member, run.area_of(member)}); });
        else
            take_part(threads, [run = *this, threads](crew::Member& member) {
                divide(member, run.run_.B, blocks_of(run.run_.B, threads), [&](int64_t row, int64_t past) {
                    crew::Member alone;
                    run.execute({row, past - row, alone, run.area_of(member)});
                });
            });
    }

  private:
    using B = Block<cell>;
    using Row = typename Product::Row;
    static constexpr int N = B::N;

    uint8_t* area_of(const crew::Member& member) const { return area_ + member.index() * area_bytes_; }

    bool worth_meeting() const {
        constexpr int64_t bytes_read = 1 << 17;
        return run_.T == 1 || run_.B * blocks_ * Product::template size<N>(P_) * 4 >= bytes_read;
    }

    void provide_memory(int threads) {
        const auto normalised = [](const PackedLayer& layer) { return layer.normalised; };
        const bool of_rows = std::any_of(stack_.layers, stack_.layers + stack_.layer_count, normalised);
        const int64_t rows = chunk_ * run_.B, gates = chunk_ > 1 || of_rows ? rows * gates_ : 0;
        const int64_t products = of_rows ? run_.B * gates_ : 0;
        const int64_t hidden = stack_.layer_count > 1 ? blocks_of(rows * P_, 16) * 16 : 0;
        const int64_t unprojected = stack_.projects_state ? blocks_of(run_.B * H_, 16) * 16 : 0;
        const int64_t widest = std::max({stack_.layers[0].D, H_, P_});
        area_bytes_ = blocks_of((rows + run_.B) * (sizeof(Row) + Product::row_bytes(widest)), 64) * 64;
        gates_of_steps_ = scratch(gates + products + 2 * hidden + unprojected + threads * area_bytes_ / 4);
        products_ = gates_of_steps_ + gates;
        hidden_[0] = products_ + products;
        hidden_[1] = hidden_[0] + hidden;
        unprojected_ = hidden_[1] + hidden;
        area_ = reinterpret_cast<uint8_t*>(unprojected_ + unprojected);
    }

    void execute(const Share& share) const {
        FlushDenormals flush;
        for (int64_t t = 0; t < run_.T; t += chunk_) {
            const int64_t count = std::min(chunk_, run_.T - t);
            Rows input = run_.x.from(t * run_.B);
            for (int64_t l = 0; l < stack_.layer_count; ++l) {
                float* output = l + 1 == stack_.layer_count ? run_.y + t * run_.B * P_ : hidden_[l % 2];
                run_layer(l, input, output, count, share);
                keep_state(l, output + (count - 1) * run_.B * P_, share, t + count == run_.T);
                input = {output, P_, nullptr};
            }
        }
    }

    // input [count, B, D] -> output [count, B, P] and c after it.
    void run_layer(int64_t l, const Rows& input, float* output, int64_t count, const Share& share) const {
        const PackedLayer layer = stack_.layers[l];  // a helper may be here still when the caller has gone
        const Layout<cell, Product> layout(layer.D, P_, layer.modified);
        Row* rows = reinterpret_cast<Row*>(share.area);
        uint8_t* bytes = share.area + (count + 1) * share.rows * sizeof(Row);
        const bool normalised = is_lstm(cell) && layer.normalised, projected = l == 0 && stack_.projected;
        const bool whole = !projected && !normalised && count == 1;
        if (!projected) bytes = prepare(input, layer.D, count, share, rows, bytes);
        if (!projected && !whole) multiply(layer, layout, layout.input, layer.D, rows, count, share, gates_of_steps_);
        const Rows begins = projected ? input : Rows{gates_of_steps_, gates_, nullptr};
        Row* states = rows + count * share.rows;
        for (int64_t t = 0; t < count; ++t) {
            const Rows before = t ? Rows{output + (t - 1) * run_.B * P_, P_, nullptr} : run_.h.layer(l);
            prepare(before, P_, 1, share, states, bytes);
            float* after = output + t * run_.B * P_;
            float* h = stack_.projects_state ? unprojected_ : after;
            if (!normalised) step(l, whole, layout, rows, begins.from(t * run_.B), states, before, h, share);
            if constexpr (is_lstm(cell)) {
                float* raw = projected ? nullptr : gates_of_steps_ + t * run_.B * gates_;
                if (normalised) step_rows(l, layout, raw, begins.from(t * run_.B), states, before, h, share);
                if (stack_.projects_state) {
                    const float* panels = layer.panels + blocks_ * layout.size + (normalised ? Vectors<cell>::size(H_) : 0);
                    project_state(panels, states, bytes, before, after, share);
                }
            }
            share.member.turn();
        }
    }

    // The share's h of layer l becomes `last` [B, P], at once where steps follow.
    void keep_state(int64_t l, const float* last, const Share& share, bool nothing_follows) const {
        const auto keep = [&](int64_t, int64_t) {
            for (int64_t b = share.row; b < share.row + share.rows; ++b) std::copy_n(last + b * P_, P_, run_.h.at(l, b));
        };
        if (!nothing_follows) divide(share.member, 1, 1, keep);
        else if (share.member.index() == 0) keep(0, 1);
    }

    // The share's rows of `after` [B, P] from all of their units; `before` is what zoneout keeps of.
    void project_state(const float* panels, Row* rows, uint8_t* bytes, const Rows& before, float* after, const Share& share) const {
        prepare({unprojected_, H_, nullptr}, H_, 1, share, rows, bytes);
        const int64_t count = blocks_of(P_, projection_width), size = projection_panel<Product>(H_);
        constexpr int V = projection_vectors;
        take_tiles<V>(share, share.rows, count, [&]<int R, int Q>(int64_t i, int64_t index) {
            const float* panel = panels + index * size;
            static constexpr float zeros[projection_width] = {};
            vec sums[R][Q][V];
            const float* starts[R][Q];
            Factor<Product, R> states{{}, panel + projection_width, H_};
            for (int r = 0; r < R; ++r) {
                states.rows[r] = rows[i + r];
                for (int q = 0; q < Q; ++q) starts[r][q] = zeros;
            }
            sum_up<Product, R, Q, V>(sums, starts, &states, 1, size, nullptr, nullptr);
            for (int r = 0; r < R; ++r)
                for (int q = 0; q < Q; ++q)
                    for (int v = 0; v < V; ++v) {
                        const int64_t b = share.row + i + r, u = (index + q) * projection_width + v * lanes, n = P_ - u;
                        if (n <= 0) break;
                        const vec zoneout = load(panel + q * size + v * lanes);
                        store(after + b * P_ + u, zoned_out(zoneout, load(before[b] + u, n), sums[r][q][v]), n);
                    }
        });
    }

    // Calls body.operator()<R, P>(first row, first panel) until `rows` by `panels` are covered, by all threads together.
    template <int width, class Body>
    void take_tiles(const Share& share, int64_t rows, int64_t panels, Body body) const {
        const int64_t group = Product::by_two(1, width) && run_.by_two ? 2 : most_panels;
        divide(share.member, panels, most_panels, [&](int64_t first, int64_t past) { cover_with<Product, width>(rows, first, past, group, body); });
    }

    // The share's rows of x [count, B, K], made ready for products; returns where free memory goes on. A single row is asked for at
    // once where another processor wrote of it, and its lines would come one by one: to a helper, and between steps, to anybody.
    uint8_t* prepare(const Rows& x, int64_t K, int64_t count, const Share& share, Row* rows, uint8_t* bytes) const {
        for (int64_t t = 0; t < count; ++t)
            for (int64_t b = share.row; b < share.row + share.rows; ++b, bytes += Product::row_bytes(K))
                *rows++ = Product::row(x[t * run_.B + b], K, bytes);
        if (count * share.rows == 1 && (share.member.index() > 0 || run_.T > 1)) ask(x[share.row], K);
        return bytes;
    }

    // One of the two products, by what stands at `weights` in a panel, for each step and row of the share, from where the
    // panels begin on: out [count, B, gates_], a row in blocks; where it is to be normalised, as [G*H].
    void multiply(const PackedLayer& layer, const Layout<cell, Product>& layout, int64_t weights, int64_t K, const Row* rows,
                  int64_t count, const Share& share, float* out) const {
        take_tiles<N>(share, count * share.rows, blocks_, [&]<int R, int P>(int64_t i, int64_t block) {
            const float* panel = layer.panels + block * layout.size;
            vec sums[R][P][N];
            const float* starts[R][P];
            Factor<Product, R> inputs{{}, panel + weights, K};
            for (int r = 0; r < R; ++r) {
                inputs.rows[r] = rows[i + r];
                for (int p = 0; p < P; ++p) starts[r][p] = panel + p * layout.size;
            }
            sum_up<Product, R, P, N>(sums, starts, &inputs, 1, layout.size, nullptr, nullptr);
            const auto row = [&](int r) {
                return out + ((i + r) / share.rows * run_.B + share.row + (i + r) % share.rows) * gates_;
            };
            if (is_lstm(cell) && layer.normalised) {
                for (int r = 0; r < R; ++r) put_units(sums[r][0], block, P, row(r));
                return;
            }
            for (int r = 0; r < R; ++r)
                for (int p = 0; p < P; ++p)
                    for (int n = 0; n < N; ++n) store(row(r) + ((block + p) * N + n) * lanes, sums[r][p][n]);
        });
    }

    // Sums [P, N] of the P panels from `block` on, to their places in a row [G*H].
    [[gnu::noinline]] void put_units(const vec* sums, int64_t block, int P, float* row) const {
        for (int p = 0; p < P; ++p)
            for (int n = 0; n < N; ++n) {
                const int64_t u = (block + p) * lanes;
                store(row + n * H_ + u, *sums++, H_ - u);
            }
    }

    Vectors<cell> vectors_of(const PackedLayer& layer, const Layout<cell, Product>& layout) const {
        return {H_, layer.panels + blocks_ * layout.size};
    }

    // `step` of a normalised layer: the products with the states, by panels; then the rest, by rows. `begins` has the
    // inputs' shares, or will have: where the products with the inputs, `raw`, are not null.
    void step_rows(int64_t l, const Layout<cell, Product>& layout, float* raw, const Rows& begins, const Row* states,
                   const Rows& before, float* after, const Share& share) const {
        const PackedLayer& layer = stack_.layers[l];
        multiply(layer, layout, layout.state, P_, states, 1, share, products_);
        const Vectors<cell> vectors = vectors_of(layer, layout);
        const LstmVariant variant = vectors.variant();
        divide(share.member, share.rows, 1, [&](int64_t first, int64_t past) {
            for (int64_t b = share.row + first; b < share.row + past; ++b) {
                if (raw) vectors.share_of_input(raw + b * gates_);
                float* c = run_.c.at(l, b);
                normalised_step(variant, H_, 0, begins[b], products_ + b * gates_, stack_.projects_state ? nullptr : before[b],
                                c, c, after + b * H_, nullptr);
            }
        });
    }

    // One step of layer l for the share's rows: h `before` [B, P] -> `after` [B, H], c in place. `whole`: the sums
    // begin at the biases and the products with the inputs; else `begins` [B] has these already.
    void step(int64_t l, bool whole, const Layout<cell, Product>& layout, const Row* rows, const Rows& begins,
              const Row* states, const Rows& before, float* after, const Share& share) const {
        const PackedLayer& layer = stack_.layers[l];
        take_tiles<N>(share, share.rows, blocks_, [&]<int R, int P>(int64_t i, int64_t block) {
            const float* panel = layer.panels + block * layout.size;
            vec sums[R][P][N], from_inputs[R][P];
            const float* starts[R][P];
            Factor<Product, R> factors[] = {{{}, panel + layout.input, layer.D}, {{}, panel + layout.state, P_}};
            for (int r = 0; r < R; ++r) {
                factors[0].rows[r] = rows[i + r];
                factors[1].rows[r] = states[i + r];
                const int64_t u = block * B::units, units = std::min<int64_t>(P * B::units, H_ - u);
                ask_to_write(after + (share.row + i + r) * H_ + u, units);
                for (int p = 0; p < P; ++p)
                    starts[r][p] = whole ? panel + p * layout.size : begins[share.row + i + r] + (block + p) * N * lanes;
            }
            sum_up<Product, R, P, N>(sums, starts, whole ? factors : factors + 1, whole ? 2 : 1, layout.size,
                                     cell == Cell::gru ? from_inputs : nullptr, panel + 3 * lanes);
            next_states(l, layout, block, P, share.row + i, R, sums[0][0], from_inputs[0], before, after);
        });
    }

    // What P panels from `block` on make of the sums [R, P, N] of R rows from b on. Once in the program, not once for each
    // shape of tile, as this would be most of the engine's size.
    [[gnu::noinline]] void next_states(int64_t l, const Layout<cell, Product>& layout, int64_t block, int P, int64_t b, int R,
                                       const vec* sums, const vec* from_inputs, const Rows& before, float* after) const {
        const PackedLayer& layer = stack_.layers[l];
        const bool relu = stack_.cell == Cell::rnn_relu;
        for (int r = 0; r < R; ++r, ++b)
            for (int p = 0; p < P; ++p, sums += N, ++from_inputs)
                for (int v = 0; v < B::vectors; ++v) {
                    const int64_t u = (block + p) * B::units + v * lanes;
                    if (u >= H_) break;
                    const vec* gates = sums + v * B::gates;
                    const float* additions = layer.panels + (block + p) * layout.size + B::biases * lanes;
                    float* c = is_lstm(cell) ? run_.c.at(l, b) + u : nullptr;
                    const bool sees_before = cell == Cell::gru || (layer.modified && !stack_.projects_state);
                    const vec h_before = sees_before ? load(before[b] + u, H_ - u) : vec{};
                    const auto next = [&]<bool modified>() UNROLLED_INLINE_BODY {
                        return next_state<cell, modified>(gates, from_inputs, additions, h_before, c, H_ - u, relu);
                    };
                    const vec h = layer.modified ? next.template operator()<true>() : next.template operator()<false>();
                    store(after + b * H_ + u, h, H_ - u);
                }
    }

    const PackedStack stack_;
    const StackRun run_;
    const int64_t H_, P_, blocks_, gates_;  // gates_: floats of a row's gates, in blocks
    int64_t chunk_, area_bytes_;
    float* gates_of_steps_;
    float* products_;  // [B, gates_]: with the states, where they are to be normalised
    float* hidden_[2];
    float* unprojected_;  // [B, H]: h before the projection
    uint8_t* area_;
};

// Calls body.operator()<cell, Product>() for a cell and a format known only now; an RNN is one with tanh, whatever it has.
template <bool dots, class Body>
auto choose(Cell cell, Weights weights, Body body) {
    auto with_product = [&]<Cell chosen>() {
        switch (weights) {
            case Weights::bfloat16: return body.template operator()<chosen, Bfloat16>();
            case Weights::int8: return body.template operator()<chosen, Int8<dots>>();
            default: return body.template operator()<chosen, Float32>();
        }
    };
    switch (cell) {
        case Cell::lstm: return with_product.template operator()<Cell::lstm>();
        case Cell::lstm_coupled: return with_product.template operator()<Cell::lstm_coupled>();
        case Cell::gru: return with_product.template operator()<Cell::gru>();
        default: return with_product.template operator()<Cell::rnn_tanh>();
    }
}

}  // namespace

size_t packed_layer_size(Cell cell, Weights weights, const Layer& layer) {
    return choose<false>(cell, weights, [&]<Cell chosen, class Product> { return Packer<chosen, Product>{layer}.size(); });
}

void pack_layer(Cell cell, Weights weights, const Layer& layer, float* panels) {
    choose<false>(cell, weights, [&]<Cell chosen, class Product> { Packer<chosen, Product>{layer}.pack(panels); });
}

size_t projection_size(Cell cell, int64_t H) {
    return choose<false>(cell, Weights::float32, [&]<Cell chosen, class> {
        return static_cast<size_t>(blocks_of(H, Block<chosen>::units) * Block<chosen>::N * lanes);
    });
}

void project(Cell cell, Weights weights, const PackedLayer& layer, int64_t H, int64_t P, const float* x, int64_t B,
             float* projections) {
    const PackedStack stack{cell, weights, H, P, 1, false, &layer, false};
    const StackRun run{1, B, {x, layer.D, nullptr}, nullptr, {}, {}, false};
    choose<false>(cell, weights, [&]<Cell chosen, class Product> { Runner<chosen, Product>(stack, run).project(projections); });
}

template <bool dots>
void run_stack(const PackedStack& stack, const StackRun& run, int threads) {
    choose<dots>(stack.cell, stack.weights, [&]<Cell chosen, class Product> { Runner<chosen, Product>(stack, run).run(threads); });
}
template void run_stack<false>(const PackedStack&, const StackRun&, int);
#if defined(UNROLLED_DOTS)
template void run_stack<true>(const PackedStack&, const StackRun&, int);
#endif

}  // namespace unrolled::UNROLLED_ISA
