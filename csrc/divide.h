// Kernels' side of crew.h: work as bodies that are called for their parts.
#pragma once

#include "crew.h"
#include "simd.h"

namespace unrolled::UNROLLED_ISA {

// Calls work(member) on this thread and on as many helpers as make it `threads`, if they come.
template <class Work>
void take_part(int threads, const Work& work) {
    crew::run(threads, [](const void* context, crew::Member& member) { (*static_cast<const Work*>(context))(member); }, &work);
}

// Calls body(first, past) for parts of n things, of `least` or more; returns when all are done, by whichever member.
template <class Body>
UNROLLED_INLINE void divide(crew::Member& member, int64_t n, int64_t least, Body&& body) {
    member.begin(n, least);
    for (int64_t first, past; member.take(first, past);) body(first, past);
    member.meet();
}

}  // namespace unrolled::UNROLLED_ISA
