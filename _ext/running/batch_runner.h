// Has an instance run a batch, tells the scheduler what that has shown, and then wakes the callers.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "requests/request.h"
#include "requests/thread_safety.h"
#include "running/batch_run.h"
#include "running/completion_notifier.h"
#include "running/core_state.h"
#include "running/execution.h"
#include "running/request_ender.h"
#include "running/verification.h"

namespace paddleinfer {

class BatchRunner {
 public:
  BatchRunner(CoreState& state, RequestEnder& ender) : state_(state), ender_(ender) {}

  // Lets go of the instance before it tells anybody of the end: a caller who comes straight back finds it
  // free. True when there is more for the instance's own thread to do.
  bool run(Instance& instance, const Decision& decision) {
    std::optional<BatchRun> begun;
    try {
      begun.emplace(instance, decision, state_.options.outputs, state_.options.scheduler.max_batch_size,
                    *state_.releases, state_.options.batch_sizes, SharedRuns{&state_.outputs, &state_.unbatchable});
    } catch (const std::bad_alloc&) {
      return give_back(instance, decision);
    }
    BatchRun& batch = *begun;
    batch.run();
    batch.count_runs(state_.counters);
    Instance* to_verify = nullptr;
    After after;
    {
      const MutexLock lock(state_.mu);
      const Nanos now = monotonic_now();
      if (batch.has_verdict()) state_.settle_merging(batch.verdict());
      if (state_.scheduler.merging() == Merging::no) {
        // Called at once, under the lock.
        batch.drop_parts([this](const RequestPtr& request)
                             NO_THREAD_SAFETY_ANALYSIS { state_.scheduler.requeue_whole(request); });
      } else if (keep_sample(batch.take_sample(), now)) {
        to_verify = state_.instances.longest_idle();
      }
      if (!is_requeued(batch)) {
        state_.scheduler.done(decision.batch, batch.runs(), now);
        state_.scheduler.set_delivery_latency(state_.delivery_latency.bound_ns());
      }
      after = vacate(instance, now);
    }
    if (to_verify != nullptr) to_verify->parker.wake();
    batch.record(*state_.options.trace, after.queued_requests);
    batch.withdraw_failed_parts([this](const RequestPtr& request) { ender_.withdraw_queued(*request); });
    batch.notify(state_.counters, state_.end_observer);
    return after.more;
  }

  // Runs a request alone that had shared a run, and compares.
  void verify(Instance& self, const Verification& verification) {
    std::vector<RunRecord> runs;
    ProbeVerdict verdict{ProbeVerdict::Kind::unclear, ""};  // it has failed, and may not fail another time
    try {
      Execution execution(*self.backend, verification.batch, *state_.releases, state_.options.batch_sizes,
                          &state_.outputs);
      execution.run(/*apart=*/true);
      runs = execution.runs();
      for (RunRecord& run : runs) self.sizes_run.note(verification.request->signature, run);
      const SliceResult& result = execution.results().front();
      if (!result.failed) {
        verdict = verification.compare(result.outputs, state_.options.outputs, state_.outputs);
        Counters::add(state_.counters.verified_requests);
      }
    } catch (const std::bad_alloc&) {  // then it stays unclear
    }
    if (verdict.kind == ProbeVerdict::Kind::different) Counters::add(state_.counters.verification_failures);
    Counters::add(state_.counters.internal_runs, std::int64_t(runs.size()));
    const MutexLock lock(state_.mu);
    if (verdict.kind == ProbeVerdict::Kind::different) state_.settle_merging(verdict);
    const Nanos now = monotonic_now();
    state_.scheduler.done(verification.batch, runs, now);
    self.occupied = false;
    self.idle_since = now;
  }

 private:
  struct After {
    std::int64_t queued_requests = 0;
    bool more = false;  // for the instance's own thread to do
  };

  After vacate(Instance& instance, Nanos now) noexcept REQUIRES(state_.mu) {
    instance.idle_since = now;
    instance.occupied = false;
    instance.running = nullptr;
    state_.instances.list_idle(instance);
    const std::int64_t queued_requests = state_.scheduler.queued_requests();
    return {queued_requests, state_.closing || queued_requests > 0 || !instance.pinned_requests.empty()};
  }

  // A batch for which there is no memory fails before it has begun.
  bool give_back(Instance& instance, const Decision& decision) noexcept {
    After after;
    {
      const MutexLock lock(state_.mu);
      const Nanos now = monotonic_now();
      if (decision.probe) state_.settle_merging({ProbeVerdict::Kind::unclear, ""});
      state_.scheduler.done(decision.batch, {}, now);
      after = vacate(instance, now);
    }
    for (const Slice& slice : decision.batch) {
      slice.request->release_inputs(*state_.releases);
      if (!slice.request->claim(Request::State::queued) && !slice.request->claim(Request::State::running)) continue;
      ender_.withdraw_queued(*slice.request);
      slice.request->release_kept_inputs(*state_.releases);
      slice.request->failure = Execution::out_of_memory();
      CompletionNotifier notifier(state_.counters, 1, state_.end_observer);
      notifier.complete(slice.request, Outcome::error);
      notifier.notify();
    }
    return after.more;
  }

  bool keep_sample(std::unique_ptr<Verification> sample, Nanos now) noexcept REQUIRES(state_.mu) {
    if (!sample || state_.closing) return false;
    try {
      const double run_ns = state_.scheduler.times_of(*sample->request).predict_ns(sample->request->rows);
      state_.verifications.add(std::move(sample), run_ns, now);
      return true;
    } catch (const std::bad_alloc&) {  // then it is another's turn
      return false;
    }
  }

  // Whether what was handed out whole, to be probed, has gone back to run in parts.
  bool is_requeued(BatchRun& batch) noexcept REQUIRES(state_.mu) {
    const RequestPtr request = batch.requeue();
    if (!request) return false;
    try {
      state_.scheduler.requeue(request);
      return true;
    } catch (const std::bad_alloc&) {
      batch.fail_requeue();
      return false;
    }
  }

  CoreState& state_;
  RequestEnder& ender_;
};

}  // namespace paddleinfer
