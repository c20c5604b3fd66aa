// A dense layer with packed weights. A row's result is the same bits in any batch: see products.h.
#include <omp.h>

#include "products.h"
#include "unrolled.h"

namespace unrolled::UNROLLED_ISA {
namespace {

constexpr int vectors = 4, block_outputs = vectors * lanes;

// A panel: biases, then the product.
template <class Product>
int64_t panel_size(int64_t K) { return block_outputs + Product::template size<vectors>(K); }

template <class Product>
void pack(const float* weight, const float* bias, int64_t N, int64_t K, float* panel) {
    for (int64_t first = 0; first < N; first += block_outputs, panel += panel_size<Product>(K)) {
        auto weights_of = [&](int j) { return first + j < N ? weight + (first + j) * K : nullptr; };
        for (int j = 0; j < block_outputs; ++j) panel[j] = bias && first + j < N ? bias[first + j] : 0.0f;
        Product::template pack<vectors>(weights_of, K, panel + block_outputs);
    }
}

template <class Product>
void multiply(const float* x, const float* packed, float* y, int64_t M, int64_t N, int64_t K, int threads) {
    using Row = typename Product::Row;
    const int64_t blocks = blocks_of(N, block_outputs), size = panel_size<Product>(K);
    const int64_t row_bytes = blocks_of(Product::row_bytes(K), 64) * 64;
    const bool by_rows = M >= blocks;
    uint8_t* area = reinterpret_cast<uint8_t*>(scratch((by_rows ? 1 : threads) * M * (row_bytes + sizeof(Row)) / 4 + 16));
    auto share = [&](int64_t rank, int64_t ranks) {
        FlushDenormals flush;
        const int64_t first_row = by_rows ? M * rank / ranks : 0, past_row = by_rows ? M * (rank + 1) / ranks : M;
        const int64_t first = by_rows ? 0 : blocks * rank / ranks;
        const int64_t past = by_rows ? blocks : blocks * (rank + 1) / ranks;
        uint8_t* mine = area + (by_rows ? first_row : rank * M) * (row_bytes + sizeof(Row));
        uint8_t* bytes = mine;
        Row* rows = reinterpret_cast<Row*>(mine + (past_row - first_row) * row_bytes);
        for (int64_t i = first_row; i < past_row; ++i, bytes += row_bytes) rows[i - first_row] = Product::row(x + i * K, K, bytes);
        cover_with<Product, vectors>(past_row - first_row, first, past, [&]<int R, int P>(int64_t row, int64_t block) {
            const float* panel = packed + block * size;
            Row inputs[R];
            vec sums[R][P][vectors];
            for (int r = 0; r < R; ++r) {
                inputs[r] = rows[row + r];
                for (int p = 0; p < P; ++p)
                    for (int v = 0; v < vectors; ++v) sums[r][p][v] = load(panel + p * size + v * lanes);
            }
            Product::template add<R, P, vectors>(sums, inputs, panel + block_outputs, size, K);
            for (int r = 0; r < R; ++r)
                for (int p = 0; p < P; ++p)
                    for (int v = 0; v < vectors; ++v) {
                        const int64_t n = (block + p) * block_outputs + v * lanes;
                        if (n < N) store(y + (first_row + row + r) * N + n, sums[r][p][v], N - n);
                    }
        });
    };
    if (threads == 1) return share(0, 1);
#pragma omp parallel num_threads(threads)
    share(omp_get_thread_num(), omp_get_num_threads());
}

template <bool vnni, class Body>
auto choose(Weights weights, Body body) {
    switch (weights) {
        case Weights::bfloat16: return body.template operator()<Bfloat16>();
        case Weights::int8: return body.template operator()<Int8<vnni>>();
        default: return body.template operator()<Float32>();
    }
}

}  // namespace

size_t packed_dense_size(Weights weights, int64_t N, int64_t K) {
    return choose<false>(weights, [&]<class Product> { return blocks_of(N, block_outputs) * panel_size<Product>(K); });
}

void pack_dense(Weights weights, const float* weight, const float* bias, int64_t N, int64_t K, float* packed) {
    choose<false>(weights, [&]<class Product> { pack<Product>(weight, bias, N, K, packed); });
}

template <bool vnni>
void dense(Weights weights, const float* x, const float* packed, float* y, int64_t M, int64_t N, int64_t K,
            int threads) {
    choose<vnni>(weights, [&]<class Product> { multiply<Product>(x, packed, y, M, N, K, threads); });
}
template void dense<false>(Weights, const float*, const float*, float*, int64_t, int64_t, int64_t, int);
#if defined(__AVX512F__)
template void dense<true>(Weights, const float*, const float*, float*, int64_t, int64_t, int64_t, int);
#endif

}  // namespace unrolled::UNROLLED_ISA
