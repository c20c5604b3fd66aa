// Kernels' side of crew.h: work as bodies that are called for their parts.
#pragma once

#if defined(_OPENMP)
#include <omp.h>
#endif

#include <type_traits>

#include "crew.h"
#include "simd.h"

namespace unrolled::UNROLLED_ISA {

// Calls body(first, past) for parts of n things, of `least` or more; returns when all have been begun, by whichever member.
template <class Body>
UNROLLED_INLINE void divide_on(crew::Member& member, int64_t n, int64_t least, Body&& body) {
    member.begin(n, least);
    for (int64_t first, past; member.take(first, past);) body(first, past);
}

// The same; returns when all are done, and those of earlier rounds.
template <class Body>
UNROLLED_INLINE void divide(crew::Member& member, int64_t n, int64_t least, Body&& body) {
    divide_on(member, n, least, body);
    member.meet();
}

// Calls work(member) on this thread and on as many helpers as make it `threads`, if they come, each with a copy of it: after
// its last round it may not read what is the caller's own.
template <class Work>
void take_part(int threads, const Work& work) {
    static_assert(std::is_trivially_copyable_v<Work> && sizeof(Work) <= crew::most_context);
    crew::run(threads, [](const void* context, crew::Member& member) { (*static_cast<const Work*>(context))(member); }, &work,
              sizeof work);
}

// The same for work that may read what is the caller's own to its end. It runs on OpenMP's threads where OpenMP is torch's too,
// so in training: after torch's operators these are still awake, and helpers would have to share a processor with them.
template <class Work>
void take_part_in_team(int threads, const Work& work) {
    threads = threads < crew::most_members ? threads : crew::most_members;
    if (threads <= 1) {
        crew::Member alone;
        return work(alone);
    }
#if defined(_OPENMP)
    crew::Rounds rounds;
#pragma omp parallel num_threads(threads)
    {
        crew::Member member(rounds, omp_get_thread_num(), threads);
        work(member);
    }
#else
    take_part(threads, [&work](crew::Member& member) {
        work(member);
        divide_on(member, 1, 1, [](int64_t, int64_t) {});  // the last round: who takes part in it is done with the work
    });
#endif
}

}  // namespace unrolled::UNROLLED_ISA
