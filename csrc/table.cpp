// This instruction set's kernels in one table, and the packing of recurrent weights, which the three cells
// share. Compiled once per instruction set, like every kernel source.
#include "sequence.h"

namespace unrolled::UNROLLED_ISA {

void lstm_forward(const Steps&, const LstmForward&, int);
void lstm_backward(const Steps&, const LstmBackward&, int);
void gru_forward(const Steps&, const GruForward&, int);
void gru_backward(const Steps&, const GruBackward&, int);
void rnn_forward(const Steps&, const RnnForward&, int);
void rnn_backward(const Steps&, const RnnBackward&, int);
size_t packed_linear_size(int64_t, int64_t);
void pack_linear(const float*, int64_t, int64_t, float*);
void linear(const float*, const float*, const float*, float*, int64_t, int64_t, int64_t, int);
void exp_all(const float*, float*, int64_t);
void tanh_all(const float*, float*, int64_t);
void sigmoid_all(const float*, float*, int64_t);

namespace {

template <int G>
size_t packed_size(int64_t H) {
    return blocks_of(H, ForwardBlock<G>::units) * ForwardBlock<G>::N * lanes * H;
}

template <int G>
void pack(const float* weight_hh, int64_t H, float* packed) {
    for (int64_t block = 0; block < blocks_of(H, ForwardBlock<G>::units); ++block)
        pack_forward_block<G>(weight_hh, H, block, packed);
}

size_t packed_recurrent_size(int64_t G, int64_t H) {
    return G == 4 ? packed_size<4>(H) : G == 3 ? packed_size<3>(H) : packed_size<1>(H);
}

void pack_recurrent(const float* weight_hh, int64_t G, int64_t H, float* packed) {
    if (G == 4) pack<4>(weight_hh, H, packed);
    else if (G == 3) pack<3>(weight_hh, H, packed);
    else pack<1>(weight_hh, H, packed);
}

#define UNROLLED_NAME_(isa) #isa
#define UNROLLED_NAME(isa) UNROLLED_NAME_(isa)

}  // namespace

extern const Kernels table;
const Kernels table{
    UNROLLED_NAME(UNROLLED_ISA),
    lstm_forward,
    lstm_backward,
    gru_forward,
    gru_backward,
    rnn_forward,
    rnn_backward,
    packed_recurrent_size,
    pack_recurrent,
    packed_linear_size,
    pack_linear,
    linear,
    exp_all,
    tanh_all,
    sigmoid_all,
};

}  // namespace unrolled::UNROLLED_ISA
