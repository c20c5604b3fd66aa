// Products of numbers rounded to bfloat16, two of which stand in each word of 32 bits: the even one in the lower half. A word
// takes one multiply-add where float32 takes two. Whether the machine has such multiply-adds, Kernels::bfloat16 says.
#pragma once

#include "simd.h"

namespace unrolled::UNROLLED_ISA {

#if defined(__AVX512F__)
constexpr bool may_pair = true;
#else
constexpr bool may_pair = false;
#endif

// Words of K numbers, with a zero behind an odd one; and of a row of them, which is as many vectors as it needs.
constexpr int64_t pairs_of(int64_t K) { return (K + 1) / 2; }
constexpr int64_t words_of_row(int64_t K) { return (K + 2 * lanes - 1) / (2 * lanes) * lanes; }

// sum + a * b; with `pairs`, sum + the two products of each word.
template <bool pairs>
UNROLLED_INLINE vec multiply_add(vec a, vec b, vec sum) { return fma(a, b, sum); }

#if defined(__AVX512F__)
// These two instructions are those of AVX512_BF16, which the rest of this instruction set's code may not use.
template <>
UNROLLED_INLINE_MEMBER vec multiply_add<true>(vec a, vec b, vec sum) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

// Rounded to nearest, the numbers of `first` and then those of `second`.
UNROLLED_INLINE vec narrow(vec first, vec second) {
    vec words;
    asm("vcvtne2ps2bf16 %1, %2, %0" : "=v"(words) : "v"(first), "v"(second));
    return words;
}

// Rounded to nearest, words of the numbers of `even` and those of `odd`.
UNROLLED_INLINE vec pair(vec even, vec odd) {
    typedef int16_t halves __attribute__((vector_size(lanes * 4)));
    halves order;
    for (int i = 0; i < lanes; ++i) order[2 * i] = i, order[2 * i + 1] = lanes + i;
    return (vec)_mm512_permutexvar_epi16((__m512i)order, (__m512i)narrow(even, odd));
}
#else  // named where may_pair is asked before
vec narrow(vec first, vec second);
vec pair(vec even, vec odd);
#endif

}  // namespace unrolled::UNROLLED_ISA
