#include "crew.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace unrolled::crew {

#if defined(UNROLLED_HESITATES)
void hesitate();  // a test's: waits now and then, so that others come between what one thread does
constexpr int64_t spins = 50, more_spins = 20;
#else
inline void hesitate() {}
constexpr int64_t spins = 2000, more_spins = 5000;  // some 50 microseconds; some hundred: a stream's next step may be near
#endif

namespace {

constexpr int parts_of_a_member = 8;

// Which parts of a member's own share are left in a round: [front, past). One word, so that a part is taken by one
// exchange; the round is in it, so that nobody has to set it anew for the next one.
struct Left {
    uint64_t round, front, past;

    static Left from(uint64_t word) { return {word >> 16, word >> 8 & 255, word & 255}; }
    uint64_t word() const { return round << 16 | front << 8 | past; }
};

// Which piece of work there is, and for how many members.
struct Number {
    uint64_t count, members;

    static Number from(uint64_t word) { return {word >> 8, word & 255}; }
    uint64_t word() const { return count << 8 | members; }
};

// A piece of work. Helpers that spin read this one cache line again and again.
struct Call {
    std::atomic<uint64_t> number{0};
    void (*work)(const void* context, Member& member) = nullptr;
    size_t size = 0;  // of the context
    uint64_t round = 0, parts = 0;  // before it
};

struct Helper {
    alignas(64) std::atomic<uint32_t> asleep{0};
    // The last piece of work that this helper went to, or was too late for; whichever, one exchange decides.
    alignas(64) std::atomic<uint64_t> seat{0};
    std::atomic<uint64_t> gone{0};  // the last one that it went from
};

struct Crew {
    std::mutex in_use;  // by one caller at a time
    int helpers = 0;
    alignas(64) Call call;  // what is not atomic, and the context, belong to the caller until it gives the call its number
    alignas(64) std::byte context[most_context] = {};
    Rounds rounds;
    Helper helper[most_members];
};

// Never destroyed: helpers wait at it until the process ends.
Crew& crew() {
    static Crew& one = *new Crew;
    return one;
}

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("isb");  // some 10 ns; `yield` takes none on most
#else
    std::this_thread::yield();
#endif
}

// Waits a moment by spinning, then leaves its processor to whoever wants it, again and again, in case it is the one waited
// for. Returns whether it is ready, at the latest after so many spins more; 0: waits as long as it takes.
template <class Ready>
bool await(Ready ready, int64_t more = 0) {
    constexpr int64_t between = 32;  // some microsecond: to yield takes the system half of one
    for (int64_t i = 0; !ready(); ++i) {
        if (more && i >= spins + more) return false;
        if (i < spins || i % between) pause();
        else std::this_thread::yield();
    }
    return true;
}

// Whether there is work for this helper that it is in time for; then its number is `last`, and the call stays as it is until
// the helper has gone, or has told that it takes part in the call's last round.
bool enter(Crew& all, uint64_t index, uint64_t& last) {
    std::atomic<uint64_t>& seat = all.helper[index].seat;
    uint64_t taken = seat.load();  // before the number: the caller changes it before the next call has one
    hesitate();
    const uint64_t number = all.call.number.load();
    hesitate();
    if (number == last) return false;
    last = number;
    return index < Number::from(number).members && number != taken && seat.compare_exchange_strong(taken, number);
}

[[noreturn]] void help(int index) {
    Crew& all = crew();
    uint64_t last = all.helper[index].seat;
    for (;;) {
        const auto entered = [&] { return enter(all, index, last); };
        if (!await(entered, more_spins)) {
            std::atomic<uint32_t>& asleep = all.helper[index].asleep;
            do {
                asleep = 1;  // from here on whoever has work wakes this thread
                if (entered()) break;
                hesitate();
                asleep.wait(1);
            } while (!entered());
            asleep = 0;
        }
        hesitate();
        const Call& call = all.call;
        alignas(64) std::byte context[most_context];
        std::memcpy(context, all.context, call.size);
        const Number number = Number::from(last);
        Member member(all.rounds, index, static_cast<int>(number.members), call.round, call.parts, number.count & 1);
        hesitate();
        call.work(context, member);
        hesitate();
        all.helper[index].gone.store(last, std::memory_order_release);
    }
}

// Waits until the helper has no more to do with the call, and it will not: all parts are done, so one that has told of the last
// round has none of it left.
void part_with(Crew& all, int index, uint64_t number, uint64_t last_round) {
    const uint64_t told = Left::from(all.rounds.places[index].told.load(std::memory_order_acquire)).round;
    if (told == last_round && last_round != all.call.round) return;
    hesitate();
    Helper& helper = all.helper[index];
    uint64_t taken = helper.seat.load();
    if (taken != number && helper.seat.compare_exchange_strong(taken, number)) return;
    await([&] { return helper.gone.load(std::memory_order_acquire) == number; });
}

// Gives helpers a copy of the context. Only what differs from the one before is written: a helper has the rest near.
void put(Crew& all, const void* context, size_t size) {
    constexpr size_t line = 64;
    const auto* from = static_cast<const std::byte*>(context);
    for (size_t i = 0; i < size; i += line) {
        const size_t n = std::min(line, size - i);
        if (std::memcmp(all.context + i, from + i, n)) std::memcpy(all.context + i, from + i, n);
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
    hesitate();
    if (working_) rounds_->places[index_].done.store(++done_, std::memory_order_release);
    working_ = take_of(index_, !turned_, first, past);
    for (int i = 1; !working_ && i < members_; ++i) working_ = take_of((index_ + i) % members_, turned_, first, past);
    return working_;
}

bool Member::take_of(int owner, bool from_front, int64_t& first, int64_t& past) {
    Rounds::Place& place = rounds_->places[owner];
    if (owner != index_) {
        const Left told = Left::from(place.told.load(std::memory_order_relaxed));
        if (told.round > round_ || (told.round == round_ && told.front == told.past)) return false;
    }
    uint64_t word = place.left.load(std::memory_order_acquire);
    for (;;) {
        Left now = Left::from(word);
        hesitate();
        if (now.round > round_) return false;
        if (now.round < round_) now = {round_, 0, static_cast<uint64_t>(parts_of(owner))};
        if (now.front == now.past) return false;
        const uint64_t part = from_front ? now.front++ : --now.past;
        if (place.left.compare_exchange_weak(word, now.word(), std::memory_order_acq_rel)) {
            hesitate();
            if (owner == index_) place.told.store(now.word(), std::memory_order_release);
            first = first_of(owner) + static_cast<int64_t>(part) * size_;
            past = std::min(first + size_, first_of(owner + 1));
            return true;
        }
    }
}

void Member::meet() {
    if (members_ == 1) return;
    await([&] {
        uint64_t done = 0;
        for (int owner = 0; owner < members_; ++owner) done += rounds_->places[owner].done.load(std::memory_order_acquire);
        return done >= expected_;
    });
}

void run(int members, void (*work)(const void* context, Member& member), const void* context, size_t size) {
    Crew& all = crew();
    members = std::min(members, most_members);
    std::unique_lock<std::mutex> lock;
    if (members > 1) lock = std::unique_lock(all.in_use, std::try_to_lock);
    if (!lock) {
        Member alone;
        return work(context, alone);
    }
    provide_helpers(all, members - 1);
    Call& call = all.call;
    call.work = work;
    call.size = size;
    call.parts = 0;
    for (int i = 0; i < members; ++i) call.parts += all.rounds.places[i].done.load(std::memory_order_relaxed);
    put(all, context, size);
    const Number number{Number::from(call.number.load(std::memory_order_relaxed)).count + 1, static_cast<uint64_t>(members)};
    call.number.store(number.word(), std::memory_order_release);
    // One that falls asleep just now, seen here as awake, misses this call; the next one wakes it.
    for (int i = 1; i < members; ++i)
        if (all.helper[i].asleep.load(std::memory_order_relaxed)) {
            all.helper[i].asleep = 0;
            all.helper[i].asleep.notify_one();
        }
    Member member(all.rounds, 0, members, call.round, call.parts, number.count & 1);
    work(context, member);
    member.meet();
    for (int i = 1; i < members; ++i) part_with(all, i, number.word(), member.round());
    call.round = member.round();
}

}  // namespace unrolled::crew
