// Measures how long a result takes besides its run: copies, the wake-up, and the wait for the GIL.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>

#include "requests/request.h"
#include "requests/time.h"

namespace paddleinfer {

// When the caller would have had its result if all but the wait and the run took no time. kNever where one run of its
// own was not all of it.
inline Nanos ideal_delivery_time(const Request& request) noexcept {
  if (request.outcome != Outcome::result || request.partial_result) return kNever;
  if (request.explanation.reason >= DispatchReason::cached) return kNever;
  return request.arrival + request.explanation.queue_ns + request.explanation.run_ns;
}

// A moving mean and mean deviation, as for TCP's timer (RFC 6298). Written by one thread at a time (who holds the GIL),
// read by anybody.
class DeliveryLatency {
 public:
  // A pause of the whole process is nobody's to plan for: a time counts as at most so many bounds and this much.
  static constexpr double kMostBounds = 4;
  static constexpr double kMostNs = 100'000;

  void note(Nanos ns) noexcept {
    const double mean = mean_ns_.load(std::memory_order_relaxed);
    const double deviation = deviation_ns_.load(std::memory_order_relaxed);
    const double taken = std::clamp(double(ns), 0.0, kMostBounds * bound_ns() + kMostNs);
    deviation_ns_.store(deviation + (std::abs(taken - mean) - deviation) * kWeight, std::memory_order_relaxed);
    mean_ns_.store(mean + (taken - mean) * kWeight, std::memory_order_relaxed);
  }

  // What 49 of 50 stay within, if such times are distributed exponentially: their mean deviation is 2/e of the mean.
  double bound_ns() const noexcept {
    return mean_ns_.load(std::memory_order_relaxed) + kDeviations * deviation_ns_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr double kWeight = 1.0 / 16;
  static constexpr double kDeviations = 4;

  std::atomic<double> mean_ns_{0};
  std::atomic<double> deviation_ns_{0};
};

}  // namespace paddleinfer
