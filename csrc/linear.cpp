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

template <int V>
void multiply_panels(const float* const* x, float* const* y, int64_t rows, const float* packed, const float* bias,
                     int64_t N, int64_t K, int64_t first, int64_t past) {
    cover<V>(rows, first, past, [&]<int R, int P>(int64_t row, int64_t panel) {
        const float* inputs[R];
        vec sums[R][P][V];
        for (int r = 0; r < R; ++r) {
            inputs[r] = x[row + r];
            for (int p = 0; p < P; ++p)
                for (int v = 0; v < V; ++v) {
                    const int64_t n = (panel + p) * panel_width + v * lanes;
                    sums[r][p][v] = bias ? load(bias + n, N - n) : vec{};
                }
        }
        add_products<R, P, V>(sums, inputs, packed + panel * panel_width * K, panel_width * K, K);
        for (int r = 0; r < R; ++r)
            for (int p = 0; p < P; ++p)
                for (int v = 0; v < V; ++v) {
                    const int64_t n = (panel + p) * panel_width + v * lanes;
                    store(y[row + r] + n, sums[r][p][v], N - n);
                }
    });
}

// M outputs by V vectors of columns, summed over rows in registers.
template <int M, int V>
UNROLLED_INLINE void add_outer_tile(const float* const* a, int64_t rows, float* const* y, int64_t m,
                                    const float* panel, int64_t n, int64_t N) {
    vec sums[M][V] = {};
    for (int64_t i = 0; i < rows; ++i, panel += V * lanes) {
        vec x[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) x[v] = load(panel + v * lanes);
        const float* left = a[i] + m;
#pragma GCC unroll 8
        for (int j = 0; j < M; ++j) {
            const vec factor = splat(left[j]);
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sums[j][v] = fma(factor, x[v], sums[j][v]);
        }
    }
    for (int j = 0; j < M; ++j)
        for (int v = 0; v < V; ++v) {
            const int64_t at = n + v * lanes;
            store(y[m + j] + at, load(y[m + j] + at, N - at) + sums[j][v], N - at);
        }
}

// A tile's most vectors where there are few registers: two, and then it is wide in outputs.
constexpr int outer_vectors = registers == 32 ? 4 : 2, outer_rows = 6;

}  // namespace

void pack_columns(const float* matrix, int64_t row_stride, int64_t column_stride, int64_t N, int64_t K,
                  int64_t rotation, int64_t first, int64_t past, float* packed) {
    constexpr int64_t block = 16;  // of k, so that the lines written stay near while the columns pass
    for (int64_t panel = first; panel < past; ++panel) {
        const int64_t width = vectors_from(N, panel) * lanes;
        float* out = packed + panel * panel_width * K;
        for (int64_t k0 = 0; k0 < K; k0 += block) {
            const int64_t k1 = k0 + block < K ? k0 + block : K;
            for (int64_t j = 0; j < width; ++j) {
                const int64_t n = panel * panel_width + j;
                for (int64_t k = k0; k < k1; ++k) {
                    const int64_t row = k + rotation < K ? k + rotation : k + rotation - K;
                    out[k * width + j] = n < N ? matrix[row * row_stride + n * column_stride] : 0.0f;
                }
            }
        }
    }
}

void multiply_rows(const float* const* x, float* const* y, int64_t rows, const float* packed, const float* bias,
                   int64_t N, int64_t K, int64_t first, int64_t past) {
    const int64_t whole = N / panel_width, past_whole = past < whole ? past : whole;
    if (first < past_whole) multiply_panels<panel_vectors>(x, y, rows, packed, bias, N, K, first, past_whole);
    if (past > whole)
        with_vectors(vectors_from(N, whole), [&]<int V>() {
            multiply_panels<V>(x, y, rows, packed, bias, N, K, whole, past);
        });
}

void add_outer_products(const float* const* a, const float* const* x, int64_t rows, float* const* y, int64_t N,
                        int64_t first, int64_t past, float* panel) {
    for (int64_t n = 0; n < N; n += outer_vectors * lanes) {
        const int64_t left = blocks_of(N - n, lanes);
        with_vectors(left < outer_vectors ? left : outer_vectors, [&]<int V>() {
            if constexpr (V <= outer_vectors) {
                for (int64_t i = 0; i < rows; ++i)
                    for (int v = 0; v < V; ++v) {
                        const int64_t at = n + v * lanes;
                        store(panel + (i * V + v) * lanes, load(x[i] + at, N - at));
                    }
                int64_t m = first;
                for (; m + outer_rows <= past; m += outer_rows) add_outer_tile<outer_rows, V>(a, rows, y, m, panel, n, N);
                for (; m < past; ++m) add_outer_tile<1, V>(a, rows, y, m, panel, n, N);
            }
        });
    }
}

}  // namespace unrolled::UNROLLED_ISA
