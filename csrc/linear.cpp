// A matrix product whose every output is one chain of multiply-adds in ascending order, so that a row's
// result is the same bits in any batch. Weights are packed once.
#include <omp.h>

#include "tile.h"
#include "unrolled.h"

namespace unrolled::UNROLLED_ISA {

constexpr int block_vectors = 4, block_outputs = block_vectors * lanes;

size_t packed_linear_size(int64_t N, int64_t K) { return blocks_of(N, block_outputs) * block_outputs * K; }

void pack_linear(const float* weight, int64_t N, int64_t K, float* packed) {
    for (int64_t n = 0; n < blocks_of(N, block_outputs) * block_outputs; ++n) {
        float* out = packed + n / block_outputs * block_outputs * K + n % block_outputs;
        for (int64_t k = 0; k < K; ++k) out[k * block_outputs] = n < N ? weight[n * K + k] : 0.0f;
    }
}

void linear(const float* x, const float* packed, const float* bias, float* y, int64_t M, int64_t N, int64_t K,
            int threads) {
    const int64_t blocks = blocks_of(N, block_outputs), panel_size = block_outputs * K;
    const bool by_rows = M >= blocks;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        FlushDenormals flush;
        const int64_t rank = omp_get_thread_num(), ranks = omp_get_num_threads();
        const int64_t first_row = by_rows ? M * rank / ranks : 0, past_row = by_rows ? M * (rank + 1) / ranks : M;
        const int64_t first = by_rows ? 0 : blocks * rank / ranks;
        const int64_t past = by_rows ? blocks : blocks * (rank + 1) / ranks;
        cover<block_vectors>(past_row - first_row, first, past, [&]<int R, int P>(int64_t row, int64_t block) {
            const float* inputs[R];
            vec sums[R][P][block_vectors];
            for (int r = 0; r < R; ++r) {
                inputs[r] = x + (first_row + row + r) * K;
                for (int p = 0; p < P; ++p)
                    for (int v = 0; v < block_vectors; ++v) {
                        const int64_t n = (block + p) * block_outputs + v * lanes;
                        sums[r][p][v] = bias && n < N ? load(bias + n, N - n) : vec{};
                    }
            }
            add_products<R, P, block_vectors>(sums, inputs, packed + block * panel_size, panel_size, K);
            for (int r = 0; r < R; ++r)
                for (int p = 0; p < P; ++p)
                    for (int v = 0; v < block_vectors; ++v) {
                        const int64_t n = (block + p) * block_outputs + v * lanes;
                        if (n < N) store(y + (first_row + row + r) * N + n, sums[r][p][v], N - n);
                    }
        });
    }
}

}  // namespace unrolled::UNROLLED_ISA
