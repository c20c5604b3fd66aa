// csrc/crew.cpp under a sanitizer that finds races: callers on two threads, with up to five members each and short rounds, so
// that helpers come early, late and not at all. What a caller hands over is freed as soon as `run` returns.
#include <cstdio>
#include <thread>
#include <vector>

#include "crew.h"

using unrolled::crew::Member;

namespace {

struct Work {
    const long* in;
    long* out;
    int64_t n;
    int rounds;

    void operator()(Member& member) const {
        for (int round = 1; round <= rounds; ++round) {
            const long factor = in[0];  // before the round, as a kernel reads its rows
            member.begin(n, round % 3 + 1);
            for (int64_t first, past; member.take(first, past);)
                for (int64_t i = first; i < past; ++i) out[(round - 1) * n + i] = factor * in[i] * round;
            if (round % 2 || round == rounds) member.meet();
            member.turn();
        }
    }
};

bool right(int members, int64_t n, int rounds) {
    std::vector<long> in(n), out(n * rounds);
    for (int64_t i = 0; i < n; ++i) in[i] = 3 + i;
    const Work work{in.data(), out.data(), n, rounds};
    unrolled::crew::run(members, [](const void* context, Member& member) { (*static_cast<const Work*>(context))(member); }, &work,
                        sizeof work);
    for (int64_t i = 0; i < n * rounds; ++i)
        if (out[i] != 3 * in[i % n] * (i / n + 1)) return false;
    return true;
}

bool all_right(unsigned seed, int calls) {
    const auto below = [&](unsigned n) { return ((seed = seed * 1664525u + 1013904223u) >> 10) % n; };
    for (int i = 0; i < calls; ++i)
        if (!right(1 + below(5), 1 + below(40), 1 + below(4))) return false;
    return true;
}

}  // namespace

int main() {
    constexpr int calls = 100'000;
    bool other = false;
    std::thread caller([&] { other = all_right(1, calls); });
    const bool own = all_right(2, calls);
    caller.join();
    std::puts(own && other ? "right" : "wrong");
}
