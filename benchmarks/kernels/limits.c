// What no program on this machine is faster than: reading memory and doing nothing else, and multiply-adds of numbers
// that are in registers already.
#include <omp.h>
#include <stddef.h>

#ifdef __AVX512F__
enum { bytes = 64, sums = 24 };  // of 32 registers
#else
enum { bytes = 32, sums = 12 };  // of 16
#endif
enum { lanes = bytes / 4, in_turn = 8 };
typedef float native __attribute__((vector_size(bytes)));

static inline __attribute__((always_inline)) float read_from(const int places, const float *data, size_t count, int threads,
                                                             int times) {
    float total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
        const int together = in_turn / places;
        const size_t part = count / omp_get_num_threads() / (in_turn * lanes) * together;  // in vectors
        native sum[in_turn];
        for (int i = 0; i < in_turn; ++i) sum[i] = (native){0};
        for (int time = 0; time < times; ++time) {
            const native *at = (const native *)data + omp_get_thread_num() * part * places;
            __asm__("" : "+r"(at));  // or the compiler would read once and multiply
            for (size_t n = 0; n < part; n += together, at += together)
#pragma GCC unroll 8
                for (int i = 0; i < in_turn; ++i) sum[i] += at[i / together * part + i % together];
        }
        for (int i = 0; i < in_turn; ++i)
            for (int lane = 0; lane < lanes; ++lane) total += sum[i][lane];
    }
    return total;
}

// The sum of `count` floats, a multiple of 128 for each thread, `times` over: each thread reads its own part, as a
// step's threads do, from four places at once, as far memory is read faster than from one.
float read_all(const float *data, size_t count, int threads, int times) { return read_from(4, data, count, threads, times); }

// The same from one place.
float read_on(const float *data, size_t count, int threads, int times) { return read_from(1, data, count, threads, times); }

// Each thread does `count` multiply-adds a lane of as many independent sums as hide their latency; returns how many
// operations that were.
double multiply_all(long count, int threads) {
    double done = 0;
#pragma omp parallel num_threads(threads) reduction(+ : done)
    {
        native sum[sums], a = {0}, b = {0};
        for (int i = 0; i < sums; ++i) sum[i] = (native){0};
        for (long time = 0; time < count; ++time) {
            __asm__("" : "+x"(a), "+x"(b));  // or the compiler would multiply once
#pragma GCC unroll 24
            for (int i = 0; i < sums; ++i) sum[i] += a * b;
        }
        for (int i = 0; i < sums; ++i) __asm__("" : "+x"(sum[i]));
        done = 2.0 * lanes * sums * count;
    }
    return done;
}
