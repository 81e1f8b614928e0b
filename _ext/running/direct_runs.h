// Runs requests past the queue: on the thread of a sole caller, or on one given instance.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "requests/request.h"
#include "requests/thread_safety.h"
#include "running/batch_runner.h"
#include "running/cached_answers.h"
#include "running/core_state.h"

namespace paddleinfer {

class DirectRuns {
 public:
  // A run longer than this is never done on a caller's thread: it could not be interrupted there.
  static constexpr Nanos kInlineRunLimit = 2'000'000;

  DirectRuns(CoreState& state, BatchRunner& runner) : state_(state), runner_(runner) {}

  // Runs the request on the calling thread if its caller is the only recently active one. False: use admit().
  bool run_inline(const RequestPtr& request) {
    if (!state_.options.inline_allowed) return false;
    if (state_.inline_runs && (is_padded(*request) || !state_.inline_runs->may_run(request->inputs))) return false;
    try {
      return is_run_inline(request);
    } catch (const std::bad_alloc&) {  // it has not begun
      return false;
    }
  }

  // Has one instance run a request by itself, as it is, before anything else. False when the engine is closing.
  bool warmup(const RequestPtr& request, std::size_t instance) {
    Instance* ordered = nullptr;
    state_.releases->promise();
    try {
      const MutexLock lock(state_.mu);
      if (!state_.closing) {
        ordered = state_.instances.all().at(instance).get();
        request->arrival = monotonic_now();
        request->outside_queue = true;
        ordered->pinned_requests.push_back(request);
      }
    } catch (...) {
      state_.releases->withdraw();
      throw;
    }
    if (ordered == nullptr) {
      state_.releases->withdraw();
      return false;
    }
    ordered->parker.wake();
    return true;
  }

 private:
  // Whether the model is to see other shapes than the request's.
  bool is_padded(const Request& request) const noexcept {
    const std::vector<std::int64_t>& sizes = state_.options.batch_sizes;
    return !sizes.empty() && !std::binary_search(sizes.begin(), sizes.end(), request.rows);
  }

  bool is_run_inline(const RequestPtr& request) {
    Instance* instance = nullptr;
    Decision decision;
    decision.batch = {{request, 0, request->rows}};
    decision.reason = DispatchReason::inline_run;
    state_.releases->promise();
    {
      const MutexLock lock(state_.mu);
      const Nanos now = monotonic_now();
      if (!state_.closing && state_.instances.any_idle() && !CachedAnswers::may_take(state_, *request) &&
          state_.scheduler.begin_inline(*request, kInlineRunLimit, now)) {
        CachedAnswers::runs(state_, request);
        instance = state_.instances.take_idle();
        state_.occupy(*instance, decision, now);
      }
    }
    if (instance == nullptr) {
      state_.releases->withdraw();
      return false;
    }
    decision.predicted_ns = request->sole_caller_run_ns;
    Counters::add(state_.counters.requests);
    Counters::add(state_.counters.rows, request->rows);
    Counters::add(state_.counters.inline_executions);
    if (runner_.run(*instance, decision)) instance->parker.wake();
    return true;
  }

  CoreState& state_;
  BatchRunner& runner_;
};

}  // namespace paddleinfer
