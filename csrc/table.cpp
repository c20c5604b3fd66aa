// This instruction set's kernels in one table. AVX-512 and NEON have one more, for machines with dot products of bytes (VNNI,
// dotprod), which only products with int8 weights use, and AVX-512 one for those that multiply bfloat16 besides, which sequences
// do where they are asked to. Compiled once per instruction set, like every kernel source.
#include "unrolled.h"

namespace unrolled::UNROLLED_ISA {

void lstm_forward(const Steps&, const LstmForward&, int);
void lstm_backward(const Steps&, const LstmBackward&, int);
void gru_forward(const Steps&, const GruForward&, int);
void gru_backward(const Steps&, const GruBackward&, int);
void rnn_forward(const Steps&, const RnnForward&, int);
void rnn_backward(const Steps&, const RnnBackward&, int);
size_t packed_layer_size(Cell, Weights, const Layer&);
void pack_layer(Cell, Weights, const Layer&, float*);
size_t projection_size(Cell, int64_t);
void project(Cell, Weights, const PackedLayer&, int64_t, int64_t, const float*, int64_t, float*);
template <bool dots>
void run_stack(const PackedStack&, const StackRun&, int);
size_t packed_dense_size(Weights, int64_t, int64_t);
void pack_dense(Weights, const float*, const float*, int64_t, int64_t, float*);
template <bool dots>
void dense(Weights, const float*, const float*, float*, int64_t, int64_t, int64_t, int);
void exp_all(const float*, float*, int64_t);
void tanh_all(const float*, float*, int64_t);
void sigmoid_all(const float*, float*, int64_t);

namespace {

#define UNROLLED_NAME_(isa) #isa
#define UNROLLED_NAME(isa) UNROLLED_NAME_(isa)

template <bool dots>
constexpr Kernels make_table(const char* isa, bool multiplies_bfloat16 = false) {
    return {
        isa,
        multiplies_bfloat16,
        lstm_forward,
        lstm_backward,
        gru_forward,
        gru_backward,
        rnn_forward,
        rnn_backward,
        packed_layer_size,
        pack_layer,
        projection_size,
        project,
        run_stack<dots>,
        packed_dense_size,
        pack_dense,
        dense<dots>,
        exp_all,
        tanh_all,
        sigmoid_all,
    };
}

}  // namespace

extern const Kernels table;
const Kernels table = make_table<false>(UNROLLED_NAME(UNROLLED_ISA));
#if defined(__AVX512F__)
extern const Kernels table_vnni;
const Kernels table_vnni = make_table<true>(UNROLLED_NAME(UNROLLED_ISA) "vnni");
extern const Kernels table_bf16;
const Kernels table_bf16 = make_table<true>(UNROLLED_NAME(UNROLLED_ISA) "bf16", true);
#elif defined(UNROLLED_NEON) && defined(UNROLLED_NEON_DOTS)
extern const Kernels table_dot;
const Kernels table_dot = make_table<true>(UNROLLED_NAME(UNROLLED_ISA) "dot");
#endif

}  // namespace unrolled::UNROLLED_ISA
