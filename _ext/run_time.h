// How long runs take, and what follows where they are short.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdint>

#include "parker.h"

namespace paddleinfer {

// The mean of successful runs. Falls at once, rises slowly: the first run after a change of shape is slow for
// reasons of its own.
class RunTime {
 public:
  static constexpr std::int64_t kRunsToKnow = 3;

  void note(Nanos run_ns) noexcept {
    const Nanos before = mean();
    const bool fall = before == 0 || run_ns < before / 2;
    mean_.store(fall ? run_ns : before + (run_ns - before) / 8, std::memory_order_relaxed);
    runs_.fetch_add(1, std::memory_order_relaxed);
  }

  Nanos mean() const noexcept { return mean_.load(std::memory_order_relaxed); }

  bool known_below(Nanos limit) const noexcept {
    return runs_.load(std::memory_order_relaxed) >= kRunsToKnow && mean() <= limit;
  }

 private:
  std::atomic<Nanos> mean_{0};
  std::atomic<std::int64_t> runs_{0};
};

// A wake-up across processors costs more than a short run. So where runs are short a thread, before it sleeps,
// looks out a moment longer. It yields meanwhile, in case the one it waits for shares its core; and only one
// thread does so at a time.
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
