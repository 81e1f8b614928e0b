// Looking out a moment longer before sleeping, where runs are short.
#pragma once

#include <sched.h>

#include <atomic>

#include "parker.h"

namespace paddleinfer {

// A wake-up across processors costs more than a short run. So where a lone caller's runs are short a thread,
// before it sleeps, looks out a moment longer. It yields meanwhile, in case the one it waits for shares its core;
// and only one thread does so at a time.
class LookOut {
 public:
  static constexpr Nanos kRunLimit = 100'000;
  static constexpr Nanos kPatience = 30'000;

  template <typename Come>
  void until(Come&& come, Nanos longer = 0) noexcept {
    if (taken_.exchange(true, std::memory_order_relaxed)) return;
    const Nanos end = monotonic_now() + kPatience + longer;
    while (!come() && monotonic_now() < end) sched_yield();
    taken_.store(false, std::memory_order_relaxed);
  }

 private:
  std::atomic<bool> taken_{false};
};

}  // namespace paddleinfer
