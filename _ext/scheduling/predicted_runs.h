// Keeps the instants at which the running batches are predicted to end.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "requests/time.h"
#include "scheduling/scheduler_types.h"

namespace paddleinfer {

class PredictedRuns {
 public:
  explicit PredictedRuns(const EngineStatus& status) : status_(status) {}

  // So many may run at once.
  void make_room_for(std::int64_t instances) {
    if (std::size_t(instances) > ends_.capacity()) ends_.reserve(std::size_t(instances));
  }

  // When a batch is likely to start that has so many full ones ahead of it.
  double start_after(std::int64_t batches, double full_ns, Nanos now) const noexcept {
    const std::int64_t instances = std::max<std::int64_t>(1, status_.instances);
    const std::int64_t place = batches % instances - status_.idle();  // of the instance that it waits for
    const bool runs = place >= 0 && place < std::int64_t(ends_.size());
    const Nanos free = runs ? std::max(now, ends_[std::size_t(place)]) : now;
    return double(free) + double(batches / instances) * full_ns;
  }

  // Whether an instance is likely to be free at once, and is not long overdue.
  bool frees_one_soon(Nanos now) const noexcept {
    return std::any_of(ends_.begin(), ends_.end(),
                       [now](Nanos end) { return end >= now - kOverdue && end <= now + kShortRun; });
  }

  void add(Nanos end) { ends_.insert(std::upper_bound(ends_.begin(), ends_.end(), end), end); }

  // A run is over, which the status says already: it is taken for the one that was to be over first.
  void remove_first() noexcept {
    if (!ends_.empty() && std::int64_t(ends_.size()) > status_.running) ends_.erase(ends_.begin());
  }

 private:
  static constexpr Nanos kOverdue = 200'000;

  const EngineStatus& status_;
  std::vector<Nanos> ends_;  // rising
};

}  // namespace paddleinfer
