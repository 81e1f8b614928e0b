// Takes requests in: each is queued, waits for room, or is refused.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "requests/completion.h"
#include "requests/request.h"
#include "requests/thread_safety.h"
#include "running/cached_answers.h"
#include "running/core_state.h"
#include "running/request_ender.h"

namespace paddleinfer {

class AdmissionControl {
 public:
  AdmissionControl(CoreState& state, RequestEnder& ender, CachedAnswers& answers)
      : state_(state), ender_(ender), answers_(answers) {}

  // Queues requests of one reader, or of callers who wait themselves; `admissions` says what became of each.
  // False when the engine is closing: none was queued.
  // It throws only where `admissions` cannot hold that.
  bool admit(const std::vector<RequestPtr>& requests, std::vector<Admission>& admissions) {
    admissions.assign(requests.size(), Admission::accepted);
    return requests.empty() || admit(requests.data(), admissions.data(), requests.size());
  }
  bool admit(const RequestPtr& request, Admission& admission) noexcept {
    admission = Admission::accepted;
    return admit(&request, &admission, 1);
  }

  // Whether the core will end the request; otherwise it belongs to its caller again.
  static bool is_admitted(Admission admission) noexcept {
    return admission == Admission::accepted || admission == Admission::waits_for_room ||
           admission == Admission::infeasible;
  }

  // Until the request has room in the queue, has ended, or `until`.
  Woken wait_for_room(const Request& request, Nanos until) {
    for (;;) {
      const std::uint32_t seen = state_.room.epoch();
      {
        const MutexLock lock(state_.mu);
        if (!request.awaiting_admission) return Woken::changed;
      }
      const Woken woken = state_.room.wait(seen, until);
      if (woken != Woken::changed) return woken;
    }
  }

  // For a caller that is about to wait.
  void spin_for(const Request& request) noexcept {
    if (request.sole_caller_run_ns > AdaptiveSpin::kRunLimit) return;
    state_.result_spin.spin_until([&] { return request.done(); }, 2 * request.sole_caller_run_ns);
  }

 private:
  bool admit(const RequestPtr* requests, Admission* admissions, std::size_t count) noexcept {
    // A request may be gone as soon as the lock is free, and with it its reference to the queue.
    const std::shared_ptr<CompletionQueue> completion_queue = requests[0]->completion_queue;
    const auto has_deadline = [](const RequestPtr& request) { return request->deadline != kNever; };
    const std::size_t watches =
        completion_queue ? std::size_t(std::count_if(requests, requests + count, has_deadline)) : 0;
    if (!expect(completion_queue, count, watches)) {
      std::fill(admissions, admissions + count, Admission::out_of_memory);
      Counters::add(state_.counters.refused, std::int64_t(count));
      return true;
    }
    std::size_t refused = 0;
    std::size_t unwatched = 0;
    std::int64_t rows = 0;
    bool open = false;
    WokenInstances woken;
    {
      const MutexLock lock(state_.mu);
      open = !state_.closing;
      const Nanos now = monotonic_now();
      for (std::size_t place = 0; open && place < count; ++place) {
        const bool follows_refused = requests[place]->follows && !is_admitted(admissions[place - 1]);
        admissions[place] = follows_refused ? admissions[place - 1] : admission_of(requests[place], now);
        if (is_admitted(admissions[place])) {
          rows += requests[place]->rows;
        } else {
          requests[place]->refused_by = state_.scheduler.snapshot();
          ++refused;
          unwatched += has_deadline(requests[place]) ? 1 : 0;
        }
      }
      if (open) {
        // Before any of them can end: nobody sees more ends than requests.
        Counters::add(state_.counters.refused, std::int64_t(refused));
        Counters::add(state_.counters.requests, std::int64_t(count - refused));
        Counters::add(state_.counters.rows, rows);
        woken = state_.instances_to_wake(now);
      }
    }
    woken.wake();
    if (!open) {
      refused = count;
      unwatched = watches;
    }
    state_.releases->withdraw(std::int64_t(refused));
    if (completion_queue && refused > 0) completion_queue->expect_less(refused, unwatched);
    if (!open) return false;
    for (std::size_t place = 0; place < count; ++place) {
      if (admissions[place] == Admission::infeasible) ender_.end_all(&requests[place], 1, Outcome::shed);
      if (requests[place]->cache_use && requests[place]->cache_use->answer) answers_.answer(requests[place]);
    }
    for (std::size_t place = 0; completion_queue && place < count; ++place) {
      if (is_admitted(admissions[place])) completion_queue->watch(requests[place]);
    }
    return true;
  }

  // Reserves what ended requests will need. False if there is no memory for it.
  bool expect(const std::shared_ptr<CompletionQueue>& completion_queue, std::size_t count,
              std::size_t watches) noexcept {
    try {
      state_.releases->promise(std::int64_t(count));
    } catch (const std::bad_alloc&) {
      return false;
    }
    try {
      if (completion_queue) completion_queue->expect(count, watches);
    } catch (const std::bad_alloc&) {
      state_.releases->withdraw(std::int64_t(count));
      return false;
    }
    return true;
  }

  Admission admission_of(const RequestPtr& request, Nanos now) noexcept REQUIRES(state_.mu) {
    if (CachedAnswers::takes(state_, request, now)) return Admission::accepted;
    try {
      const Admission admission = state_.scheduler.admit(request, now);
      if (admission == Admission::accepted || admission == Admission::waits_for_room)
        CachedAnswers::runs(state_, request);
      return admission;
    } catch (const std::bad_alloc&) {
      return Admission::out_of_memory;
    }
  }

  CoreState& state_;
  RequestEnder& ender_;
  CachedAnswers& answers_;
};

}  // namespace paddleinfer
