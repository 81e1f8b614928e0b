// Predicts which requests can meet their deadline.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "requests/request.h"
#include "scheduling/batching_policy.h"
#include "scheduling/bucket.h"
#include "scheduling/predicted_runs.h"
#include "scheduling/request_queue.h"
#include "scheduling/scheduler_types.h"

namespace paddleinfer {

class Deadlines {
 public:
  Deadlines(const SchedulerOptions& options, const EngineStatus& status, const BatchingPolicy& policy,
            const RequestQueue& queue, const PredictedRuns& ends)
      : options_(options), status_(status), policy_(policy), queue_(queue), predicted_runs_(ends) {}

  // When its run must be over.
  double run_by(const Request& request) const noexcept { return double(request.deadline) - delivery_latency_ns; }

  bool minds_deadlines(const Request& request) const noexcept {
    return options_.policy == Policy::adaptive && request.deadline != kNever;
  }

  // Whether it is to be queued. What is ahead goes in full batches as the instances come free, and the last of it in
  // the request's own batch, which is to be as large as it would be by then.
  Admission admission_of(Request& request, const Bucket& bucket, Nanos now) const noexcept {
    if (!minds_deadlines(request) || !bucket.times.knows_usual()) return Admission::accepted;
    const LatencyModel& times = bucket.times;
    const std::int64_t full = std::max(policy_.target_rows(bucket), std::min(request.rows, policy_.split_rows(bucket)));
    const double own_ns = run_ns_by_itself(request, bucket, full);
    const Nanos idle_ns = now - bucket.last_ended;
    const bool unused = bucket.running == 0 && bucket.queued_rows == 0;
    if (double(now) + own_ns * times.least_ratio() > run_by(request)) {
      request.on_trial = unused && status_.idle() > 0 && queue_.requests() == 0 && bucket.tries_again_after(idle_ns);
      if (request.on_trial) return Admission::accepted;
      request.needs_ns = Nanos(own_ns + delivery_latency_ns);
      return Admission::infeasible;
    }
    if (unused && double(idle_ns) > times.predict_p95_ns(1)) return Admission::accepted;  // it may be out of date
    const double ahead_ns = double(queue_.work_ahead(request.key, now));
    if (ahead_ns <= 0 && status_.idle() > 0) return Admission::accepted;  // there is nothing to wait for
    const double row_ns = std::max(1.0, times.best_row_ns());
    const std::int64_t ahead = std::min(bucket.queued_rows, std::int64_t(ahead_ns / row_ns));
    const double of_others_ns = ahead_ns - double(ahead) * row_ns;
    const std::int64_t batches = (ahead + request.rows - 1) / full;
    const std::int64_t own = batches > 0 ? full : ahead + request.rows;
    const double start = predicted_runs_.start_after(batches, times.predict_ns(full), now) +
                         std::max(0.0, of_others_ns) / double(std::max<std::int64_t>(1, status_.instances));
    const bool late = start + times.predict_p95_ns(own) > run_by(request);
    return late ? Admission::would_be_late : Admission::accepted;
  }

  bool too_late(const Bucket& bucket, const Request& head, Nanos now) const noexcept {
    // The only one, with nothing running: it may as well find out whether what is predicted still holds.
    if ((bucket.running == 0 && bucket.queued_requests == 1) || !bucket.times.knows_usual()) return false;
    return bucket.times.predict_p95_ns(part_of(bucket, head)) > run_by(head) - double(now);
  }

  // The rows that its next run has at most.
  std::int64_t part_of(const Bucket& bucket, const Request& request) const noexcept {
    return std::min(request.rows - request.next_row, policy_.split_rows(bucket));
  }

  // What most results take from the end of their run to their callers: runs have to end that much sooner.
  double delivery_latency_ns = 0;

 private:
  // What it would take if it were the only request.
  double run_ns_by_itself(const Request& request, const Bucket& bucket, std::int64_t full) const noexcept {
    const std::int64_t before = (request.rows - 1) / full / std::max<std::int64_t>(1, status_.instances);
    return double(before) * bucket.times.predict_ns(full) + bucket.times.predict_ns(std::min(request.rows, full));
  }

  const SchedulerOptions& options_;
  const EngineStatus& status_;
  const BatchingPolicy& policy_;
  const RequestQueue& queue_;
  const PredictedRuns& predicted_runs_;
};

}  // namespace paddleinfer
