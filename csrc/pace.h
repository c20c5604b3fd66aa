// Whether a step of a microsecond or two is over sooner with helpers. That depends on how far apart the processors are, which a
// virtual machine may change from one second to the next, and on whether helpers sleep: so it is tried, again and again.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace unrolled {

class Pace {
  public:
    // Calls run(threads), or run(1) where that took less time when both were last tried. Several threads may be at it: they
    // may spoil one another's figures, and nothing else.
    template <class Run>
    void operator()(int threads, const Run& run) {
        const uint32_t call = calls_.fetch_add(1, std::memory_order_relaxed) % between;
        if (call < awake) return run(threads);
        if (call < awake + tries) return timed(together_[call - awake], [&] { run(threads); });
        if (call < awake + 2 * tries) return run(1);
        if (call < awake + 3 * tries) return timed(apart_[call - awake - 2 * tries], [&] { run(1); });
        if (call == awake + 3 * tries) alone_.store(median(apart_) <= median(together_), std::memory_order_relaxed);
        run(alone_.load(std::memory_order_relaxed) ? 1 : threads);
    }

  private:
    // Calls: tried of each, until helpers that slept are there, from one trial to the next.
    static constexpr uint32_t tries = 8, awake = 512, between = 8192;
    typedef std::atomic<float> Times[tries];  // seconds

    template <class Run>
    static void timed(std::atomic<float>& time, const Run& run) {
        const auto begin = std::chrono::steady_clock::now();
        run();
        const std::chrono::duration<float> taken = std::chrono::steady_clock::now() - begin;
        time.store(taken.count(), std::memory_order_relaxed);
    }
    static float median(const Times& times) {
        float sorted[tries];
        for (uint32_t i = 0; i < tries; ++i) sorted[i] = times[i].load(std::memory_order_relaxed);
        std::nth_element(sorted, sorted + tries / 2, sorted + tries);
        return sorted[tries / 2];
    }

    std::atomic<uint32_t> calls_{0};
    std::atomic<bool> alone_{false};
    Times together_ = {}, apart_ = {};
};

}  // namespace unrolled
