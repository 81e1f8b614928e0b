// Gives what is free in malloc's heaps back to the system.
#pragma once

#include <dlfcn.h>

#include <cstddef>

namespace paddleinfer {

inline void trim_malloc() noexcept {
  static const auto trim = reinterpret_cast<int (*)(std::size_t)>(dlsym(RTLD_DEFAULT, "malloc_trim"));
  if (trim != nullptr) trim(0);
}

// A member that stands before a model's weights: they stay in the heaps once they are freed, for glibc keeps chunks of
// such sizes.
struct TrimAtTheEnd {
  TrimAtTheEnd() = default;
  TrimAtTheEnd(const TrimAtTheEnd&) = delete;
  TrimAtTheEnd& operator=(const TrimAtTheEnd&) = delete;
  ~TrimAtTheEnd() { trim_malloc(); }
};

}  // namespace paddleinfer
