// Which way of making a step of a microsecond or two is over soonest: with helpers or without, reading one copy of the weights or
// two in turn. That depends on the processor, on how far apart its cores are, which a virtual machine may change from one second to
// the next, on whether helpers sleep and on what else is in the caches: so it is tried, again and again.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace unrolled {

class Pace {
  public:
    static constexpr int most_ways = 4;

    // Calls run(way) for one way of `ways`, from 0 on: the one that took least time when all were last tried. Several threads may be
    // at it: they may spoil one another's figures, and nothing else.
    template <class Run>
    void operator()(int ways, const Run& run) {
        const uint32_t call = calls_.fetch_add(1, std::memory_order_relaxed) % between;
        if (call < awake) return run(0);
        const uint32_t way = (call - awake) / (warm + tries), at = (call - awake) % (warm + tries);
        if (way < static_cast<uint32_t>(ways)) {
            if (at < warm) return run(static_cast<int>(way));
            return timed(times_[way][at - warm], [&] { run(static_cast<int>(way)); });
        }
        if (way == static_cast<uint32_t>(ways) && at == 0) best_.store(shortest(ways), std::memory_order_relaxed);
        run(std::min(best_.load(std::memory_order_relaxed), ways - 1));
    }

  private:
    // Calls: tried of each way; before these, until its caches are as they will be; until helpers that slept are there, which the
    // first way has; from one trial to the next.
    static constexpr uint32_t tries = 8, warm = 64, awake = 512, between = 16384;
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
    int shortest(int ways) const {
        int best = 0;
        for (int way = 1; way < ways; ++way)
            if (median(times_[way]) < median(times_[best])) best = way;
        return best;
    }

    std::atomic<uint32_t> calls_{0};
    std::atomic<int> best_{0};
    Times times_[most_ways] = {};
};

}  // namespace unrolled
