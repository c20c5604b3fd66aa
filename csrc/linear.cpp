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

// `whole`: no panel goes past the last column.
template <int V, bool whole>
void multiply_panels(const float* const* x, float* const* y, int64_t rows, const float* packed, const float* bias,
                     int64_t N, int64_t K, int64_t first, int64_t past) {
    cover<V>(rows, first, past, blocks_of(N, panel_width), [&]<int R, int P>(int64_t row, int64_t panel, Place place) {
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
        add_products<R, P, V>(sums, inputs, packed + panel * panel_width * K, panel_width * K, K,
                              place.ahead(packed, panel_width * K, K));
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

// Of rows that lie far apart, how many later ones are asked for.
constexpr int64_t rows_ahead = 8;

// The columns [m0, m0 + outputs) of a, as tiles of outer_outputs: tile[i][j], zero past the last.
void pack_outputs(const float* const* a, int64_t rows, int64_t m0, int64_t outputs, float* tiles) {
    for (int64_t i = 0; i < rows; ++i) {
        const float* from = a[i] + m0;
        if (i + rows_ahead < rows) ask(a[i + rows_ahead] + m0, outputs);
        for (int64_t m = 0; m < outputs; m += outer_outputs) {
            float* to = tiles + m * rows + i * outer_outputs;
            if (m + outer_outputs <= outputs) __builtin_memcpy(to, from + m, outer_outputs * sizeof(float));
            else
                for (int64_t j = 0; j < outer_outputs; ++j) to[j] = m + j < outputs ? from[m + j] : 0.0f;
        }
    }
}

// outer_outputs by V vectors of columns from n on, summed over rows in registers; `outputs` of them are there.
template <int V>
void add_outer_tile(const float* tile, const float* panel, int64_t rows, float* const* y, int64_t outputs, int64_t n,
                    int64_t N) {
    const float* factors[outer_outputs];
#pragma GCC unroll 12
    for (int j = 0; j < outer_outputs; ++j) factors[j] = tile + j;
    vec sums[outer_outputs][1][V];
#pragma GCC unroll 12
    for (int j = 0; j < outer_outputs; ++j) {
        if (j < outputs) ask_to_write(y[j] + n, V * lanes);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sums[j][0][v] = vec{};
    }
    add_products<outer_outputs, 1, V, outer_outputs>(sums, factors, panel, 0, rows);
#pragma GCC unroll 12
    for (int j = 0; j < outer_outputs; ++j)
        if (j < outputs)
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) {
                const int64_t at = n + v * lanes;
                store(y[j] + at, load(y[j] + at, N - at) + sums[j][0][v], N - at);
            }
}

// A part of the rows, of the columns [n, n + V vectors) of x and of a block of outputs whose tiles are packed.
template <int V>
void add_outer_panel(const float* tiles, const float* const* x, int64_t rows, float* const* y, int64_t outputs, int64_t n,
                     int64_t N, float* panel) {
    for (int64_t i = 0; i < rows; ++i)
        for (int v = 0; v < V; ++v) {
            const int64_t at = n + v * lanes;
            store(panel + (i * V + v) * lanes, load(x[i] + at, N - at));
        }
    const int64_t next = n + V * lanes;
    int64_t asked = 0;
    for (int64_t m = 0; m < outputs; m += outer_outputs) {
        if (next < N)  // each tile asks for its part of the next columns
            for (const int64_t part = rows * (m + outer_outputs) / outputs; asked < part && asked < rows; ++asked)
                ask(x[asked] + next, V * lanes);
        add_outer_tile<V>(tiles + m * rows, panel, rows, y + m, outputs - m, n, N);
    }
}

// One column n of x: V vectors of outputs, or `outputs` where these are fewer, summed over rows in registers.
template <int V>
void add_outer_column(const float* const* a, const float* const* x, int64_t rows, float* const* y, int64_t m, int64_t outputs,
                      int64_t n) {
    vec sums[V] = {};
    for (int64_t i = 0; i < rows; ++i) {
        const vec factor = splat(x[i][n]);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v)
            sums[v] = fma(factor, V == 1 ? load(a[i] + m, outputs) : load(a[i] + m + v * lanes), sums[v]);
    }
    for (int j = 0; j < V * lanes && j < outputs; ++j) y[m + j][n] += sums[j / lanes][j % lanes];
}

}  // namespace

void pack_columns(const float* matrix, int64_t N, int64_t K, int64_t rotation, int64_t first, int64_t past, float* packed) {
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
    }
}

void pack_rows(const float* matrix, int64_t N, int64_t K, int64_t first, int64_t past, float* packed) {
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
    }
}

void multiply_rows(const float* const* x, float* const* y, int64_t rows, const float* packed, const float* bias,
                   int64_t N, int64_t K, int64_t first, int64_t past) {
    const int64_t whole = N / panel_width, past_whole = past < whole ? past : whole;
    if (first < past_whole) multiply_panels<panel_vectors, true>(x, y, rows, packed, bias, N, K, first, past_whole);
    if (past > whole)
        with_vectors(vectors_from(N, whole), [&]<int V>() {
            multiply_panels<V, false>(x, y, rows, packed, bias, N, K, whole, past);
        });
}

void add_outer_products(const float* const* a, const float* const* x, int64_t rows, float* const* y, int64_t N,
                        int64_t first, int64_t past, float* memory) {
    constexpr int V = 8;
    if (N < lanes) {
        for (int64_t n = 0; n < N; ++n) {
            int64_t m = first;
            for (; m + V * lanes <= past; m += V * lanes) add_outer_column<V>(a, x, rows, y, m, V * lanes, n);
            for (; m < past; m += lanes) add_outer_column<1>(a, x, rows, y, m, past - m, n);
        }
        return;
    }
    float* panel = memory + outer_block * outer_depth;
    for (int64_t i = 0; i < rows; i += outer_depth) {
        const int64_t depth = rows - i < outer_depth ? rows - i : outer_depth;
        for (int64_t m = first; m < past; m += outer_block) {
            const int64_t outputs = past - m < outer_block ? past - m : outer_block;
            pack_outputs(a + i, depth, m, outputs, memory);
            for (int64_t n = 0; n < N; n += outer_vectors * lanes) {
                if (N - n > lanes) add_outer_panel<outer_vectors>(memory, x + i, depth, y + m, outputs, n, N, panel);
                else add_outer_panel<1>(memory, x + i, depth, y + m, outputs, n, N, panel);
            }
        }
    }
}

}  // namespace unrolled::UNROLLED_ISA
