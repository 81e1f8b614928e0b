// Lets callers sleep until their request has ended, and wakes them. It is apart from request.h, so that the scheduler
// does not see the futex.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "requests/parker.h"
#include "requests/request.h"
#include "requests/wake_chain.h"

namespace paddleinfer {

long Request::wake() noexcept { return futex_wake_all(word_); }

Woken Request::wait(Nanos until) noexcept {
  for (;;) {
    std::uint32_t seen = word_.load(std::memory_order_acquire);
    if (State(seen & ~kSleeper) == State::done) return carried_on();
    if ((seen & kSleeper) == 0) {
      if (!word_.compare_exchange_weak(seen, seen | kSleeper, std::memory_order_acq_rel)) continue;
      seen |= kSleeper;
    }
    const Woken woken = futex_wait(word_, seen, until);
    if (woken != Woken::changed) return done() ? carried_on() : woken;
  }
}

Woken Request::carried_on() noexcept {
  if (chain_) chain_->wake_next();
  return Woken::changed;
}

void WakeChain::wake_next() noexcept {
  for (;;) {
    const std::size_t count = count_.load(std::memory_order_acquire);
    if (next_.load(std::memory_order_relaxed) >= count) return;
    const std::size_t place = next_.fetch_add(1, std::memory_order_relaxed);
    if (place >= count) return;
    const RequestPtr sleeper = std::move(sleepers_[place]);
    if (sleeper->wake() > 0) return;
  }
}

}  // namespace paddleinfer
