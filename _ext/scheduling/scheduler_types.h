// What the scheduler is told, and what it decides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "request.h"

namespace paddleinfer {

// Whether rows of several requests may share a run.
enum class Merging : std::uint8_t {
  no,
  probe,    // unknown: the first batch that could hold several is to be probed
  probing,  // an instance does so; until it knows nothing is merged
  yes,
};

enum class Policy : std::uint8_t {
  adaptive,     // by cost, gaps and deadlines, as measured
  eager,        // an idle instance takes what waits, up to a batch
  fixed_delay,  // a batch goes when it is full, or when its first request has waited max_hold
};

struct SchedulerOptions {
  Policy policy = Policy::adaptive;
  std::int64_t max_batch_size = 32;
  std::int64_t max_queue_rows = 4096;
  std::size_t max_queue_bytes = std::size_t{256} << 20;
  Nanos max_hold = kNever;  // of one request, for company; 0 never holds
  Merging merging = Merging::yes;
  std::vector<std::int64_t> preferred_sizes;  // rising; a batch that waits for company is full at one of them
};

enum class Admission : std::uint8_t {
  accepted,
  waits_for_room,
  too_many_rows,
  too_many_bytes,
  rows_over_limit,
  bytes_over_limit,
  would_be_late,  // by what is predicted, its deadline would pass before its result
};

struct Decision {
  Batch batch;
  bool probe = false;          // find out first whether its rows may share a run
  Nanos lone_run_ns = kNever;  // predicted, when its only caller is the only one of late
  Nanos predicted_ns = 0;      // of the run; 0 where nothing is known
  Nanos held_since = kNever;   // when it was first held back
  Nanos held_until = kNever;   // and how long an instance was idle for it
  DispatchReason reason = DispatchReason::idle;
  std::vector<RequestPtr> expired;  // their deadline has passed
  std::vector<RequestPtr> shed;     // it could no longer be met
  Nanos wake_at = kNever;
};

struct Plan {
  std::int64_t instances = 0;  // that have something to do now
  Nanos wake_at = kNever;      // when there may be something for one, if nothing happens before
};

// One run of the model.
struct Ran {
  std::uint64_t number = 0;  // in the trace; 0: not traced
  std::size_t requests = 0;
  std::int64_t rows = 0;
  Nanos began = 0;
  Nanos gather_ns = 0;
  Nanos run_ns = 0;
  Nanos scatter_ns = 0;
  bool failed = false;
  bool first_of_its_size = false;  // on its instance: slow for reasons of its own
  bool out_of_memory = false;
  std::int64_t padded_rows = 0;  // the rows that the model saw
};

}  // namespace paddleinfer
