// Products of many rows with one packed matrix, and sums of outer products: what is large in a layer and not in
// the chain through time. Defined in linear.cpp.
#pragma once

#include "tile.h"

namespace unrolled::UNROLLED_ISA {

constexpr int panel_vectors = 4, panel_width = panel_vectors * lanes;

// A matrix [K, N] as panels of four vectors of columns, panel[k][v][lane]; the last panel has as many vectors as
// it needs. Panels stand one after the other, panel_width * K floats apart.
constexpr int64_t packed_columns_size(int64_t N, int64_t K) { return blocks_of(N, lanes) * lanes * K; }

// Packs the panels [first, past) of the matrix whose row k is row k' of `matrix` [K, N], where k' is k moved on by
// `rotation`, past the last row to the first. With `pairs` a panel holds words, in the first half of its place.
void pack_columns(const float* matrix, int64_t N, int64_t K, int64_t rotation, int64_t first, int64_t past, bool pairs,
                  float* packed);

// The same of the matrix whose columns are the rows of `matrix` [N, K].
void pack_rows(const float* matrix, int64_t N, int64_t K, int64_t first, int64_t past, bool pairs, float* packed);

// Makes words of a panel [K][width] in its place, where this instruction set has any.
void pair_panel(float* panel, int64_t K, int64_t width);

// Makes words of a row's K numbers: words_of_row(K).
void pair_row(const float* x, int64_t K, float* words);

// Working memory for rows of K numbers as words: of so many rows at most, and of no more than fill a part of the second cache.
constexpr int64_t most_paired_rows = 128, paired_floats = 1 << 16;
constexpr int64_t rows_area(int64_t K) { return words_of_row(K) > paired_floats ? words_of_row(K) : paired_floats; }

// y[i] [N] = bias [N] (or 0) + x[i] [K] times the packed matrix [K, N], for `rows` rows and the columns of the
// panels [first, past); every output is one chain of multiply-adds in ascending order of k. With `pairs` the panels are of
// words, and `area` is rows_area(K) floats.
void multiply_rows(const float* const* x, float* const* y, int64_t rows, const float* packed, const float* bias,
                   int64_t N, int64_t K, int64_t first, int64_t past, bool pairs, float* area);

// The same of one row, without a bias, for gradients: each output is the sum of four chains, each of a quarter of K, because
// one vector of outputs alone is too few sums to hide a multiply-add's latency.
void multiply_row(const float* x, float* y, const float* packed, int64_t N, int64_t K, int64_t first, int64_t past);

// A matrix that one row is multiplied with, and only once, is read where it lies: packed, it would be written and read again.

// sum + x [K] times `count` rows of K numbers, `lanes` of them at most: a row gives a lane, in ascending order of k.
vec add_row_of_products(vec sum, const float* x, const float* rows, int64_t count, int64_t K);

// multiply_rows of one row, by the matrix whose columns are the rows of `matrix` [N, K]; and by `matrix` [K, N] itself, its rows
// in the order of pack_columns, without a bias.
void multiply_row_by_rows(const float* x, float* y, const float* matrix, const float* bias, int64_t N, int64_t K, int64_t first,
                          int64_t past);
void multiply_row_by_columns(const float* x, float* y, const float* matrix, int64_t N, int64_t K, int64_t rotation, int64_t first,
                             int64_t past);

// multiply_row by `matrix` [K, N].
void multiply_row_in_quarters(const float* x, float* y, const float* matrix, int64_t N, int64_t K, int64_t first, int64_t past);

// Sums of outer products: a tile of outputs by vectors of columns fills the registers, while so many rows, at most, of the
// columns pass, which are gathered before; and so many tiles are made, at most, each time that they are.
constexpr int outer_vectors = 2, outer_outputs = registers == 32 ? 12 : 6;
constexpr int64_t outer_depth = registers == 32 ? 512 : 256, outer_block = 384 / outer_outputs;
constexpr int64_t outer_factors = pairs_of(outer_depth) * outer_block * outer_outputs;  // words
constexpr int64_t outer_memory(bool pairs) { return outer_vectors * lanes * outer_depth + (pairs ? outer_factors : 0); }

// y[m] [N] += the sum over i of a[i][m] * x[i] [N], for `rows` rows and the outputs m in [first, past); y = where it is
// `fresh`. Reads rows of a up to outer_outputs - 1 floats beyond `past`. `panel` is working memory of outer_memory(pairs)
// floats; with `pairs` the numbers of neighbouring rows are words, but for x of fewer columns than a vector and one fresh row.
void add_outer_products(const float* const* a, const float* const* x, int64_t rows, float* const* y, int64_t N, bool fresh,
                        int64_t first, int64_t past, bool pairs, float* panel);

}  // namespace unrolled::UNROLLED_ISA
