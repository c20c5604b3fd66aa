// Work for several threads. It is taken in parts: whoever is there takes the next one, so nothing waits for a thread that
// sleeps, or has not begun; only for one that is at it, even where another program then takes its processor.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace unrolled::crew {

constexpr int most_members = 64;

// What members share of their rounds, which they count from one on: a place for each. What others read there is on another
// cache line than what its owner exchanges: a line that somebody else has read costs its owner a tenth of a microsecond.
struct Rounds {
    struct Place {
        alignas(64) std::atomic<uint64_t> left{0};  // which parts of the owner's share are left
        alignas(64) std::atomic<uint64_t> told{0};  // the same as the owner last saw it: others may have taken more
        std::atomic<uint64_t> done{0};              // parts, of whomever's share, by the owner, in all rounds there have been
    };
    Place places[most_members];
};

// One thread's part in a piece of work. All members go through the same rounds, each of `begin`, `take` until there is no
// more, and `meet`, which may wait for several rounds together. One who comes late finds the rounds before taken, and
// meets nobody there; what it reads before `take` gives it a part may be old, and must not be used then.
class Member {
  public:
    // The only one.
    Member() = default;
    // After so many rounds, in which so many parts were done.
    Member(Rounds& rounds, int index, int members, uint64_t round = 0, uint64_t parts = 0, bool turned = false)
        : rounds_(&rounds), index_(index), members_(members), round_(round), turned_(turned),
          done_(rounds.places[index].done.load(std::memory_order_relaxed)), expected_(parts) {}

    // 0: who called `run`.
    int index() const { return index_; }

    // A round of n things, in parts of `least` of them or more. Each member begins with its own n / members, so that what
    // it reads may be in its cache, and goes on with what others have left.
    void begin(int64_t n, int64_t least);
    // The next part, [first, past); or false.
    bool take(int64_t& first, int64_t& past);
    // Waits until all parts of this round and of those before are done.
    void meet();
    // Own parts are taken from the other end from now on: what was read last is read first, and is in the cache still where
    // all of it does not fit.
    void turn() { turned_ = !turned_; }
    // Counts on, from one piece of work to the next.
    uint64_t round() const { return round_; }

  private:
    bool take_of(int owner, bool from_front, int64_t& first, int64_t& past);
    int64_t parts_of(int owner) const;
    int64_t first_of(int owner) const { return n_ * owner / members_; }

    Rounds* rounds_ = nullptr;
    int index_ = 0, members_ = 1;
    uint64_t round_ = 0;
    bool turned_ = false, working_ = false;
    int64_t n_ = 0, size_ = 1;
    uint64_t done_ = 0, expected_ = 0;  // parts: by this member, and by all when the round is over
};

constexpr size_t most_context = 512;

// Calls work(context, member) on this thread, and on those helpers that come before it returns: `members` at most, and
// most_members. Each helper has a copy of the `size` bytes of context. When this returns all parts are done, and no helper
// reads anything that the context points to, as long as none does after the last `take` of the last round. Where helpers are
// busy with another thread's work, this one does its own alone.
void run(int members, void (*work)(const void* context, Member& member), const void* context, size_t size);

}  // namespace unrolled::crew
