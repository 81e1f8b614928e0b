// Durations counted by size.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "requests/time.h"

namespace paddleinfer {

// Any thread counts and reads, for information only.
class DurationHistogram {
 public:
  // Upper bounds of the buckets, from 100 us to 60 s; the last bucket has what takes longer.
  static constexpr std::array<Nanos, 18> kBounds = {
      100'000,       250'000,       500'000,       1'000'000,      2'500'000,      5'000'000,
      10'000'000,    25'000'000,    50'000'000,    100'000'000,    250'000'000,    500'000'000,
      1'000'000'000, 2'500'000'000, 5'000'000'000, 10'000'000'000, 30'000'000'000, 60'000'000'000,
  };
  static constexpr std::size_t kBuckets = kBounds.size() + 1;

  static constexpr bool is_last(std::size_t bucket) noexcept { return bucket == kBounds.size(); }
  static constexpr Nanos bound(std::size_t bucket) noexcept { return kBounds[bucket]; }

  void add(Nanos duration) noexcept { counts_[bucket_of(duration)].fetch_add(1, std::memory_order_relaxed); }

  std::int64_t count(std::size_t bucket) const noexcept { return counts_[bucket].load(std::memory_order_relaxed); }

 private:
  static std::size_t bucket_of(Nanos duration) noexcept {
    if (duration <= kBounds.front()) return 0;
    std::size_t bucket = kFirst[std::size_t(63 - __builtin_clzll(std::uint64_t(duration)))];
    while (bucket < kBounds.size() && duration > kBounds[bucket]) ++bucket;  // twice at most
    return bucket;
  }

  // The bucket of 2^n, where the search among those from 2^n to 2^(n+1) begins.
  static constexpr std::array<std::uint8_t, 64> kFirst = [] {
    std::array<std::uint8_t, 64> first{};
    for (std::size_t bit = 0; bit < 63; ++bit) {
      while (first[bit] < kBounds.size() && (Nanos(1) << bit) > kBounds[first[bit]]) ++first[bit];
    }
    return first;
  }();

  std::array<std::atomic<std::int64_t>, kBuckets> counts_{};
};

}  // namespace paddleinfer
