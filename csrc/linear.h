// Products of many rows with one packed matrix, and sums of outer products: what is large in a layer and not in
// the chain through time. Defined in linear.cpp.
#pragma once

#include "tile.h"

namespace unrolled::UNROLLED_ISA {

constexpr int panel_vectors = 4, panel_width = panel_vectors * lanes;

// A matrix [K, N] as panels of four vectors of columns, panel[k][v][lane]; the last panel has as many vectors as
// it needs. Panels stand one after the other, panel_width * K floats apart.
constexpr int64_t packed_columns_size(int64_t N, int64_t K) { return blocks_of(N, lanes) * lanes * K; }

// Packs the panels [first, past) of the matrix whose element (k, n) is matrix[k' * row_stride + n * column_stride]
// where k' is k moved on by `rotation`, past the last row to the first.
void pack_columns(const float* matrix, int64_t row_stride, int64_t column_stride, int64_t N, int64_t K,
                  int64_t rotation, int64_t first, int64_t past, float* packed);

// y[i] [N] = bias [N] (or 0) + x[i] [K] times the packed matrix [K, N], for `rows` rows and the columns of the
// panels [first, past); every output is one chain of multiply-adds in ascending order of k.
void multiply_rows(const float* const* x, float* const* y, int64_t rows, const float* packed, const float* bias,
                   int64_t N, int64_t K, int64_t first, int64_t past);

// y[m] [N] += the sum over i of a[i][m] * x[i] [N], for the outputs m in [first, past). `panel` is working memory
// of rows * panel_width floats.
void add_outer_products(const float* const* a, const float* const* x, int64_t rows, float* const* y, int64_t N,
                        int64_t first, int64_t past, float* panel);

}  // namespace unrolled::UNROLLED_ISA
