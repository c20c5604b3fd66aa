// Memory for large arrays that come and go, such as what a training step keeps for its way back.
//
// glibc gives blocks of this size back to the system as soon as they are freed, and the system clears every page anew
// when they are wanted again, which took a quarter of some steps. The pool keeps what is freed for whoever asks next.
// It never holds more than was in use at one time: where nothing free fits, what is free makes room first.
#pragma once

#include <cstddef>

namespace unrolled::pool {

// At least so many bytes, uninitialised; on huge pages where the system has them.
float* take(size_t bytes);
// Takes a block back; from any thread.
void give_back(float* block);
// Gives what is free back to the system.
void release();
// Bytes, in use and free.
size_t held();

}  // namespace unrolled::pool
