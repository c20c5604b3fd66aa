#include "crew.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace unrolled::crew {
namespace {

constexpr int parts_of_a_member = 8;

// Which parts of a member's own share are left in a round: [front, past). One word, so that a part is taken by one
// exchange; the round is in it, so that nobody has to set it anew for the next one.
struct Left {
    uint64_t round, front, past;

    static Left from(uint64_t word) { return {word >> 16, word >> 8 & 255, word & 255}; }
    uint64_t word() const { return round << 16 | front << 8 | past; }
};

// Whether there is work, for how many members, and how many helpers are at it.
struct Gate {
    uint32_t number, members, helping;
    bool open;

    static Gate from(uint32_t word) { return {word >> 16, word >> 9 & 127, word & 255, (word >> 8 & 1) != 0}; }
    uint32_t word() const { return number << 16 | members << 9 | uint32_t{open} << 8 | helping; }
};
constexpr uint32_t open_bit = 1 << 8;

struct Crew {
    std::mutex in_use;  // by one caller at a time
    int helpers = 0;
    uint32_t number = 0;  // of the pieces of work

    alignas(64) std::atomic<uint32_t> gate{0};
    void (*work)(const void* context, Member& member) = nullptr;  // these three while the gate is open
    const void* context = nullptr;
    uint64_t round = 0;

    Rounds rounds;
    struct alignas(64) {
        std::atomic<uint32_t> asleep{0};
    } helper[most_members];
};

// Never destroyed: helpers wait at it until the process ends.
Crew& crew() {
    static Crew& one = *new Crew;
    return one;
}

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#else
    std::this_thread::yield();
#endif
}

// Waits a moment by spinning, then leaves its processor to whoever wants it, again and again, in case it is the one waited
// for. Returns whether it is ready, at the latest after so many spins more; 0: waits as long as it takes.
template <class Ready>
bool await(Ready ready, int64_t more = 0) {
    constexpr int64_t spins = 2000, between = 32;  // some 50 microseconds, and 1: to yield takes the system half of one
    for (int64_t i = 0; !ready(); ++i) {
        if (more && i >= spins + more) return false;
        if (i < spins || i % between) pause();
        else std::this_thread::yield();
    }
    return true;
}

// Whether the gate was open for this helper, and it went in.
bool enter(Crew& all, int index, uint32_t& last) {
    uint32_t word = all.gate.load();
    for (;;) {
        Gate gate = Gate::from(word);
        if (!gate.open || gate.number == last || index >= static_cast<int>(gate.members)) return false;
        const uint32_t number = gate.number;
        ++gate.helping;
        if (all.gate.compare_exchange_weak(word, gate.word(), std::memory_order_acq_rel)) {
            last = number;
            return true;
        }
    }
}

[[noreturn]] void help(int index) {
    constexpr int64_t more = 5000;  // some hundred microseconds: a stream's next step may be near
    Crew& all = crew();
    uint32_t last = ~0u;
    for (;;) {
        const auto entered = [&] { return enter(all, index, last); };
        if (!await(entered, more)) {
            std::atomic<uint32_t>& asleep = all.helper[index].asleep;
            do {
                asleep = 1;  // from here on whoever opens the gate wakes this thread
                if (entered()) break;
                asleep.wait(1);
            } while (!entered());
            asleep = 0;
        }
        const Gate gate = Gate::from(all.gate.load(std::memory_order_relaxed));
        Member member(all.rounds, index, static_cast<int>(gate.members), all.round, gate.number & 1);
        all.work(all.context, member);
        all.gate.fetch_sub(1, std::memory_order_release);
    }
}

// Sees to it that there are so many helpers, if the system gives them.
void provide_helpers(Crew& all, int wanted) {
    try {
        for (; all.helpers < wanted; ++all.helpers) std::thread(help, all.helpers + 1).detach();
    } catch (const std::system_error&) {
    }
}

}  // namespace

int64_t Member::parts_of(int owner) const {
    const int64_t own = first_of(owner + 1) - first_of(owner);
    return (own + size_ - 1) / size_;
}

void Member::begin(int64_t n, int64_t least) {
    n_ = n;
    if (members_ == 1) {
        done_ = 0;
        return;
    }
    ++round_;
    const int64_t own = (n + members_ - 1) / members_, parts = std::clamp<int64_t>(own / least, 1, parts_of_a_member);
    size_ = std::max<int64_t>(1, (own + parts - 1) / parts);
    for (int owner = 0; owner < members_; ++owner) expected_ += parts_of(owner);
}

bool Member::take(int64_t& first, int64_t& past) {
    if (members_ == 1) {
        first = 0;
        past = n_;
        return done_++ == 0;
    }
    bool taken = take_of(index_, !turned_, first, past);
    for (int i = 1; !taken && i < members_; ++i) taken = take_of((index_ + i) % members_, turned_, first, past);
    done_ += taken;
    return taken;
}

bool Member::take_of(int owner, bool from_front, int64_t& first, int64_t& past) {
    std::atomic<uint64_t>& left = rounds_->places[owner].left;
    uint64_t word = left.load(std::memory_order_acquire);
    for (;;) {
        Left now = Left::from(word);
        if (now.round > round_) return false;
        if (now.round < round_) now = {round_, 0, static_cast<uint64_t>(parts_of(owner))};
        if (now.front == now.past) return false;
        const uint64_t part = from_front ? now.front++ : --now.past;
        if (left.compare_exchange_weak(word, now.word(), std::memory_order_acq_rel)) {
            first = first_of(owner) + static_cast<int64_t>(part) * size_;
            past = std::min(first + size_, first_of(owner + 1));
            return true;
        }
    }
}

void Member::meet() {
    if (members_ == 1) return;
    Rounds::Place* const places = rounds_->places;
    places[index_].done.store(done_, std::memory_order_release);
    await([&] {
        uint64_t done = 0;
        for (int owner = 0; owner < members_; ++owner) done += places[owner].done.load(std::memory_order_acquire);
        return done >= expected_;
    });
}

void run(int members, void (*work)(const void* context, Member& member), const void* context) {
    Crew& all = crew();
    members = std::min(members, most_members);
    std::unique_lock<std::mutex> lock;
    if (members > 1) lock = std::unique_lock(all.in_use, std::try_to_lock);
    if (!lock) {
        Member alone;
        return work(context, alone);
    }
    provide_helpers(all, members - 1);
    for (int i = 0; i < members; ++i) all.rounds.places[i].done.store(0, std::memory_order_relaxed);
    all.work = work;
    all.context = context;
    all.number = (all.number + 1) & 0xffff;
    all.gate.store(Gate{all.number, static_cast<uint32_t>(members), 0, true}.word());
    for (int i = 1; i < members; ++i)
        if (all.helper[i].asleep) {
            all.helper[i].asleep = 0;
            all.helper[i].asleep.notify_one();
        }
    Member member(all.rounds, 0, members, all.round, all.number & 1);
    work(context, member);
    all.gate.fetch_and(~open_bit, std::memory_order_acq_rel);
    await([&] { return Gate::from(all.gate.load(std::memory_order_acquire)).helping == 0; });
    all.round = member.round();
}

}  // namespace unrolled::crew
