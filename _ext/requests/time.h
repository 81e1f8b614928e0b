// Instants and durations: nanoseconds on the monotonic clock.
#pragma once

#include <time.h>

#include <cstdint>
#include <limits>

namespace paddleinfer {

// Nanoseconds on CLOCK_MONOTONIC.
using Nanos = std::int64_t;
inline constexpr Nanos kNever = std::numeric_limits<Nanos>::max();
inline constexpr Nanos kNanosPerSecond = 1'000'000'000;

inline Nanos monotonic_now() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<Nanos>(now.tv_sec) * kNanosPerSecond + now.tv_nsec;
}

}  // namespace paddleinfer
