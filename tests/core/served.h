// A scheduler that serves one model, of which it knows all.
#pragma once

#include <cstdint>

#include "scheduling.h"

namespace fakes {

inline constexpr Nanos kFixed = harness::kMillisecond;
inline constexpr Nanos kPerRow = harness::kMillisecond / 10;
inline constexpr Nanos kFullRun = kFixed + 32 * kPerRow;

// A model of which all is known, on one instance, and 32 recent callers, none of whom waits.
struct Served {
  explicit Served(const SchedulerOptions& options = {}) : scheduler(options) {
    teach(scheduler, 1, kFixed, kPerRow, 32, now);
    for (int round = 0; round < 3; ++round) {
      admit(scheduler, 32, 1, now);
      while (scheduler.queued_requests() > 0) run();
    }
  }
  // A batch goes, and ends as predicted.
  Decision run() {
    Decision decision = scheduler.next(now);
    if (!decision.batch.empty()) {
      const Nanos run_ns = kFixed + kPerRow * rows_of(decision.batch);
      end(scheduler, decision.batch, run_ns, now += run_ns);
    } else if (decision.wake_at != kNever) {
      now = decision.wake_at;
    }
    return decision;
  }
  // A batch goes, and takes so long.
  void run_for(Nanos run_ns) {
    const Batch batch = scheduler.next(now).batch;
    end(scheduler, batch, run_ns, now += run_ns);
  }
  // Keeps the instance busy with a full batch.
  Batch occupy() {
    admit(scheduler, 32, 1, now);
    Batch batch = scheduler.next(now).batch;
    CHECK_EQ(rows_of(batch), 32);
    return batch;
  }
  Admission come(Nanos within, std::int64_t rows = 1, int priority = 1) {
    last = request_of(1, rows, within == kNever ? kNever : now + within);
    last->priority = priority;
    return scheduler.admit(last, now);
  }
  RequestPtr accepted(Nanos within, std::int64_t rows = 1) {
    CHECK_EQ(come(within, rows), Admission::accepted);
    return last;
  }

  Scheduler scheduler;
  RequestPtr last;
  Nanos now = kNanosPerSecond;
};

}  // namespace fakes
