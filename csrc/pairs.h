// Products of numbers rounded to bfloat16, two of which stand in each word of 32 bits: the even one in the lower half. A word
// takes one multiply-add where float32 takes two. Whether the machine has such multiply-adds, Kernels::multiplies_bfloat16 says.
#pragma once

#include "simd.h"

namespace unrolled::UNROLLED_ISA {

// Whether this instruction set is compiled with them; a machine may lack them still.
#if defined(__AVX512F__)
constexpr bool may_pair = true;
#else
constexpr bool may_pair = false;
#endif

// How many words hold K numbers, of which an odd last one has a zero beside it; and the same in whole vectors, as a row has them.
constexpr int64_t pairs_of(int64_t K) { return (K + 1) / 2; }
constexpr int64_t words_of_row(int64_t K) { return (K + 2 * lanes - 1) / (2 * lanes) * lanes; }

// sum + a * b; with `pairs`, sum + the two products of each word.
template <bool pairs>
UNROLLED_INLINE vec multiply_add(vec a, vec b, vec sum) { return fma(a, b, sum); }

#if defined(__AVX512F__)
// This instruction and the next one are AVX512_BF16's, which the rest of this instruction set's code may not use.
template <>
UNROLLED_INLINE_MEMBER vec multiply_add<true>(vec a, vec b, vec sum) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

// Rounded to nearest, the numbers of `first` and then those of `second`.
UNROLLED_INLINE vec rounded(vec first, vec second) {
    vec words;
    asm("vcvtne2ps2bf16 %1, %2, %0" : "=v"(words) : "v"(first), "v"(second));
    return words;
}

// Rounded to nearest, words of the numbers of `even` and those of `odd`.
UNROLLED_INLINE vec pair(vec even, vec odd) {
    typedef int16_t halves __attribute__((vector_size(lanes * 4)));
    halves order;
    for (int i = 0; i < lanes; ++i) order[2 * i] = i, order[2 * i + 1] = lanes + i;
    return (vec)_mm512_permutexvar_epi16((__m512i)order, (__m512i)rounded(even, odd));
}
#else
vec pair(vec even, vec odd);  // never called: may_pair is asked before
#endif

}  // namespace unrolled::UNROLLED_ISA
