// Whether a failure was for want of memory.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <string>

namespace paddleinfer {

// Short enough that a string of it needs no memory.
inline constexpr const char* kOutOfMemory = "out of memory";

// Paddle's name for it, its allocators' words, Python's names, the C library's, and the loader's of a library that does
// not fit; and what C++ says, and nothing else, where there is no further thread.
inline bool says_out_of_memory(const std::string& message) noexcept {
  for (const char* sign : {"ResourceExhausted", "Out of memory", kOutOfMemory, "MemoryError", "std::bad_alloc",
                           "Cannot allocate memory", "failed to map segment from shared object"}) {
    if (message.find(sign) != std::string::npos) return true;
  }
  return message == "Resource temporarily unavailable";
}

// What Paddle's oneDNN says of whatever happens to it; a Python exception's name may stand before it.
inline bool says_nothing(const std::string& message) noexcept {
  return message == "std::exception" || message == "RuntimeError: std::exception";
}

// Whether the process can hardly get more memory, by its own limit or the system's: then that is what a failure
// without a reason is taken for. Asks for the addresses only; nothing is touched.
inline bool memory_is_short() noexcept {
  constexpr std::size_t kEnough = std::size_t{256} << 20;  // more than oneDNN takes for a layer at once, as a rule
  void* const memory = mmap(nullptr, kEnough, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return true;
  munmap(memory, kEnough);
  return false;
}

}  // namespace paddleinfer
