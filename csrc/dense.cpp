// A dense layer with packed weights. A row's result is the same bits in any batch: see products.h.
#include "divide.h"
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

// Of x [M, K] the rows [first_row, past_row) times the panels [first, past); `area` is for the rows as products read them.
template <class Product>
void multiply_part(const float* x, const float* packed, float* y, int64_t N, int64_t K, int64_t first_row, int64_t past_row,
                   int64_t first, int64_t past, uint8_t* area) {
    using Row = typename Product::Row;
    FlushDenormals flush;
    const int64_t size = panel_size<Product>(K);
    Row* rows = reinterpret_cast<Row*>(area);
    uint8_t* bytes = area + (past_row - first_row) * sizeof(Row);
    for (int64_t i = first_row; i < past_row; ++i, bytes += Product::row_bytes(K)) rows[i - first_row] = Product::row(x + i * K, K, bytes);
    cover_with<Product, vectors>(past_row - first_row, first, past, most_panels, [&]<int R, int P>(int64_t row, int64_t block) {
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
}

// Threads take rows where these are many, else panels, each with all rows in an area of its own.
template <class Product>
void multiply(const float* x, const float* packed, float* y, int64_t M, int64_t N, int64_t K, int threads) {
    constexpr int64_t least_panels = 2;
    const int64_t blocks = blocks_of(N, block_outputs);
    const int64_t area_bytes = blocks_of(M * (sizeof(typename Product::Row) + Product::row_bytes(K)), 64) * 64;
    uint8_t* areas = reinterpret_cast<uint8_t*>(scratch(threads * area_bytes / 4));
    take_part(threads, [=](crew::Member& member) {
        uint8_t* area = areas + member.index() * area_bytes;
        if (M >= blocks)
            divide(member, M, blocks_of(M, threads), [&](int64_t row, int64_t past) {
                multiply_part<Product>(x, packed, y, N, K, row, past, 0, blocks, area);
            });
        else
            divide(member, blocks, least_panels, [&](int64_t first, int64_t past) {
                multiply_part<Product>(x, packed, y, N, K, 0, M, first, past, area);
            });
    });
}

template <bool dots, class Body>
auto choose(Weights weights, Body body) {
    switch (weights) {
        case Weights::bfloat16: return body.template operator()<Bfloat16>();
        case Weights::int8: return body.template operator()<Int8<dots>>();
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

template <bool dots>
void dense(Weights weights, const float* x, const float* packed, float* y, int64_t M, int64_t N, int64_t K,
            int threads) {
    choose<dots>(weights, [&]<class Product> { multiply<Product>(x, packed, y, M, N, K, threads); });
}
template void dense<false>(Weights, const float*, const float*, float*, int64_t, int64_t, int64_t, int);
#if defined(UNROLLED_DOTS)
template void dense<true>(Weights, const float*, const float*, float*, int64_t, int64_t, int64_t, int);
#endif

}  // namespace unrolled::UNROLLED_ISA
