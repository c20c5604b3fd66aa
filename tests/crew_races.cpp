// csrc/crew.cpp, and divide.h as it is without OpenMP, under a sanitizer that finds races. It is compiled to hesitate, so that
// helpers come early, late and not at all, and what a caller hands over is freed as soon as its call returns.
#include <atomic>
#include <cstdio>
#include <ctime>
#include <thread>
#include <vector>

#include "divide.h"

using unrolled::crew::Member;

namespace {

std::atomic<long> helped{0};  // parts

// Small numbers, each thread's own.
unsigned below(unsigned n) {
    static std::atomic<unsigned> threads{0};
    static thread_local unsigned seed = 747796405u * ++threads;
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 10) % n;
}

struct Work {
    const long* in;
    long* out;
    int64_t n;
    int rounds;

    void operator()(Member& member) const {
        for (int round = 1; round <= rounds; ++round) {
            const long factor = in[0];  // before the round, as a kernel reads its rows
            member.begin(n, round % 3 + 1);
            for (int64_t first, past; member.take(first, past);) {
                if (member.index()) helped.fetch_add(1, std::memory_order_relaxed);
                for (int64_t i = first; i < past; ++i) out[(round - 1) * n + i] = factor * in[i] * round;
            }
            if (round % 2) member.meet();
            member.turn();
        }
    }
};

bool right(int members, int64_t n, int rounds) {
    std::vector<long> in(n), out(n * rounds);
    for (int64_t i = 0; i < n; ++i) in[i] = 3 + i;
    const Work work{in.data(), out.data(), n, rounds};
    if (below(2)) unrolled::generic::take_part(members, work);
    else
        unrolled::generic::take_part_in_team(members, [&](Member& member) {
            work(member);
            if (in[0] != 3) out[0] = 0;  // after the last round, which ordinary work may not
        });
    for (int64_t i = 0; i < n * rounds; ++i)
        if (out[i] != 3 * in[i % n] * (i / n + 1)) return false;
    return true;
}

bool all_right(int calls) {
    for (int i = 0; i < calls; ++i)
        if (!right(1 + below(5), 1 + below(40), 1 + below(4))) return false;
    return true;
}

}  // namespace

namespace unrolled::crew {
void hesitate() {
    const unsigned chance = below(4096);
    if (chance < 40) {
        const timespec moment{0, chance * 1500};
        nanosleep(&moment, nullptr);
    } else if (chance < 200) {
        for (unsigned i = 0; i < chance * 4; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
    } else if (chance < 260) std::this_thread::yield();
}
}  // namespace unrolled::crew

int main() {
    constexpr int calls = 6000;
    const bool alone = all_right(calls);
    bool other = false;
    std::thread caller([&] { other = all_right(calls); });
    const bool own = all_right(calls);
    caller.join();
    std::puts(alone && own && other && helped > calls ? "right" : "wrong");
}
