// Adds up the work that has come, in time of an instance, whatever has become of it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "requests/request.h"
#include "scheduling/batching_policy.h"
#include "scheduling/bucket.h"
#include "scheduling/scheduler_types.h"

namespace paddleinfer {

// What a row needs is what it costs in the best run that its deadline allows: a row may wait for the run before its
// own, so two such runs have to fit. Batches are smaller than that while there is little to do. So this says how many
// instances the traffic needs, and the time that instances are busy does not.
class Demand {
 public:
  Demand(const EngineStatus& status, const BatchingPolicy& policy) : status_(status), policy_(policy) {}

  // `left_ns`: until its run must be over. It counts for nothing while no run time is known.
  void came(const Request& request, const Bucket& bucket, double left_ns) noexcept {
    const std::int64_t most = std::max<std::int64_t>(1, policy_.most_rows(bucket));
    const std::int64_t best = status_.merging == Merging::no ? request.rows : std::min(most, bucket.times.best_rows());
    const std::int64_t rows =
        request.deadline == kNever ? best : std::max<std::int64_t>(1, bucket.times.rows_within(left_ns / 2, best));
    work_ns_ += double(request.rows) * bucket.times.predict_ns(rows) / double(rows);
  }

  double work_ns() const noexcept { return work_ns_; }

 private:
  const EngineStatus& status_;
  const BatchingPolicy& policy_;
  double work_ns_ = 0;
};

}  // namespace paddleinfer
