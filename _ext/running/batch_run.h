// Runs one batch, from its start to the waking of its callers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "requests/request.h"
#include "running/batch_probe.h"
#include "running/completion_notifier.h"
#include "running/counters.h"
#include "running/execution.h"
#include "running/instance.h"
#include "running/trace.h"
#include "running/verification.h"
#include "scheduling/scheduler_types.h"

namespace paddleinfer {

// What all instances know about runs that requests share.
struct SharedRuns {
  OutputRecord* record = nullptr;
  const std::atomic<bool>* unbatchable = nullptr;  // set for good once rows may not share a run

  bool may() const noexcept { return unbatchable == nullptr || !unbatchable->load(std::memory_order_acquire); }
};

class BatchRun {
 public:
  BatchRun(const BatchRun&) = delete;
  BatchRun& operator=(const BatchRun&) = delete;

  // Where it throws, for there is no memory, it has touched no request. Else it starts those that nobody has ended
  // meanwhile, and nothing of it throws any more.
  // `outputs`: their names. `max_rows`: of one run. `sizes`: the rows that the model may see at once.
  BatchRun(Instance& instance, const Decision& decision, const std::vector<std::string>& outputs, std::int64_t max_rows,
           ReleaseList& releases, const std::vector<std::int64_t>& sizes = kAnySize, const SharedRuns& shared = {})
      : instance_(instance),
        decision_(decision),
        outputs_(outputs),
        max_rows_(max_rows),
        releases_(releases),
        shared_(shared),
        execution_(decision.batch.size(), *instance.backend, started_, releases, sizes,
                   shared.may() ? shared.record : nullptr) {
    started_.reserve(decision.batch.size());
    start();
  }

  // Probes if need be, then runs; together where that is allowed. Who gets no result, for there is no memory, fails.
  void run() {
    try {
      run_all();
    } catch (const std::exception&) {  // bad_alloc: the model's own failures do not get here
      execution_.fail_unfinished();
      requeues_ = false;
      if (verdict_.kind != ProbeVerdict::Kind::different) verdict_.kind = ProbeVerdict::Kind::unclear;
    }
    if (execution_.rows_differ()) verdict_.kind = ProbeVerdict::Kind::different;
    if (verdict_.kind == ProbeVerdict::Kind::different && verdict_.reason.empty()) verdict_.reason = "rows differ";
    if (!requeues_) execution_.release_inputs();
  }

  // What a request that has shared a run was given, to be verified later on; null where there is nothing to verify.
  std::unique_ptr<Verification> take_sample() noexcept { return std::move(sample_); }

  const std::vector<RunRecord>& runs() const noexcept { return runs_; }

  // Whether the engine runs this for itself. Such a request is a batch of its own.
  bool is_internal() const noexcept { return decision_.batch.front().request->outside_queue; }

  // What ran, before anybody can hear of it.
  void count_runs(Counters& counters) const noexcept {
    if (is_internal()) {
      Counters::add(counters.internal_runs, std::int64_t(runs_.size()));
      return;
    }
    Counters::add(counters.verified_requests, compared_);
    if (compared_ > 0 && verdict_.kind == ProbeVerdict::Kind::different) Counters::add(counters.verification_failures);
    for (const RunRecord& run : runs_) {
      if (run.internal) {
        Counters::add(counters.internal_runs);
        continue;
      }
      Counters::add(counters.executions);
      Counters::add(counters.executed_rows, run.rows);
      Counters::add(counters.gather_ns, run.gather_ns);
      Counters::add(counters.run_ns, run.run_ns);
      Counters::add(counters.scatter_ns, run.scatter_ns);
    }
  }

  void record(Trace& trace, std::int64_t queued_requests) noexcept {
    if (is_internal()) return;
    for (RunRecord& run : runs_) {
      if (run.internal) continue;
      TracedRun traced;
      traced.instance = std::uint32_t(instance_.index);
      traced.began = run.began;
      traced.gather_end = run.began + run.gather_ns;
      traced.run_end = traced.gather_end + run.run_ns;
      traced.scatter_end = traced.run_end + run.scatter_ns;
      traced.rows = run.rows;
      traced.padded_rows = run.padded_rows;
      traced.requests = std::int64_t(run.requests);
      traced.queued_requests = queued_requests;
      traced.reason = decision_.reason;
      traced.failed = run.failed;
      traced.bucket = started_.front().request->signature;
      run.number = trace.record(traced);
    }
  }

  // Set when it was handed out whole to be probed, and turned out to run in parts: it has not run.
  RequestPtr requeue() const noexcept { return requeues_ ? started_.front().request : nullptr; }
  // It cannot wait again after all.
  void fail_requeue() noexcept {
    requeues_ = false;
    execution_.fail_unfinished();
    execution_.release_inputs();
  }

  // Whether it has found out something about merging, by a probe or by the way.
  bool has_verdict() const noexcept { return decision_.probe || verdict_.kind == ProbeVerdict::Kind::different; }
  const ProbeVerdict& verdict() const noexcept { return verdict_; }

  // Under the dispatcher's lock, where rows may not share runs: parts give nothing. `requeue_whole` gets their
  // requests, which have to run whole; one for which it has no memory fails.
  template <typename RequeueWhole>
  void drop_parts(RequeueWhole&& requeue_whole) noexcept {
    for (std::size_t place = 0; place < started_.size(); ++place) {
      const RequestPtr& request = started_[place].request;
      if (started_[place].whole() || request->ended()) continue;
      SliceResult& result = execution_.results()[place];
      result.in_one_run = true;
      result.failed = false;
      try {
        requeue_whole(request);
      } catch (const std::bad_alloc&) {
        result = SliceResult();
        result.failed = true;
        result.failure = Execution::out_of_memory();
      }
    }
  }

  // Requests whose other parts need not run any more.
  template <typename GiveUp>
  void withdraw_failed_parts(GiveUp&& give_up) {
    for (std::size_t place = 0; place < started_.size(); ++place) {
      if (execution_.results()[place].failed && !started_[place].whole()) give_up(started_[place].request);
    }
  }

  // Ends the requests that nobody has ended before. To be called once, after count_runs().
  void notify(Counters& counters, EndObserver* observer = nullptr) noexcept {
    if (requeues_) return;
    const Nanos now = monotonic_now();
    Nanos result_ns = 0;
    for (std::size_t place = 0; place < started_.size(); ++place) {
      const RequestPtr& request = started_[place].request;
      SliceResult& result = execution_.results()[place];
      if (!started_[place].whole() && result.in_one_run) continue;
      if (!result.failed && result.assembled && !request->partial_result->finish_part(started_[place].rows))
        continue;  // others are to come
      if (!request->claim(Request::State::running)) continue;
      result.claimed = true;
      request->release_kept_inputs(releases_);
      request->explanation = explained(*request, result.run);
      if (result.failed) {
        request->failure = std::move(result.failure);
        continue;
      }
      request->outputs = started_[place].whole() ? std::move(result.outputs) : request->partial_result->take();
      if (request->outside_queue) continue;
      result_ns += now - request->arrival;
      counters.result_durations.add(now - request->arrival);
    }
    Counters::add(counters.result_ns, result_ns);  // before anybody can see a result that it is part of
    CompletionNotifier notifier(counters, started_.size(), observer);
    for (std::size_t place = 0; place < started_.size(); ++place) {
      const SliceResult& result = execution_.results()[place];
      if (result.claimed) notifier.complete(started_[place].request, result.failed ? Outcome::error : Outcome::result);
    }
    notifier.notify();
  }

 private:
  void start() noexcept {
    for (const Slice& slice : decision_.batch) {
      if (slice.request->start()) {
        started_.push_back(slice);
      } else {
        slice.request->release_inputs(releases_);
      }
    }
    execution_.start();
  }

  void run_all() {
    if (started_.empty()) {
      if (decision_.probe) verdict_.kind = ProbeVerdict::Kind::unclear;
      return;
    }
    if (decision_.probe) {
      probe();
      if (requeues_) return;
    } else {
      run_together();
    }
    const auto& own = execution_.runs();
    runs_.insert(runs_.begin(), own.begin(), own.end());
    const std::uint64_t signature = started_.front().request->signature;
    for (RunRecord& run : runs_) instance_.sizes_run.note(signature, run);
    if (!execution_.rows_differ() || verdict_.kind == ProbeVerdict::Kind::different) return;
    verdict_ = {ProbeVerdict::Kind::different,
                "output " + outputs_.at(execution_.differing_output()) + " " + execution_.why_rows_differ()};
  }

  // Finds out whether rows may share a run. Of one large request with a few of its rows, and then it waits again, to
  // run in parts. Of several requests with all of them: each has the result of its run alone.
  void probe() {
    BatchProbe probe(*instance_.backend, outputs_, shared_.record);
    if (started_.size() == 1) {
      verdict_.kind = ProbeVerdict::Kind::unclear;
      const Slice& only = started_.front();
      if (only.whole() && only.rows > max_rows_) verdict_ = probe.probe(only);
      runs_ = probe.runs();
      requeues_ = verdict_.kind == ProbeVerdict::Kind::same;
      if (!requeues_) execution_.run(/*apart=*/true);
      return;
    }
    execution_.keep_inputs();
    execution_.keep_outputs(outputs_.size());
    execution_.run(/*apart=*/true);
    Batch compared;
    std::vector<std::vector<OwnedTensor>> alone;
    for (std::size_t place = 0; place < started_.size(); ++place) {
      if (execution_.results()[place].failed || execution_.kept(place).empty()) continue;
      compared.push_back(started_[place]);
      alone.push_back(std::move(execution_.kept(place)));
    }
    verdict_.kind = ProbeVerdict::Kind::unclear;
    if (compared.size() > 1) {
      verdict_ = probe.together(compared, alone);
      compared_ = std::int64_t(compared.size());
      runs_ = probe.runs();
    }
    execution_.release_inputs();
  }

  void run_together() {
    const bool shares = started_.size() > 1 || !started_.front().whole();
    // A part is read once, unless one of its rows is to be verified.
    if (started_.size() > 1 || (shares && decision_.verify)) execution_.keep_inputs();
    execution_.run(/*apart=*/false);
    if (!shares) return;
    if (execution_.rows_differ() || !shared_.may()) {
      execution_.run_again_apart();
    } else if (decision_.verify) {
      try {
        sample();
      } catch (const std::bad_alloc&) {  // then it is another's turn
      }
    }
    execution_.release_inputs();
  }

  void sample() {
    // Not always the first, which may be the one that is right.
    const std::size_t chosen = std::size_t(monotonic_now() / 64) % started_.size();
    const Slice& slice = started_[chosen];
    const SliceResult& result = execution_.results()[chosen];
    if (slice.request->ended() || result.failed || !execution_.shared_a_run(chosen)) return;
    const std::int64_t row = slice.first_row + (slice.rows - 1) / 2;
    std::size_t bytes = slice.whole() ? slice.request->bytes : 0;
    for (const OwnedTensor& output : result.outputs) bytes += output.shape.bytes(output.dtype);
    if (!Verifications::fits(bytes)) return;
    std::vector<OwnedTensor> given;
    if (slice.whole()) {
      for (const OwnedTensor& output : result.outputs) given.push_back(copy_whole(view_of(output)));
    } else if (result.assembled) {
      given = slice.request->partial_result->copy_row(row);
    }
    if (given.size() != slice.request->wanted.size()) return;
    sample_ = std::make_unique<Verification>(slice, row, std::move(given), outputs_.size());
  }

  Explanation explained(const Request& request, std::size_t place) const noexcept {
    Explanation explanation;
    explanation.queue_ns = request.first_started - request.arrival;
    explanation.hold_ns = request.hold_ns;
    explanation.predicted_ns = decision_.predicted_ns;
    explanation.instance = std::uint32_t(instance_.index);
    explanation.reason = decision_.reason;
    if (place < runs_.size()) {
      const RunRecord& run = runs_[place];
      explanation.run_ns = run.run_ns;
      explanation.batch_rows = run.rows;
      explanation.padded_rows = run.padded_rows;
      explanation.run = run.number;
      explanation.gather_end = run.began + run.gather_ns;
      explanation.run_end = explanation.gather_end + run.run_ns;
      explanation.scatter_end = explanation.run_end + run.scatter_ns;
    }
    return explanation;
  }

  Instance& instance_;
  const Decision& decision_;
  const std::vector<std::string>& outputs_;
  const std::int64_t max_rows_;
  ReleaseList& releases_;
  const SharedRuns shared_;
  Batch started_;
  Execution execution_;
  std::vector<RunRecord> runs_;
  ProbeVerdict verdict_;
  std::unique_ptr<Verification> sample_;
  std::int64_t compared_ = 0;
  bool requeues_ = false;
};

}  // namespace paddleinfer
