// One simulated server: a scheduler, and the runs of its instances.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "requests/request.h"
#include "scheduling/scheduler.h"
#include "simulation/router.h"

namespace paddleinfer {

class Replica {
 public:
  enum class State : std::uint8_t { starting, open, draining, gone };

  struct Run {
    Batch batch;
    std::int64_t rows = 0;
    Nanos run_ns = 0;
    Nanos end = 0;
  };

  Replica(const SchedulerOptions& options, std::int64_t instances, double run_factor, Nanos now)
      : scheduler(options), run_factor(run_factor), made_at(now), runs_(std::size_t(instances)) {
    scheduler.set_instances(instances);
    for (std::size_t place = runs_.size(); place-- > 0;) idle_.push_back(place);
  }

  Scheduler scheduler;
  const double run_factor;  // of the times that runs take elsewhere
  State state = State::starting;
  Nanos made_at;
  Nanos gone_at = kNever;
  Nanos wake_at = kNever;       // when its scheduler wants to be asked again
  std::int64_t on_the_way = 0;  // requests that are sent and have not come
  std::int64_t rows_under_way = 0;
  std::int64_t under_way = 0;  // requests
  bool is_touched = false;     // something has happened to it at this instant

  bool has_idle() const noexcept { return !idle_.empty(); }
  bool is_empty() const noexcept { return under_way == 0 && on_the_way == 0; }

  std::size_t start(Run run) {
    const std::size_t place = idle_.back();
    idle_.pop_back();
    runs_[place] = std::move(run);
    return place;
  }
  Run end(std::size_t place) {
    idle_.push_back(place);
    return std::exchange(runs_[place], {});
  }

  // Of the runs under way, what is still to come.
  Nanos still_to_run(Nanos now) const noexcept {
    Nanos total = 0;
    for (const Run& run : runs_) total += run.batch.empty() ? 0 : run.end - now;
    return total;
  }

  Figures figures(Nanos now) const noexcept {
    return {under_way, rows_under_way, now + Nanos(scheduler.predicted_delay_ns(now))};
  }

 private:
  std::vector<Run> runs_;          // by instance
  std::vector<std::size_t> idle_;  // instances
};

}  // namespace paddleinfer
