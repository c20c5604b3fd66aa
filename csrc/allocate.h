// Memory for large buffers.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <new>

namespace unrolled {

constexpr size_t huge_page = size_t{2} << 20;

// So many bytes or a few more, uninitialised, from the beginning of a cache line on; std::free takes them back. From an eighth of
// a huge page on they are whole huge pages, where the system has them: small ones would miss in the translation buffer again and
// again, and a processor fetches ahead no further than to the end of a page.
inline float* allocate(size_t bytes) {
    constexpr size_t line = 64;
    const size_t alignment = bytes < huge_page / 8 ? line : huge_page;
    bytes = (bytes + alignment - 1) / alignment * alignment;
    void* const memory = std::aligned_alloc(alignment, bytes);
    if (!memory) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    if (alignment == huge_page) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return static_cast<float*>(memory);
}

}  // namespace unrolled
