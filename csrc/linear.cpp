#include "linear.h"

namespace unrolled::UNROLLED_ISA {
namespace {

// Columns left from a panel on, in vectors: at most a panel's.
int64_t vectors_from(int64_t N, int64_t panel) {
    const int64_t left = blocks_of(N, lanes) - panel * panel_vectors;
    return left < panel_vectors ? left : panel_vectors;
}

// Calls body.operator()<V>() with V = vectors, 1 to panel_vectors.
template <class Body>
UNROLLED_INLINE void with_vectors(int64_t vectors, Body&& body) {
    if (vectors == 4) body.template operator()<4>();
    else if (vectors == 3) body.template operator()<3>();
    else if (vectors == 2) body.template operator()<2>();
    else if (vectors == 1) body.template operator()<1>();
}

// `whole`: no panel goes past the last column. With `pairs` rows and panels are of words.
template <int V, bool whole, bool pairs>
void multiply_panels(const float* const* x, float* const* y, int64_t rows, const float* packed, const float* bias,
                     int64_t N, int64_t K, int64_t first, int64_t past) {
    const int64_t depth = pairs ? pairs_of(K) : K;
    cover<V>(rows, first, past, blocks_of(N, panel_width), [&]<int R, int P>(int64_t row, int64_t panel, const Place& place) {
        const float* inputs[R];
        vec sums[R][P][V];
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) {
                const int64_t n = (panel + p) * panel_width + v * lanes;
                const vec start = bias ? load(bias + n, whole ? lanes : N - n) : vec{};
#pragma GCC unroll 16
                for (int r = 0; r < R; ++r) sums[r][p][v] = start;
            }
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            inputs[r] = x[row + r];
            ask_to_write(y[row + r] + panel * panel_width, P * V * lanes);
        }
        add_products<R, P, V, pairs>(sums, inputs, packed + panel * panel_width * K, panel_width * K, depth,
                                     place.ahead(packed, panel_width * K, depth));
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            float* out = y[row + r] + panel * panel_width;
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) {
                    const int64_t n = p * panel_width + v * lanes;
                    store(out + n, sums[r][p][v], whole ? lanes : N - panel * panel_width - n);
                }
        }
    });
}

template <bool pairs>
void multiply_all(const float* const* x, float* const* y, int64_t rows, const float* packed, const float* bias, int64_t N,
                  int64_t K, int64_t first, int64_t past) {
    const int64_t whole = N / panel_width, past_whole = past < whole ? past : whole;
    if (first < past_whole) multiply_panels<panel_vectors, true, pairs>(x, y, rows, packed, bias, N, K, first, past_whole);
    if (past > whole)
        with_vectors(vectors_from(N, whole), [&]<int V>() {
            multiply_panels<V, false, pairs>(x, y, rows, packed, bias, N, K, whole, past);
        });
}

// V vectors of columns of a matrix whose rows are `step` floats apart; where they are not `whole`, `left` columns in all.
template <int V, bool whole>
struct Columns {
    const float* first;
    int64_t step, left;

    UNROLLED_INLINE_MEMBER vec at(int64_t k, int v) const {
        return whole ? load(first + k * step + v * lanes) : load(first + k * step + v * lanes, left - v * lanes);
    }
    // They lie in lines that are far from one another.
    UNROLLED_INLINE_MEMBER void ask(int64_t k) const {
        constexpr int64_t ahead = 8;
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) __builtin_prefetch(first + (k + ahead) * step + v * lanes);
    }
};

// sums += x [K] times columns, each in `parts` chains.
template <int parts, int V, bool whole>
[[gnu::noinline]] void add_column_products(vec (&sums)[V], const float* x, Columns<V, whole> columns, int64_t K) {
    static_assert(parts == 1 || parts == 4);
    const int64_t part_size = K / parts;
    vec sum[parts][V] = {};
    for (int v = 0; v < V; ++v) sum[0][v] = sums[v];
    for (int64_t k = 0; k < part_size; ++k)
#pragma GCC unroll 4
        for (int part = 0; part < parts; ++part) {
            const int64_t at = part * part_size + k;
            const vec input = splat(x[at]);
            columns.ask(at);
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sum[part][v] = fma(input, columns.at(at, v), sum[part][v]);
        }
    for (int64_t k = parts * part_size; k < K; ++k)
        for (int v = 0; v < V; ++v) sum[0][v] = fma(splat(x[k]), columns.at(k, v), sum[0][v]);
    for (int v = 0; v < V; ++v)
        if constexpr (parts == 4) sums[v] = (sum[0][v] + sum[1][v]) + (sum[2][v] + sum[3][v]);
        else sums[v] = sum[0][v];
}

// Calls body(Columns at the column n, n) for the columns of a panel [K, N] that is read where it lies.
template <class Body>
UNROLLED_INLINE void with_columns(const float* matrix, int64_t N, int64_t panel, Body&& body) {
    const int64_t n = panel * panel_width;
    with_vectors(vectors_from(N, panel), [&]<int V>() {
        if (N - n >= V * lanes) body(Columns<V, true>{matrix + n, N, N - n}, n);
        else body(Columns<V, false>{matrix + n, N, N - n}, n);
    });
}

template <int V>
UNROLLED_INLINE void store_sums(const vec (&sums)[V], float* y, int64_t left) {
    for (int v = 0; v < V; ++v) store(y + v * lanes, sums[v], left - v * lanes);
}

// sums[j][v] = the sum over i of a[i][j] * panel[i][v], j from m on, in ascending order of i; asks for what stands `next`
// floats further in each row of a. Not inlined, as add_products.
template <int V, bool pairs>
[[gnu::noinline]] void sum_outer_products(vec (&sums)[outer_outputs][V], const float* const* a, int64_t m, int64_t next,
                                          const float* panel, int64_t rows) {
    vec sum[outer_outputs][V];
#pragma GCC unroll 12
    for (int j = 0; j < outer_outputs; ++j)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sum[j][v] = vec{};
    const auto add = [&](int64_t i) UNROLLED_INLINE_BODY {
        const float* factors = a[i] + m;
        __builtin_prefetch(factors + next);
        vec x[V];
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) x[v] = load(panel + (i * V + v) * lanes);
#pragma GCC unroll 12
        for (int j = 0; j < outer_outputs; ++j) {
            const vec factor = splat(factors[j]);
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) sum[j][v] = multiply_add<pairs>(factor, x[v], sum[j][v]);
        }
    };
    int64_t i = 0;
    for (; i + 2 <= rows; i += 2) {
        add(i);
        add(i + 1);
    }
    if (i < rows) add(i);
#pragma GCC unroll 12
    for (int j = 0; j < outer_outputs; ++j)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sums[j][v] = sum[j][v];
}

// The columns [n, n + V vectors) of x, a part of whose rows they are, for the outputs [m0, past). With `pairs` the rows of a
// are of words, each of two of x's rows.
template <int V, bool pairs>
void add_outer_panel(const float* const* a, const float* const* x, int64_t rows, float* const* y, bool fresh, int64_t m0,
                     int64_t past, int64_t n, int64_t N, float* panel) {
    const int64_t depth = pairs ? pairs_of(rows) : rows;
    for (int64_t i = 0; i < depth; ++i)
        for (int v = 0; v < V; ++v) {
            const int64_t at = n + v * lanes;
            float* const out = panel + (i * V + v) * lanes;
            if constexpr (pairs)
                store(out, pair(load(x[2 * i] + at, N - at), 2 * i + 1 < rows ? load(x[2 * i + 1] + at, N - at) : vec{}));
            else store(out, load(x[i] + at, N - at));
        }
    const int64_t next = n + V * lanes;
    int64_t asked = 0;
    for (int64_t m = m0; m < past; m += outer_outputs) {
        if (next < N)  // each tile asks for its part of the next columns
            for (const int64_t part = rows * (m + outer_outputs - m0) / (past - m0); asked < part && asked < rows; ++asked)
                ask(x[asked] + next, V * lanes);
        const int outputs = static_cast<int>(past - m < outer_outputs ? past - m : outer_outputs);
        for (int j = 0; j < outputs; ++j) ask_to_write(y[m + j] + n, V * lanes);
        vec sums[outer_outputs][V];
        sum_outer_products<V, pairs>(sums, a, m, m + outer_outputs < past ? outer_outputs : m0 - m, panel, depth);
        for (int j = 0; j < outputs; ++j)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) {
                const int64_t at = n + v * lanes;
                store(y[m + j] + at, fresh ? sums[j][v] : load(y[m + j] + at, N - at) + sums[j][v], N - at);
            }
    }
}

// All columns of x for the outputs [m0, past).
template <bool pairs>
void add_outer_columns(const float* const* a, const float* const* x, int64_t rows, float* const* y, bool fresh, int64_t m0,
                       int64_t past, int64_t N, float* panel) {
    for (int64_t n = 0; n < N; n += outer_vectors * lanes)
        if (N - n > lanes) add_outer_panel<outer_vectors, pairs>(a, x, rows, y, fresh, m0, past, n, N, panel);
        else add_outer_panel<1, pairs>(a, x, rows, y, fresh, m0, past, n, N, panel);
}

#if defined(__AVX512F__)
// The same with words of the numbers, those of a in `words`: outer_factors.
void add_outer_pairs(const float* const* a, const float* const* x, int64_t rows, float* const* y, bool fresh, int64_t m0,
                     int64_t past, int64_t N, float* panel, float* words) {
    constexpr int64_t width = outer_block * outer_outputs;
    const float* factors[pairs_of(outer_depth)];
    for (int64_t i = 0; i < rows; i += 2) {
        float* const out = words + i / 2 * width;
        factors[i / 2] = out;
        for (int64_t m = m0; m < past; m += lanes)
            store(out + m - m0, pair(load(a[i] + m, past - m), i + 1 < rows ? load(a[i + 1] + m, past - m) : vec{}));
    }
    add_outer_columns<true>(factors, x, rows, y + m0, fresh, 0, past - m0, N, panel);
}
#endif

// One column n of x: V vectors of outputs, or `outputs` where these are fewer, summed over rows in registers.
template <int V>
void add_outer_column(const float* const* a, const float* const* x, int64_t rows, float* const* y, bool fresh, int64_t m,
                      int64_t outputs, int64_t n) {
    vec sums[V] = {};
    for (int64_t i = 0; i < rows; ++i) {
        const vec factor = splat(x[i][n]);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v)
            sums[v] = fma(factor, V == 1 ? load(a[i] + m, outputs) : load(a[i] + m + v * lanes), sums[v]);
    }
    for (int j = 0; j < V * lanes && j < outputs; ++j) y[m + j][n] = (fresh ? 0.0f : y[m + j][n]) + sums[j / lanes][j % lanes];
}

}  // namespace

void pack_columns(const float* matrix, int64_t N, int64_t K, int64_t rotation, int64_t first, int64_t past, bool pairs,
                  float* packed) {
    for (int64_t panel = first; panel < past; ++panel) {
        const int64_t vectors = vectors_from(N, panel);
        float* out = packed + panel * panel_width * K;
        for (int64_t k = 0; k < K; ++k) {
            const int64_t row = k + rotation < K ? k + rotation : k + rotation - K;
            for (int64_t v = 0; v < vectors; ++v, out += lanes) {
                const int64_t n = panel * panel_width + v * lanes;
                store(out, load(matrix + row * N + n, N - n));
            }
        }
        if (pairs) pair_panel(packed + panel * panel_width * K, K, vectors * lanes);
    }
}

void pack_rows(const float* matrix, int64_t N, int64_t K, int64_t first, int64_t past, bool pairs, float* packed) {
    for (int64_t panel = first; panel < past; ++panel) {
        const int64_t vectors = vectors_from(N, panel), width = vectors * lanes;
        float* out = packed + panel * panel_width * K;
        for (int64_t k = 0; k < K; k += packed_together) {
            const int64_t count = K - k < packed_together ? K - k : packed_together;
            for (int64_t v = 0; v < vectors; ++v) {
                const int64_t n = panel * panel_width + v * lanes;
                pack_vector(matrix + n * K + k, K, N - n, count, out + k * width + v * lanes, width);
            }
        }
        if (pairs) pair_panel(out, K, width);
    }
}

#if defined(__AVX512F__)
void pair_panel(float* panel, int64_t K, int64_t width) {
    for (int64_t k = 0; k < K; k += 2)
        for (int64_t j = 0; j < width; j += lanes) {
            const float* const even = panel + k * width + j;
            store(panel + k / 2 * width + j, pair(load(even), k + 1 < K ? load(even + width) : vec{}));
        }
}

void pair_row(const float* x, int64_t K, float* words) {
    for (int64_t k = 0; k < K; k += 2 * lanes, words += lanes)
        store(words, rounded(load(x + k, K - k), K - k > lanes ? load(x + k + lanes, K - k - lanes) : vec{}));
}
#else
void pair_panel(float*, int64_t, int64_t) {}
void pair_row(const float*, int64_t, float*) {}
#endif

void multiply_rows(const float* const* x, float* const* y, int64_t rows, const float* packed, const float* bias,
                   int64_t N, int64_t K, int64_t first, int64_t past, bool pairs, float* area) {
    if (!may_pair || !pairs) return multiply_all<false>(x, y, rows, packed, bias, N, K, first, past);
    const int64_t words = words_of_row(K), fitting = rows_area(K) / words;
    const int64_t together = fitting < most_paired_rows ? fitting : most_paired_rows;
    const float* paired[most_paired_rows];
    for (int64_t row = 0; row < rows; row += together) {
        const int64_t count = rows - row < together ? rows - row : together;
        for (int64_t i = 0; i < count; ++i) {
            pair_row(x[row + i], K, area + i * words);
            paired[i] = area + i * words;
        }
        multiply_all<may_pair>(paired, y + row, count, packed, bias, N, K, first, past);
    }
}

void multiply_row(const float* x, float* y, const float* packed, int64_t N, int64_t K, int64_t first, int64_t past) {
    for (int64_t panel = first; panel < past; ++panel)
        with_vectors(vectors_from(N, panel), [&]<int V>() {
            const int64_t n = panel * panel_width;
            vec sums[V]{};
            add_column_products<4>(sums, x, Columns<V, true>{packed + n * K, V * lanes, N - n}, K);
            store_sums(sums, y + n, N - n);
        });
}

vec add_row_of_products(vec sum, const float* x, const float* rows, int64_t count, int64_t K) {
    constexpr int64_t ahead = 64;
    int64_t k = 0;
    if (count >= lanes)
        for (; k + lanes <= K; k += lanes) {
            vec block[lanes];
#pragma GCC unroll 16
            for (int lane = 0; lane < lanes; ++lane) {
                block[lane] = load(rows + lane * K + k);
                __builtin_prefetch(rows + lane * K + k + ahead);
            }
            transpose(block);
#pragma GCC unroll 16
            for (int i = 0; i < lanes; ++i) sum = fma(splat(x[k + i]), block[i], sum);
        }
    for (; k < K; ++k) {
        vec weights{};
        for (int lane = 0; lane < lanes && lane < count; ++lane) weights[lane] = rows[lane * K + k];
        sum = fma(splat(x[k]), weights, sum);
    }
    return sum;
}

void multiply_row_by_rows(const float* x, float* y, const float* matrix, const float* bias, int64_t N, int64_t K, int64_t first,
                          int64_t past) {
    const int64_t end = past * panel_width < N ? past * panel_width : N;
    for (int64_t n = first * panel_width; n < end; n += lanes)
        store(y + n, add_row_of_products(bias ? load(bias + n, N - n) : vec{}, x, matrix + n * K, N - n, K), N - n);
}

void multiply_row_by_columns(const float* x, float* y, const float* matrix, int64_t N, int64_t K, int64_t rotation, int64_t first,
                             int64_t past) {
    for (int64_t panel = first; panel < past; ++panel)
        with_columns(matrix, N, panel, [&]<int V, bool whole>(Columns<V, whole> columns, int64_t n) {
            vec sums[V]{};
            const Columns<V, whole> rotated{columns.first + rotation * N, N, columns.left};
            add_column_products<1>(sums, x, rotated, K - rotation);
            if (rotation) add_column_products<1>(sums, x + K - rotation, columns, rotation);
            store_sums(sums, y + n, N - n);
        });
}

void multiply_row_in_quarters(const float* x, float* y, const float* matrix, int64_t N, int64_t K, int64_t first, int64_t past) {
    for (int64_t panel = first; panel < past; ++panel)
        with_columns(matrix, N, panel, [&]<int V, bool whole>(Columns<V, whole> columns, int64_t n) {
            vec sums[V]{};
            add_column_products<4>(sums, x, columns, K);
            store_sums(sums, y + n, N - n);
        });
}

void add_outer_products(const float* const* a, const float* const* x, int64_t rows, float* const* y, int64_t N, bool fresh,
                        int64_t first, int64_t past, [[maybe_unused]] bool pairs, float* panel) {
    constexpr int V = 8;
    if (fresh && rows <= 1) {
        for (int64_t m = first; m < past; ++m) {
            const vec factor = splat(rows ? a[0][m] : 0.0f);
            for (int64_t n = 0; n < N; n += lanes) store(y[m] + n, rows ? factor * load(x[0] + n, N - n) : factor, N - n);
        }
        return;
    }
    if (N < lanes) {
        for (int64_t n = 0; n < N; ++n) {
            int64_t m = first;
            for (; m + V * lanes <= past; m += V * lanes) add_outer_column<V>(a, x, rows, y, fresh, m, V * lanes, n);
            for (; m < past; m += lanes) add_outer_column<1>(a, x, rows, y, fresh, m, past - m, n);
        }
        return;
    }
    const int64_t blocks = blocks_of(blocks_of(past - first, outer_outputs), outer_block);
    const int64_t block = blocks_of(blocks_of(past - first, outer_outputs), blocks) * outer_outputs;
    for (int64_t i = 0; i < rows; i += outer_depth) {
        const int64_t depth = rows - i < outer_depth ? rows - i : outer_depth;
        for (int64_t m = first; m < past; m += block) {
            const int64_t past_block = m + block < past ? m + block : past;
            const bool stores = fresh && i == 0;
#if defined(__AVX512F__)
            if (pairs) {
                add_outer_pairs(a + i, x + i, depth, y, stores, m, past_block, N, panel, panel + outer_memory(false));
                continue;
            }
#endif
            add_outer_columns<false>(a + i, x + i, depth, y, stores, m, past_block, N, panel);
        }
    }
}

}  // namespace unrolled::UNROLLED_ISA
