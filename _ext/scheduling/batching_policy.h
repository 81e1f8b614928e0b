// Decides how many rows a batch should have, and how long to hold it back.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "scheduling/bucket.h"
#include "scheduling/scheduler_types.h"

namespace paddleinfer {

class BatchingPolicy {
 public:
  BatchingPolicy(const SchedulerOptions& options, const EngineStatus& status) : options_(options), status_(status) {}

  // The rows past which a request is handed out in parts.
  std::int64_t split_rows(const Bucket& bucket) const noexcept {
    const std::int64_t most = most_rows(bucket);
    return options_.policy == Policy::adaptive ? std::min(most, bucket.times.peak_rows()) : most;
  }

  // The rows of a batch that is worth no more waiting: at most max_batch_size; not past the size at which rows per
  // second peak; not more than the rows of all callers divided over the instances, so that callers who wait for
  // their answers keep every instance busy, or as many as short runs may.
  std::int64_t target_rows(const Bucket& bucket) const noexcept {
    const std::int64_t most = most_rows(bucket);
    if (options_.policy != Policy::adaptive) return most;
    const std::int64_t of_callers = shared(bucket, bucket.arrivals.peak_rows(), status_.instances);
    return preferred(std::min({most, bucket.times.best_rows(), of_callers}));
  }

  // The rows that an idle instance takes of those that wait: its share of them while others are idle too.
  std::int64_t max_rows(const Bucket& bucket) const noexcept {
    const std::int64_t full = target_rows(bucket);
    if (options_.policy != Policy::adaptive) return full;
    return preferred(std::min(full, shared(bucket, bucket.queued_rows, status_.idle())));
  }

  std::int64_t batches(const Bucket& bucket) const noexcept {
    if (status_.merging != Merging::yes) return bucket.queued_requests;
    return divided(bucket.queued_rows, max_rows(bucket));
  }

  // Whether a run of these rows, or of as many as it may hold, is known to be short, and an event loop or a thread that
  // reads for many wants the core meanwhile. Threads that wait for their own results are better off with two runs.
  bool is_short(const Bucket& bucket, std::int64_t rows) const noexcept {
    if (bucket.queued_requests == 0 || !bucket.first()->has_reader) return false;
    const double run_ns = bucket.times.predict_ns(std::min(rows, most_rows(bucket)));
    return run_ns > 0 && run_ns <= double(kShortRun);
  }

  // What a run may hold at all.
  std::int64_t most_rows(const Bucket& bucket) const noexcept {
    return std::min(options_.max_batch_size, bucket.memory_cap);
  }

  // Until when a bucket should be held back; `now`: it should go, and `reason` says why.
  Nanos delay_until(Bucket& bucket, Nanos now, DispatchReason& reason) const noexcept {
    return std::max(now, wanted_delay(bucket, now, reason));
  }

 private:
  Nanos wanted_delay(Bucket& bucket, Nanos now, DispatchReason& reason) const noexcept {
    reason = DispatchReason::idle;
    if (status_.merging == Merging::probing && bucket.first()->in_queue &&
        bucket.first()->rows > options_.max_batch_size) {
      return kNever;  // nobody knows yet whether it may run in parts
    }
    if (status_.closing) {
      reason = DispatchReason::closing;
    } else if (status_.merging != Merging::yes) {
      reason = DispatchReason::unbatchable;
    } else if (bucket.queued_rows >= target_rows(bucket)) {
      const bool full = bucket.queued_rows >= std::min(most_rows(bucket), bucket.times.best_rows());
      reason = full ? DispatchReason::full : DispatchReason::all_callers_queued;
    } else if (bucket.queued_rows > 0 && options_.max_delay != 0) {
      if (options_.policy == Policy::fixed_delay) {
        reason = DispatchReason::delay_expired;
        return bucket.fixed_delay_until(now, options_.max_delay);
      }
      if (options_.policy == Policy::adaptive && status_.idle() <= 1) {
        return bucket.delay_until(now, options_.max_delay, reason);
      }
    }
    return now;
  }

  // What each of some instances takes of these rows.
  std::int64_t shared(const Bucket& bucket, std::int64_t rows, std::int64_t instances) const noexcept {
    return divided(rows, is_short(bucket, rows) ? std::min(instances, options_.short_run_instances) : instances);
  }

  // Rounded up; at least 1.
  static std::int64_t divided(std::int64_t rows, std::int64_t by) noexcept {
    by = std::max<std::int64_t>(1, by);
    return std::max<std::int64_t>(1, (rows + by - 1) / by);
  }

  // The largest preferred size that is not more; `rows` itself where there is none.
  std::int64_t preferred(std::int64_t rows) const noexcept {
    const auto& sizes = options_.preferred_sizes;
    const auto above = std::upper_bound(sizes.begin(), sizes.end(), rows);
    return above == sizes.begin() ? rows : *std::prev(above);
  }

  const SchedulerOptions& options_;
  const EngineStatus& status_;
};

}  // namespace paddleinfer
