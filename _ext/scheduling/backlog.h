// How much work waits ahead of a key.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "requests/time.h"

namespace paddleinfer {

// A Fenwick tree over a ring of time slots: adding and asking take O(log slots). It is an estimate: keys within one
// slot are not told apart, and those beyond the ring's span on either side count with its ends.
class Backlog {
 public:
  void add(Nanos key, std::int64_t work) noexcept { change(slot_of(key), work); }
  void remove(Nanos key, std::int64_t work) noexcept { change(slot_of(key), -work); }

  // Work whose key is not later.
  std::int64_t ahead(Nanos key, Nanos now) const noexcept {
    const std::size_t oldest = slot_of(std::max<Nanos>(0, now - kSpan / 2));
    const std::size_t last = slot_of(std::min(key, now + kSpan / 2 - kSlotNanos));
    const std::int64_t before_oldest = oldest == 0 ? 0 : upto(oldest - 1);
    if (last >= oldest) return upto(last) - before_oldest;
    return upto(kSlots - 1) - before_oldest + upto(last);
  }

 private:
  static constexpr Nanos kSlotNanos = 4'000'000;
  static constexpr std::size_t kSlots = 1 << 13;
  static constexpr Nanos kSpan = kSlotNanos * Nanos(kSlots);  // 33 s

  static std::size_t slot_of(Nanos key) noexcept { return std::size_t(key / kSlotNanos) % kSlots; }

  void change(std::size_t slot, std::int64_t work) noexcept {
    for (std::size_t place = slot + 1; place <= kSlots; place += place & (~place + 1)) tree_[place - 1] += work;
  }
  std::int64_t upto(std::size_t slot) const noexcept {
    std::int64_t work = 0;
    for (std::size_t place = slot + 1; place > 0; place -= place & (~place + 1)) work += tree_[place - 1];
    return work;
  }

  std::array<std::int64_t, kSlots> tree_{};
};

}  // namespace paddleinfer
