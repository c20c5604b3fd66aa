// Layer normalisation (Ba, Kiros & Hinton 2016) of rows, whose numbers stand next to each other, and the step of an LSTM
// whose gates and c it normalises. Means and variances are sums of 16 sums, of the numbers 0, 16, 32, ..., 1, 17, ... of
// the row: an order that knows no vectors, no batch and no threads. Defined in normal.cpp.
#pragma once

#include "cells.h"

namespace unrolled::UNROLLED_ISA {

// A row of n values becomes its normalised values; returns 1 over their standard deviation.
float normalise(float* values, int64_t n);

// The gradient at a row that became `normal` [n] by the factor `scale`, from `grad` [n], the gradient at gain * normal.
void normalise_back(const float* grad, const float* gain, const float* normal, float scale, int64_t n, float* out);

// share [n] = bias (or 0) + gain * normal; the two may be one.
void add_gain(const float* normal, const float* gain, const float* bias, int64_t n, float* share);

// One step of a row, the row `at` of the variant's factors. From the input's share of the gates [G*H] and the product with
// h [G*H], which becomes its normalised self, to c [H] (which may be c_before) and h [H]; with a projection, where
// h_before is null, the h that is still to be projected. Null: c_before zero, gates [4H] not kept. Returns 1 over the
// product's standard deviation.
float normalised_step(const LstmVariant& variant, int64_t H, int64_t at, const float* share, float* product,
                      const float* h_before, const float* c_before, float* c, float* h, float* gates);

}  // namespace unrolled::UNROLLED_ISA
