#include "pool.h"

#include <pthread.h>
#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "allocate.h"

namespace unrolled::pool {
namespace {

struct Block {
    float* data;
    size_t bytes;
};

struct Pool {
    std::mutex mutex;
    std::vector<Block> free;  // those given back first stand first
    std::unordered_map<float*, size_t> in_use;
    size_t held = 0;
};

// Never destroyed: arrays may be given back until the process ends.
Pool& pool() {
    static Pool& one = *new Pool;
    return one;
}

// A fork must not find the lock taken by a thread that the child does not have.
const int at_fork = pthread_atfork([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); },
                                   [] { pool().mutex.unlock(); });

// Takes blocks that make up so many bytes, or all, out of those that are free.
std::vector<Block> remove_free(Pool& pool, size_t bytes) {
    size_t count = 0, removed = 0;
    while (count < pool.free.size() && removed < bytes) removed += pool.free[count++].bytes;
    const std::vector<Block> blocks(pool.free.begin(), pool.free.begin() + static_cast<std::ptrdiff_t>(count));
    pool.free.erase(pool.free.begin(), pool.free.begin() + static_cast<std::ptrdiff_t>(count));
    pool.held -= removed;
    return blocks;
}

void give_to_system(const std::vector<Block>& blocks) {
    for (const Block& block : blocks) std::free(block.data);
}

// The smallest free block that holds so many bytes and is not twice as large, out of those that are free; or null.
float* reuse(Pool& pool, size_t bytes) {
    auto best = pool.free.end();
    for (auto at = pool.free.begin(); at != pool.free.end(); ++at)
        if (at->bytes >= bytes && at->bytes <= 2 * bytes && (best == pool.free.end() || at->bytes < best->bytes)) best = at;
    if (best == pool.free.end()) return nullptr;
    const Block block = *best;
    pool.free.erase(best);
    pool.in_use[block.data] = block.bytes;
    return block.data;
}

}  // namespace

float* take(size_t bytes) {
    bytes = std::max<size_t>(1, (bytes + huge_page - 1) / huge_page) * huge_page;
    Pool& all = pool();
    std::vector<Block> removed;
    {
        const std::lock_guard lock(all.mutex);
        if (float* data = reuse(all, bytes)) return data;
        removed = remove_free(all, bytes);
    }
    give_to_system(removed);
    float* data = allocate(bytes);
    const std::lock_guard lock(all.mutex);
    all.in_use[data] = bytes;
    all.held += bytes;
    return data;
}

void give_back(float* block) {
    Pool& all = pool();
    const std::lock_guard lock(all.mutex);
    const auto found = all.in_use.find(block);
    all.free.push_back({found->first, found->second});
    all.in_use.erase(found);
}

void release() {
    Pool& all = pool();
    std::vector<Block> removed;
    {
        const std::lock_guard lock(all.mutex);
        removed = remove_free(all, all.held);
    }
    give_to_system(removed);
}

size_t held() {
    const std::lock_guard lock(pool().mutex);
    return pool().held;
}

}  // namespace unrolled::pool
