// Which instruction set's kernels run, how many threads they get, and the memory they work in.
#include <pthread.h>
#if defined(_OPENMP)
#include <omp.h>
#else
#include <dlfcn.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif
#if defined(__aarch64__) && !defined(__ARM_FEATURE_DOTPROD)
#include <sys/auxv.h>
#endif

#include <atomic>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <thread>
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
#if defined(UNROLLED_NEON_DOTS)
namespace neon {
extern const Kernels table_dot;
}
#endif
#endif
UNROLLED_DECLARE(generic)

namespace {

#if defined(UNROLLED_NEON_DOTS)
bool has_dots() {
#if defined(__ARM_FEATURE_DOTPROD)
    return true;
#else
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#endif
}
#endif

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
#if defined(UNROLLED_NEON_DOTS)
        if (has_dots()) list[n++] = &neon::table_dot;
#endif
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

// As many as OpenMP would take, which torch.set_num_threads sets.
int most_threads() {
#if defined(_OPENMP)
    return omp_in_parallel() ? 1 : omp_get_max_threads();
#else
    // torch brings an OpenMP of its own, which may come after this has been asked for the first time.
    static std::atomic<int (*)()> of_torch{nullptr};
    static std::atomic<unsigned> asked{0};
    if (!of_torch && asked++ % 1024 == 0) {
        void* const torch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
        of_torch = reinterpret_cast<int (*)()>(dlsym(torch ? torch : RTLD_DEFAULT, "omp_get_max_threads"));
    }
    if (const auto threads = of_torch.load()) return threads();
    static const int own = [] {
        const char* const wanted = std::getenv("OMP_NUM_THREADS");
        const int threads = wanted ? std::atoi(wanted) : 0;
        return threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency());
    }();
    return own;
#endif
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
    if (forked || multiply_adds < 2 * worth_a_thread) return 1;
    return most_threads();
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
