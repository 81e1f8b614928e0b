// What an engine counts.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "running/duration_histogram.h"

namespace paddleinfer {

// Since the engine began. Relaxed counters: read for information only. Of traffic; what the engine runs for itself
// (Request::outside_queue) is counted in internal_runs alone.
struct Counters {
  std::atomic<std::int64_t> requests{0};  // accepted
  std::atomic<std::int64_t> rows{0};      // of accepted requests
  std::atomic<std::int64_t> refused{0};
  std::atomic<std::int64_t> results{0};
  std::atomic<std::int64_t> errors{0};
  std::atomic<std::int64_t> cancelled{0};
  std::atomic<std::int64_t> expired{0};
  std::atomic<std::int64_t> shed{0};
  std::atomic<std::int64_t> closed{0};
  std::atomic<std::int64_t> executions{0};
  std::atomic<std::int64_t> inline_executions{0};
  std::atomic<std::int64_t> queue_ns{0};
  std::atomic<std::int64_t> gather_ns{0};  // over runs, as the next two
  std::atomic<std::int64_t> run_ns{0};
  std::atomic<std::int64_t> scatter_ns{0};
  std::atomic<std::int64_t> result_ns{0};  // from arrival to the result, over results
  std::atomic<std::int64_t> executed_rows{0};
  std::atomic<std::int64_t> verified_requests{0};  // compared with what they give alone
  std::atomic<std::int64_t> verification_failures{0};
  std::atomic<std::int64_t> internal_runs{0};
  std::atomic<std::int64_t> cache_hits{0};       // requests whose result was kept
  std::atomic<std::int64_t> cache_coalesced{0};  // those that were given the result of an equal one
  std::atomic<std::int64_t> cache_misses{0};     // those with a key that ran
  std::atomic<std::int64_t> cache_hit_ns{0};     // from the arrival to the result, over hits
  std::atomic<std::int64_t> cache_miss_ns{0};    // to keep their results, over misses
  DurationHistogram queue_durations;             // what queue_ns sums up
  DurationHistogram result_durations;            // what result_ns sums up

  // Each counter by the name that it has in stats().
  std::vector<std::pair<const char*, std::int64_t>> values() const {
    return {
        {"requests", requests},
        {"rows", rows},
        {"results", results},
        {"errors", errors},
        {"cancelled", cancelled},
        {"expired", expired},
        {"shed", shed},
        {"closed", closed},
        {"refused", refused},
        {"executions", executions},
        {"executed_rows", executed_rows},
        {"internal_runs", internal_runs},
        {"verified_requests", verified_requests},
        {"verification_failures", verification_failures},
        {"inline_executions", inline_executions},
        {"cache_hits", cache_hits},
        {"cache_coalesced", cache_coalesced},
        {"cache_misses", cache_misses},
        {"cache_hit_ns", cache_hit_ns},
        {"cache_miss_ns", cache_miss_ns},
        {"queue_ns", queue_ns},
        {"gather_ns", gather_ns},
        {"run_ns", run_ns},
        {"scatter_ns", scatter_ns},
        {"result_ns", result_ns},
    };
  }

  static void add(std::atomic<std::int64_t>& counter, std::int64_t amount = 1) noexcept {
    counter.fetch_add(amount, std::memory_order_relaxed);
  }
};

// At this moment.
struct EngineSnapshot {
  std::int64_t queued_requests = 0;
  std::int64_t queued_rows = 0;
  std::size_t queued_bytes = 0;
  std::int64_t running_batches = 0;
  std::int64_t waiting_for_room = 0;
  double drain_ns = 0;         // predicted for what waits
  double offered_work_ns = 0;  // since the engine began
  std::size_t cache_bytes = 0;
  std::size_t cache_entries = 0;
  std::int64_t cache_evictions = 0;
  std::vector<std::pair<std::int64_t, std::int64_t>> batch_rows;  // rows of a batch, how many such ran
};

}  // namespace paddleinfer
