// Reads memory and does nothing else: what a step of a network whose weights fill that memory cannot be faster than.
#include <omp.h>
#include <stddef.h>

typedef float vector __attribute__((vector_size(64)));

// The sum of `count` floats, a multiple of 64 for each thread, `times` over: each thread reads its own part, as a
// step's threads do.
float read_all(const float *data, size_t count, int threads, int times) {
    float total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
        const size_t share = count / omp_get_num_threads() / 64;
        vector a = {0}, b = {0}, c = {0}, d = {0};
        for (int time = 0; time < times; ++time) {
            const vector *at = (const vector *)data + omp_get_thread_num() * share * 4;
            __asm__("" : "+r"(at));  // or the compiler would read once and multiply
            for (size_t i = 0; i < share; ++i, at += 4) {
                a += at[0];
                b += at[1];
                c += at[2];
                d += at[3];
            }
        }
        a += b + (c + d);
        for (int lane = 0; lane < 16; ++lane) total += a[lane];
    }
    return total;
}
