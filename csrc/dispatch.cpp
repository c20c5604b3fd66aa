// Which instruction set's kernels run, how many threads they get, and the memory they work in.
#include <malloc.h>
#include <omp.h>
#include <pthread.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include <climits>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "allocate.h"
#include "unrolled.h"

namespace unrolled {

#define UNROLLED_DECLARE(isa) \
    namespace isa {           \
    extern const Kernels table; \
    }
#if defined(__x86_64__)
UNROLLED_DECLARE(avx512)
namespace avx512 {
extern const Kernels table_vnni, table_bf16;
}
UNROLLED_DECLARE(avx2)
#elif defined(__aarch64__)
UNROLLED_DECLARE(neon)
namespace neon {
extern const Kernels table_dot;
}
#endif
UNROLLED_DECLARE(generic)

namespace {

struct Available {
    const Kernels* list[6] = {};

    Available() {
        int n = 0;
#if defined(__x86_64__)
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
            if (__builtin_cpu_supports("avx512vnni")) {
                if (__builtin_cpu_supports("avx512bf16")) list[n++] = &avx512::table_bf16;
                list[n++] = &avx512::table_vnni;
            }
            list[n++] = &avx512::table;
        }
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) list[n++] = &avx2::table;
#elif defined(__aarch64__)
        if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) list[n++] = &neon::table_dot;
        list[n++] = &neon::table;
#endif
        list[n] = &generic::table;
    }
};

const Kernels* find(const char* isa) {
    for (auto at = available_kernels(); *at; ++at)
        if (std::strcmp((*at)->isa, isa) == 0) return *at;
    return nullptr;
}

const Kernels*& current() {
    static const Kernels* chosen = available_kernels()[0];
    return chosen;
}

bool forked = false;
const int at_fork = pthread_atfork(nullptr, nullptr, [] { forked = true; });

struct Buffer {
    float* data = nullptr;
    size_t size = 0;
    ~Buffer() { std::free(data); }
};

}  // namespace

const Kernels* const* available_kernels() {
    static const Available available;
    return available.list;
}

const Kernels& kernels() { return *current(); }

bool use_isa(const char* isa) {
    const Kernels* named = find(isa);
    if (named) current() = named;
    return named;
}

int threads_for(double multiply_adds, double worth_a_thread) {
    if (forked || multiply_adds < 2 * worth_a_thread || omp_in_parallel()) return 1;
    return omp_get_max_threads();
}

float* scratch(size_t floats) {
    thread_local Buffer buffer;
    if (buffer.size < floats) {
        std::free(std::exchange(buffer.data, nullptr));
        buffer.size = 0;
        buffer.data = allocate(floats * sizeof(float));
        buffer.size = floats;
    }
    return buffer.data;
}

void keep_freed_memory() {
#if defined(__GLIBC__)
    mallopt(M_MMAP_MAX, 0);  // large blocks too come from the heap
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    mallopt(M_TOP_PAD, 64 << 20);
#endif
}

}  // namespace unrolled
