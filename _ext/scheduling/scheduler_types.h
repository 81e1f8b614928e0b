// What the scheduler is told, and what it decides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "requests/request.h"

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
  fixed_delay,  // a batch goes when it is full, or when its first request has waited max_delay
};
inline constexpr std::size_t kPolicies = std::size_t(Policy::fixed_delay) + 1;

constexpr const char* to_string(Policy value) noexcept {
  switch (value) {
    case Policy::adaptive:
      return "adaptive";
    case Policy::eager:
      return "eager";
    case Policy::fixed_delay:
      return "fixed_delay";
  }
  return "";
}

struct SchedulerOptions {
  Policy policy = Policy::adaptive;
  std::int64_t max_batch_size = 32;
  std::int64_t max_queue_rows = 4096;
  std::size_t max_queue_bytes = std::size_t{256} << 20;
  Nanos max_delay = kNever;  // longest a request waits to be batched with others; 0 never holds
  Merging merging = Merging::yes;
  std::vector<std::int64_t> preferred_sizes;  // rising; a batch that is held back is full at one of them
  std::int64_t short_run_instances = std::numeric_limits<std::int64_t>::max();  // that short runs keep busy, at most
};

// What the scheduler knows of the engine that it works for.
struct EngineStatus {
  Merging merging = Merging::yes;
  std::int64_t instances = 1;
  std::int64_t running = 0;  // of them; each runs a batch
  bool closing = false;

  std::int64_t idle() const noexcept { return instances - running; }
};

enum class Admission : std::uint8_t {
  accepted,
  waits_for_room,
  too_many_rows,
  too_many_bytes,
  bytes_over_limit,
  would_be_late,  // by what is predicted, what waits and runs would make it late
  out_of_memory,  // there was none to queue it
  infeasible,     // by what is predicted, no run could be in time, if it were the only one: it is to be shed at once
};
inline constexpr std::size_t kAdmissions = std::size_t(Admission::infeasible) + 1;

constexpr const char* to_string(Admission value) noexcept {
  switch (value) {
    case Admission::accepted:
      return "accepted";
    case Admission::waits_for_room:
      return "waits_for_room";
    case Admission::too_many_rows:
      return "too_many_rows";
    case Admission::too_many_bytes:
      return "too_many_bytes";
    case Admission::bytes_over_limit:
      return "bytes_over_limit";
    case Admission::would_be_late:
      return "would_be_late";
    case Admission::out_of_memory:
      return "out_of_memory";
    case Admission::infeasible:
      return "infeasible";
  }
  return "";
}

struct Decision {
  Batch batch;
  bool probe = false;                 // find out first whether its rows may share a run
  bool verify = false;                // compare one of its requests later on with a run alone
  Nanos sole_caller_run_ns = kNever;  // predicted, if its caller is the only recently active one
  Nanos predicted_ns = 0;             // of the run; 0 where nothing is known
  Nanos delayed_since = kNever;       // when it was first held back
  Nanos delayed_until = kNever;       // and how long an instance was idle for it
  DispatchReason reason = DispatchReason::idle;
  std::vector<RequestPtr> expired;  // their deadline has passed
  std::vector<RequestPtr> shed;     // it could no longer be met
  Nanos wake_at = kNever;
};

// Where short runs have all the cores but one, another instance would only take that from the callers.
constexpr Nanos kShortRun = 300'000;

struct Plan {
  std::int64_t instances = 0;  // that have something to do now
  bool served_soon = false;    // that is one short run, which an instance that runs another will take soon
  Nanos wake_at = kNever;      // when there may be something for one, if nothing happens before
};

// One run of the model.
struct RunRecord {
  std::uint64_t number = 0;  // in the trace; 0: not traced
  std::size_t requests = 0;
  std::int64_t rows = 0;
  Nanos began = 0;
  Nanos gather_ns = 0;
  Nanos run_ns = 0;
  Nanos scatter_ns = 0;
  bool failed = false;
  bool first_of_its_size = false;  // on its instance: slow for reasons of its own
  bool size_changed = false;       // the run before, on its instance, had other rows or shapes
  bool out_of_memory = false;
  std::int64_t padded_rows = 0;  // the rows that the model saw
  bool internal = false;         // it gave no caller a result: it was for a comparison
  Nanos comparison_ns = 0;       // of run_ns, for another run beside it

  // What to expect of the next such run, as far as this one tells.
  Nanos usual_ns() const noexcept { return run_ns - comparison_ns; }
  // Whether it was slow for reasons of its own: two runs that take turns hinder each other.
  bool is_unusual() const noexcept { return first_of_its_size || comparison_ns > 0; }
};

}  // namespace paddleinfer
