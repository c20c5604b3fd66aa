// The vector functions of simd.h over arrays, for tests and for whoever else needs them.
#include "simd.h"
#include "unrolled.h"

namespace unrolled::UNROLLED_ISA {

template <class Function>
static void map(const float* x, float* y, int64_t n, Function function) {
    FlushDenormals flush;
    for (int64_t i = 0; i < n; i += lanes) store(y + i, function(load(x + i, n - i)), n - i);
}

void exp_all(const float* x, float* y, int64_t n) { map(x, y, n, [](vec v) { return exp(v); }); }
void tanh_all(const float* x, float* y, int64_t n) { map(x, y, n, [](vec v) { return tanh(v); }); }
void sigmoid_all(const float* x, float* y, int64_t n) { map(x, y, n, [](vec v) { return sigmoid(v); }); }

}  // namespace unrolled::UNROLLED_ISA
