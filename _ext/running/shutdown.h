// Closes an engine: it takes no more requests, lets accepted ones run, ends the rest, and joins or detaches its
// threads.
#pragma once

#include <array>
#include <cstddef>
#include <utility>

#include "requests/request.h"
#include "requests/thread_safety.h"
#include "running/core_state.h"
#include "running/request_ender.h"

namespace paddleinfer {

struct CloseReport {
  std::size_t abandoned_instances = 0;  // still running when the time was up; left to themselves
  std::size_t ended_requests = 0;       // got Outcome::closed
};

class Shutdown {
 public:
  Shutdown(CoreState& state, RequestEnder& ender) : state_(state), ender_(ender) {}

  // Takes no more requests, lets accepted ones end until `deadline` (with drain), then ends the rest.
  CloseReport close(bool drain, Nanos deadline) {
    const std::size_t ended = begin_close(drain);
    wait_for_exits(deadline);
    CloseReport report = finish_close();
    report.ended_requests += ended;
    return report;
  }

  // close() in three steps, for callers that poll for signals. Returns the number of requests that it ended at once.
  std::size_t begin_close(bool drain) {
    {
      const MutexLock lock(state_.mu);
      state_.closing = true;
      state_.scheduler.close();
      state_.verifications.clear();
    }
    state_.completions->stop();  // once all ends are read
    const std::size_t ended = drain ? 0 : end_queued();
    state_.threads.wake_all();
    return ended;
  }

  // True when all threads have exited, or another close() has given up on the others.
  bool wait_for_exits(Nanos deadline) { return state_.threads.wait_for_exits(deadline, /*only_vacant=*/false); }

  CloseReport finish_close() {
    CloseReport report;
    {
      const MutexLock lock(state_.mu);
      state_.instances.given_up = true;
      state_.cache.clear();
    }
    if (!state_.threads.wait_for_exits(0, /*only_vacant=*/false)) {
      report.ended_requests += end_queued() + end_running();
      state_.threads.abandon();
      state_.threads.wait_for_exits(monotonic_now() + kNanosPerSecond, /*only_vacant=*/true);
    }
    report.ended_requests += end_queued();  // what no instance was left to run
    report.abandoned_instances = state_.threads.join_or_detach();
    return report;
  }

  // For a destructor: close without waiting; the threads end by themselves.
  void close_in_background() {
    begin_close(false);
    state_.threads.detach_all();
  }

 private:
  std::size_t end_queued() noexcept {
    std::size_t count = 0;
    for (;;) {
      std::array<RequestPtr, 64> queued;
      std::size_t number = 0;
      {
        const MutexLock lock(state_.mu);
        number = state_.scheduler.drain(queued, monotonic_now());
        for (const auto& instance : state_.instances.all()) {
          for (auto& pinned_requests = instance->pinned_requests; number < queued.size() && !pinned_requests.empty();
               pinned_requests.pop_front()) {
            queued[number++] = std::move(pinned_requests.front());
          }
        }
      }
      state_.room.wake();
      count += ender_.end_all(queued.data(), number, Outcome::closed);
      if (number < queued.size()) return count;
    }
  }

  std::size_t end_running() noexcept {
    std::size_t count = 0;
    // A batch may start just now: first as queued, then as running, never the other way round.
    while (const RequestPtr request = one_that_runs()) count += ender_.end_early(request, Outcome::closed) ? 1 : 0;
    return count;
  }

  // Null when all that runs has been ended.
  RequestPtr one_that_runs() noexcept {
    const MutexLock lock(state_.mu);
    for (const auto& instance : state_.instances.all()) {
      if (instance->running == nullptr) continue;
      for (const Slice& slice : *instance->running) {
        if (!slice.request->ended()) return slice.request;
      }
    }
    return nullptr;
  }

  CoreState& state_;
  RequestEnder& ender_;
};

}  // namespace paddleinfer
