// Ends requests before they have run: for their caller, for the scheduler, or at the close.
#pragma once

#include <cstddef>

#include "requests/request.h"
#include "requests/thread_safety.h"
#include "running/completion_notifier.h"
#include "running/core_state.h"

namespace paddleinfer {

class RequestEnder {
 public:
  explicit RequestEnder(CoreState& state) : state_(state) {}

  // Ends a request before its result is there. False when it has ended already, or must be queued and is not.
  bool end_early(const RequestPtr& request, Outcome outcome, bool only_queued = false) noexcept {
    const bool queued = request->claim(Request::State::queued);
    if (!queued && (only_queued || !request->claim(Request::State::running))) return false;
    withdraw_queued(*request);
    request->release_kept_inputs(*state_.releases);
    CompletionNotifier notifier(state_.counters, 1, state_.end_observer);
    notifier.complete(request, outcome);
    notifier.notify();
    return true;
  }

  // Withdraws the queued rows of a request that has ended, or is about to.
  void withdraw_queued(Request& request) noexcept {
    bool held = false;
    WokenInstances woken;
    {
      const MutexLock lock(state_.mu);
      const Nanos now = monotonic_now();
      held = state_.equal_requests.forget(request) || state_.scheduler.forget(request, now);
      woken = state_.instances_to_wake(now);  // others may have come in from the admission queue
    }
    woken.wake();
    state_.room.wake();
    if (held) request.release_inputs(*state_.releases);
  }

  // Ends requests that the scheduler has given back. Returns how many nobody else had ended.
  std::size_t end_all(const RequestPtr* requests, std::size_t number, Outcome outcome) noexcept {
    if (number == 0) return 0;
    std::size_t count = 0;
    CompletionNotifier notifier(state_.counters, number, state_.end_observer);
    for (std::size_t place = 0; place < number; ++place) {
      const RequestPtr& request = requests[place];
      request->release_inputs(*state_.releases);
      if (!request->claim(Request::State::queued) && !request->claim(Request::State::running)) continue;
      request->release_kept_inputs(*state_.releases);
      notifier.complete(request, outcome);
      ++count;
    }
    notifier.notify();
    return count;
  }

 private:
  CoreState& state_;
};

}  // namespace paddleinfer
