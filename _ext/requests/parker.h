// Lets threads sleep natively: on one futex word that sleepers watch and wakers advance.
//
// std::condition_variable would need a mutex on both sides; here the waker pays one atomic add, and a
// system call only when somebody sleeps.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>

#include "requests/time.h"

namespace paddleinfer {

enum class Woken : std::uint8_t { changed, timed_out, interrupted };

// Sleeps while `word` holds `expected`, until `deadline` (absolute). A signal on this thread ends it too.
inline Woken futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, Nanos deadline) noexcept {
  if (deadline < 0) deadline = 0;  // passed already; the kernel takes no negative time
  timespec until{};
  until.tv_sec = static_cast<time_t>(deadline / kNanosPerSecond);
  until.tv_nsec = static_cast<long>(deadline % kNanosPerSecond);
  const long failed = syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT_BITSET_PRIVATE, expected,
                              deadline == kNever ? nullptr : &until, nullptr, FUTEX_BITSET_MATCH_ANY);
  if (failed == 0) return Woken::changed;
  if (errno == ETIMEDOUT) return Woken::timed_out;
  return errno == EINTR ? Woken::interrupted : Woken::changed;
}

// How many it woke.
inline long futex_wake_all(std::atomic<std::uint32_t>& word) noexcept {
  return syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

// Usage: seen = epoch(); check the condition; wait(seen, deadline). A wake in between is never lost.
class Parker {
 public:
  std::uint32_t epoch() const noexcept { return epoch_.load(std::memory_order_acquire); }

  void wake() noexcept {
    epoch_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) futex_wake_all(epoch_);
  }

  Woken wait(std::uint32_t seen, Nanos deadline) noexcept {
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    Woken woken = Woken::changed;
    if (epoch_.load(std::memory_order_seq_cst) == seen) woken = futex_wait(epoch_, seen, deadline);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    return woken;
  }

 private:
  std::atomic<std::uint32_t> epoch_{0};
  std::atomic<std::uint32_t> sleepers_{0};
};

}  // namespace paddleinfer
