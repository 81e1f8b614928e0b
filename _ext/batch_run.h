// What an instance does with a batch, from its start to the word for those who wait.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "batch_probe.h"
#include "counters.h"
#include "ends.h"
#include "execution.h"
#include "instance.h"
#include "request.h"
#include "schedule.h"
#include "trace.h"

namespace paddleinfer {

class BatchRun {
 public:
  BatchRun(const BatchRun&) = delete;
  BatchRun& operator=(const BatchRun&) = delete;

  // Starts the requests that nobody has ended meanwhile.
  // `outputs`: their names. `max_rows`: of one run. `sizes`: the rows that the model may see at once.
  BatchRun(Instance& instance, const Decision& decision, const std::vector<std::string>& outputs, std::int64_t max_rows,
           ReleaseList& releases, const std::vector<std::int64_t>& sizes = kAnySize)
      : instance_(instance),
        decision_(decision),
        outputs_(outputs),
        max_rows_(max_rows),
        started_(started(decision.batch, releases)),
        execution_(*instance.backend, started_, releases, sizes) {}

  // Probes if need be, then runs; together where that is allowed.
  void run() {
    if (started_.empty()) {
      if (decision_.probe) verdict_.kind = ProbeVerdict::Kind::unclear;
      return;
    }
    if (decision_.probe) verdict_ = BatchProbe(*instance_.backend, outputs_, started_).run();
    if (decision_.probe && verdict_.kind == ProbeVerdict::Kind::same && rows_of(started_) > max_rows_) {
      put_back_ = true;
      return;
    }
    execution_.run(/*apart=*/verdict_.kind != ProbeVerdict::Kind::same);
    runs_ = execution_.runs();
    const std::uint64_t signature = started_.front().request->signature;
    for (Ran& ran : runs_) ran.first_of_its_size = instance_.sizes_run.note(signature, ran.rows);
    if (execution_.rows_differ().empty()) return;
    verdict_ = {ProbeVerdict::Kind::different,
                "output " + outputs_.at(execution_.differing_output()) + " " + execution_.rows_differ()};
  }

  const std::vector<Ran>& runs() const noexcept { return runs_; }

  void record(Trace& trace, std::int64_t queued_requests) noexcept {
    for (Ran& ran : runs_) {
      TracedRun traced;
      traced.instance = std::uint32_t(instance_.index);
      traced.began = ran.began;
      traced.gathered = ran.began + ran.gather_ns;
      traced.over = traced.gathered + ran.run_ns;
      traced.scattered = traced.over + ran.scatter_ns;
      traced.rows = ran.rows;
      traced.padded_rows = ran.padded_rows;
      traced.requests = std::int64_t(ran.requests);
      traced.queued_requests = queued_requests;
      traced.reason = decision_.reason;
      traced.failed = ran.failed;
      ran.number = trace.record(traced);
    }
  }

  // Set when it was handed out whole to be probed, and turned out to run in parts: it has not run.
  RequestPtr put_back() const noexcept { return put_back_ ? started_.front().request : nullptr; }

  // Whether it has found out something about merging, by a probe or by the way.
  bool has_verdict() const noexcept { return decision_.probe || verdict_.kind == ProbeVerdict::Kind::different; }
  const ProbeVerdict& verdict() const noexcept { return verdict_; }

  // Requests whose other parts need not run any more.
  std::vector<RequestPtr> failed_in_part() {
    std::vector<RequestPtr> failed;
    for (std::size_t place = 0; place < started_.size(); ++place) {
      if (execution_.ends()[place].failed && !started_[place].whole()) failed.push_back(started_[place].request);
    }
    return failed;
  }

  // Ends the requests that nobody has ended before.
  void tell(Counters& counters) {
    if (put_back_) return;
    Ends ends(counters, /*several=*/started_.size() > 2);
    const Nanos now = monotonic_now();
    Nanos result_ns = 0;
    for (std::size_t place = 0; place < started_.size(); ++place) {
      const RequestPtr& request = started_[place].request;
      SliceEnd& end = execution_.ends()[place];
      if ((!end.failed && !end.complete) || !request->claim(Request::State::running)) continue;
      request->explanation = explained(*request, end.run);
      if (end.failed) {
        request->failure = std::move(end.failure);
        ends.add(request, Outcome::error);
      } else {
        request->outputs = request->joined ? request->joined->take() : std::move(end.outputs);
        result_ns += now - request->arrival;
        ends.add(request, Outcome::result);
      }
    }
    counters.result_ns.fetch_add(result_ns, std::memory_order_relaxed);
    ends.tell();
  }

 private:
  Explanation explained(const Request& request, std::size_t run) const noexcept {
    Explanation explanation;
    explanation.queue_ns = request.first_started - request.arrival;
    explanation.hold_ns = request.hold_ns;
    explanation.predicted_ns = decision_.predicted_ns;
    explanation.instance = std::uint32_t(instance_.index);
    explanation.reason = decision_.reason;
    if (run < runs_.size()) {
      const Ran& ran = runs_[run];
      explanation.run_ns = ran.run_ns;
      explanation.batch_rows = ran.rows;
      explanation.padded_rows = ran.padded_rows;
      explanation.run = ran.number;
      explanation.gathered = ran.began + ran.gather_ns;
      explanation.over = explanation.gathered + ran.run_ns;
      explanation.scattered = explanation.over + ran.scatter_ns;
    }
    return explanation;
  }

  static Batch started(const Batch& batch, ReleaseList& releases) {
    Batch started;
    started.reserve(batch.size());
    for (const Slice& slice : batch) {
      if (slice.request->start()) {
        started.push_back(slice);
      } else {
        slice.request->let_go_of_inputs(releases);
      }
    }
    return started;
  }

  Instance& instance_;
  const Decision& decision_;
  const std::vector<std::string>& outputs_;
  const std::int64_t max_rows_;
  const Batch started_;
  Execution execution_;
  std::vector<Ran> runs_;
  ProbeVerdict verdict_;
  bool put_back_ = false;
};

}  // namespace paddleinfer
