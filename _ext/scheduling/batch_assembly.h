// Fills a batch from one bucket: decides how many rows go, and which.
#pragma once

#include <algorithm>
#include <cstdint>
#include <new>

#include "requests/request.h"
#include "scheduling/batching_policy.h"
#include "scheduling/bucket.h"
#include "scheduling/deadlines.h"
#include "scheduling/request_queue.h"
#include "scheduling/scheduler_types.h"
#include "scheduling/shedding.h"

namespace paddleinfer {

class BatchAssembly {
 public:
  BatchAssembly(const SchedulerOptions& options, EngineStatus& status, const BatchingPolicy& policy,
                const Deadlines& deadlines, Shedding& shedding, RequestQueue& queue)
      : options_(options),
        status_(status),
        policy_(policy),
        deadlines_(deadlines),
        shedding_(shedding),
        queue_(queue),
        probes_left_(options.merging == Merging::probe ? kProbes : 0) {}

  // Fills the decision from one bucket. Or drops its heads, where those have ended: another may be due sooner then.
  void fill(Decision& decision, Bucket& bucket, Nanos now) {
    if (shedding_.drop_late(decision, bucket, now)) return;
    shedding_.shed_for_throughput(decision, bucket, now);
    const bool merges = status_.merging == Merging::yes || status_.merging == Merging::probe;
    const std::int64_t limit = merges ? policy_.max_rows(bucket) : 1;
    const std::int64_t split_rows = policy_.split_rows(bucket);
    const bool probes = status_.merging != Merging::no && probes_left_ > 0;
    std::int64_t rows = 0;
    double soonest = double(kNever);
    while (!bucket.empty()) {
      if (!has_memory(decision, [&] { shedding_.drop_late(decision, bucket, now); })) break;
      if (bucket.empty()) break;
      if (status_.merging == Merging::no && rows == 0 && bucket.first()->next_row > 0) {
        const RequestPtr request = bucket.first();
        queue_.requeue_whole(request);
      }
      const Request& head = *bucket.first();
      const std::int64_t rows_left = head.rows - head.next_row;
      const bool in_parts = status_.merging == Merging::yes && rows_left > split_rows;
      // What is probed is small, and without parts: it runs alone, too.
      const bool part = in_parts || head.next_row > 0;
      if (probes && rows > 0 && (part || !decision.batch.front().whole())) break;
      const std::int64_t most = probes && !part ? std::min(limit, kMostRowsProbed) : limit;
      std::int64_t taken = in_parts ? std::min(most, split_rows) - rows : rows_left;
      if (rows > 0 && (taken <= 0 || rows + taken > most)) break;
      // Its deadline kept its part small.
      if (rows > 0 && decision.batch.back().request.get() == &head) break;
      if (deadlines_.minds_deadlines(head)) soonest = std::min(soonest, deadlines_.run_by(head));
      if (soonest < double(kNever)) {
        const std::int64_t in_time = bucket.times.rows_within(soonest - double(now), rows + taken);
        if (in_parts && rows == 0) taken = std::max<std::int64_t>(1, std::min(taken, in_time));
        if (rows > 0 && in_time < rows + taken && bucket.times.knows_usual()) {
          decision.reason = DispatchReason::deadline;
          break;
        }
      }
      const auto hand = [&] {
        in_parts ? queue_.hand_out_part(decision, bucket, taken) : queue_.hand_out(decision, bucket, rows_left);
      };
      if (!has_memory(decision, hand)) break;
      rows += taken;
    }
    if (status_.merging == Merging::probe && (decision.batch.size() > 1 || rows > options_.max_batch_size)) {
      decision.probe = true;
      status_.merging = Merging::probing;
    }
    if (status_.merging == Merging::yes && probes && decision.batch.size() > 1) decision.probe = true;
  }

  // A batch was probed, and its rows were together what they are alone.
  void note_probed() noexcept { probes_left_ = std::max<std::int64_t>(0, probes_left_ - 1); }

 private:
  static constexpr std::int64_t kProbes = 8;  // of batches, before rows are taken to share runs
  static constexpr std::int64_t kMostRowsProbed = 4;

  // Takes a step towards a batch. False where there is no memory for it, and the batch can go as it is.
  template <typename Step>
  static bool has_memory(const Decision& decision, Step&& step) {
    try {
      step();
      return true;
    } catch (const std::bad_alloc&) {
      if (decision.batch.empty()) throw;
      return false;
    }
  }

  const SchedulerOptions& options_;
  EngineStatus& status_;
  const BatchingPolicy& policy_;
  const Deadlines& deadlines_;
  Shedding& shedding_;
  RequestQueue& queue_;
  std::int64_t probes_left_;
};

}  // namespace paddleinfer
