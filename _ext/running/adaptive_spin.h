// Lets a thread spin for a moment before it sleeps, where runs are short.
#pragma once

#include <sched.h>

#include <atomic>

#include "requests/time.h"

namespace paddleinfer {

// A wake-up across processors costs more than a short run. So where a lone caller's runs are short a thread,
// before it sleeps, spins for a moment. It yields meanwhile, in case the one it waits for shares its core;
// and only one thread does so at a time.
class AdaptiveSpin {
 public:
  static constexpr Nanos kRunLimit = 100'000;
  static constexpr Nanos kSpinBudget = 30'000;

  template <typename Come>
  void spin_until(Come&& come, Nanos longer = 0) noexcept {
    if (taken_.exchange(true, std::memory_order_relaxed)) return;
    const Nanos end = monotonic_now() + kSpinBudget + longer;
    while (!come() && monotonic_now() < end) sched_yield();
    taken_.store(false, std::memory_order_relaxed);
  }

 private:
  std::atomic<bool> taken_{false};
};

}  // namespace paddleinfer
