// How many rows a batch should hold, and how long one should be held back.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "bucket.h"
#include "schedule.h"

namespace paddleinfer {

class BatchRules {
 public:
  explicit BatchRules(const SchedulerOptions& options) : options_(options), merging(options.merging) {}

  // The rows past which a request is handed out in parts.
  std::int64_t part_limit(const Bucket& bucket) const noexcept {
    const std::int64_t most = most_rows(bucket);
    return options_.policy == Policy::adaptive ? std::min(most, bucket.times.peak_rows()) : most;
  }

  // The rows of a batch that is worth no more waiting: at most max_batch_size; not past the size at which rows per
  // second peak; not more than the rows of all callers divided over the instances, so that callers who wait for
  // their answers keep every instance busy.
  std::int64_t full_batch(const Bucket& bucket) const noexcept {
    const std::int64_t most = most_rows(bucket);
    if (options_.policy != Policy::adaptive) return most;
    const std::int64_t of_callers = divided(bucket.arrivals.peak_rows(), instances);
    return preferred(std::min({most, bucket.times.best_rows(), of_callers}));
  }

  // The rows that an idle instance takes of those that wait: its share of them while others are idle too.
  std::int64_t batch_limit(const Bucket& bucket) const noexcept {
    const std::int64_t full = full_batch(bucket);
    if (options_.policy != Policy::adaptive) return full;
    return preferred(std::min(full, divided(bucket.queued_rows, idle())));
  }

  std::int64_t batches(const Bucket& bucket) const noexcept {
    if (merging != Merging::yes) return bucket.queued_requests;
    return divided(bucket.queued_rows, batch_limit(bucket));
  }

  // Until when a bucket should be held back; `now`: it should go, and `reason` says why.
  Nanos hold_until(Bucket& bucket, Nanos now, DispatchReason& reason) const noexcept {
    return std::max(now, wanted_hold(bucket, now, reason));
  }

  std::int64_t idle() const noexcept { return instances - running; }

 private:
  std::int64_t most_rows(const Bucket& bucket) const noexcept {
    return std::min(options_.max_batch_size, bucket.memory_cap);
  }

  Nanos wanted_hold(Bucket& bucket, Nanos now, DispatchReason& reason) const noexcept {
    reason = DispatchReason::idle;
    if (merging == Merging::probing && bucket.first()->in_queue && bucket.first()->rows > options_.max_batch_size) {
      return kNever;  // nobody knows yet whether it may run in parts
    }
    if (closing) {
      reason = DispatchReason::closing;
    } else if (merging != Merging::yes) {
      reason = DispatchReason::alone;
    } else if (bucket.queued_rows >= full_batch(bucket)) {
      const bool full = bucket.queued_rows >= std::min(most_rows(bucket), bucket.times.best_rows());
      reason = full ? DispatchReason::full : DispatchReason::all_here;
    } else if (bucket.queued_rows > 0 && options_.max_hold != 0) {
      if (options_.policy == Policy::fixed_delay) {
        reason = DispatchReason::held_over;
        return bucket.fixed_hold_until(now, options_.max_hold);
      }
      if (options_.policy == Policy::adaptive && idle() <= 1) {
        return bucket.hold_until(now, options_.max_hold, reason);
      }
    }
    return now;
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

 public:
  // The scheduler's own state, as far as the rules ask for it.
  Merging merging;
  std::int64_t instances = 1;
  std::int64_t running = 0;
  bool closing = false;
};

}  // namespace paddleinfer
