// One engine's core, as the binding sees it: it connects callers, the scheduler and the instances.
//
// Its parts share one CoreState: AdmissionControl takes requests in, DirectRuns runs those that do not go through the
// queue, CachedAnswers those that need no run, InstanceLoop hands out batches, BatchRunner runs them, RequestEnder ends
// what does not run, Shutdown closes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "requests/completion.h"
#include "requests/request.h"
#include "requests/request_wait.h"
#include "requests/thread_safety.h"
#include "running/admission_control.h"
#include "running/batch_runner.h"
#include "running/cached_answers.h"
#include "running/core_state.h"
#include "running/direct_runs.h"
#include "running/instance_loop.h"
#include "running/request_ender.h"
#include "running/shutdown.h"

namespace paddleinfer {

class Dispatcher : public std::enable_shared_from_this<Dispatcher> {
 public:
  using BackendFactory = paddleinfer::BackendFactory;
  static constexpr Nanos kInlineRunLimit = DirectRuns::kInlineRunLimit;

  explicit Dispatcher(const DispatcherOptions& options) : state_(options) {}

  // -- instances

  void start_instance(bool root, BackendFactory factory) { loop_.start(root, std::move(factory), shared_from_this()); }
  // Before the first request.
  void limit_inline(std::shared_ptr<const InlineRuns> runs) noexcept { state_.inline_runs = std::move(runs); }
  bool on_instance_thread() const noexcept { return loop_.on_instance_thread(); }

  // -- the way in

  bool admit(const std::vector<RequestPtr>& requests, std::vector<Admission>& admissions) {
    return admission_.admit(requests, admissions);
  }
  bool admit(const RequestPtr& request, Admission& admission) noexcept { return admission_.admit(request, admission); }
  static bool is_admitted(Admission admission) noexcept { return AdmissionControl::is_admitted(admission); }
  Woken wait_for_room(const Request& request, Nanos until) { return admission_.wait_for_room(request, until); }
  void spin_for(const Request& request) noexcept { admission_.spin_for(request); }
  bool run_inline(const RequestPtr& request) { return direct_.run_inline(request); }
  bool warmup(const RequestPtr& request, std::size_t instance) { return direct_.warmup(request, instance); }

  // -- ends

  bool end_early(const RequestPtr& request, Outcome outcome, bool only_queued = false) noexcept {
    return ender_.end_early(request, outcome, only_queued);
  }
  CloseReport close(bool drain, Nanos deadline) { return shutdown_.close(drain, deadline); }
  std::size_t begin_close(bool drain) { return shutdown_.begin_close(drain); }
  bool wait_for_exits(Nanos deadline) { return shutdown_.wait_for_exits(deadline); }
  CloseReport finish_close() { return shutdown_.finish_close(); }
  void close_in_background() { shutdown_.close_in_background(); }

  // -- what is known

  EngineSnapshot snapshot() {
    const MutexLock lock(state_.mu);
    const auto& batch_rows = state_.scheduler.batch_rows();
    return {state_.scheduler.queued_requests(),
            state_.scheduler.queued_rows(),
            state_.scheduler.queued_bytes(),
            state_.scheduler.running_batches(),
            state_.scheduler.waiting_for_room(),
            state_.scheduler.predicted_drain_ns(),
            state_.scheduler.offered_work_ns(),
            state_.cache.bytes(),
            state_.cache.entries(),
            state_.cache.evictions(),
            {batch_rows.begin(), batch_rows.end()}};
  }

  // Whether rows of several requests share runs, and once, after it has changed, why. Cheap when it has not.
  bool merging_changed() const noexcept { return state_.merging_changed.load(std::memory_order_acquire); }
  std::pair<Merging, std::string> take_merging_change() {
    const MutexLock lock(state_.mu);
    state_.merging_changed.store(false, std::memory_order_release);
    return {state_.scheduler.merging(), state_.why_unmerged};
  }

  // What somebody else has found out about merging.
  void set_batchable(bool merges, const std::string& why_not) {
    const MutexLock lock(state_.mu);
    using Kind = ProbeVerdict::Kind;
    state_.settle_merging({merges ? Kind::same : Kind::different, why_not});
  }

  // The predicted time of a run of so many rows like the request's; 0 when nothing is known.
  double predicted_run_ns(const Request& request, std::int64_t rows) {
    const MutexLock lock(state_.mu);
    return state_.scheduler.times_of(request).predict_ns(rows);
  }

  // A caller has just been given its result. `due`: ideal_delivery_time() of the request. By one thread at a time.
  void note_delivery(Nanos due) noexcept {
    if (due != kNever) state_.delivery_latency.note(monotonic_now() - due);
  }

  const Counters& counters() const noexcept { return state_.counters; }
  const std::shared_ptr<CompletionQueue>& completions() const noexcept { return state_.completions; }
  const std::shared_ptr<ReleaseList>& releases() const noexcept { return state_.releases; }

 private:
  CoreState state_;
  RequestEnder ender_{state_};
  BatchRunner runner_{state_, ender_};
  CachedAnswers answers_{state_};
  AdmissionControl admission_{state_, ender_, answers_};
  DirectRuns direct_{state_, runner_};
  InstanceLoop loop_{state_, ender_, runner_};
  Shutdown shutdown_{state_, ender_};
};

}  // namespace paddleinfer
