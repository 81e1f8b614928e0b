// How many input shapes an instance's part of oneDNN's kernel map may hold, from what emptying it has freed.
//
// Nobody says how large a kernel is. So whenever a part is emptied the bytes that malloc has given out are counted
// before and after: the first time with one shape in it, whose bytes are mostly the model's weights in oneDNN's
// layout and come back with any shape; from then on with several, which tells what each further one adds. An emptying
// takes a few milliseconds, so what other threads allocate meanwhile matters little; a median leaves out the rest.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "paddle/allocated_bytes.h"
#include "requests/thread_safety.h"

namespace paddleinfer::paddle {

// How many parts there are in this process.
inline std::atomic<std::size_t>& onednn_parts() noexcept {
  static std::atomic<std::size_t>* const parts = new std::atomic<std::size_t>(0);
  return *parts;
}

struct OneDnnLimits {
  std::size_t max_shapes = 1;
  std::uint64_t max_bytes = 1;                     // over all parts of the process, each an equal share
  std::uint64_t (*allocated)() = allocated_bytes;  // another one in tests
  bool by_renewal = false;                         // a part is emptied by making its predictor anew
};

// What the instances of one engine have found out; read by whoever asks the engine.
class OneDnnRecord {
 public:
  struct Figures {
    std::uint64_t emptied = 0;      // parts, with a measurement
    std::uint64_t first_bytes = 0;  // freed with one shape in a part, last
    std::uint64_t shape_bytes = 0;  // that each further shape added, last
    std::size_t shape_limit = 0;    // at which a part is emptied, as it follows
    std::uint64_t repeated = 0;     // shapes that ran twice while they were in a part
    std::uint64_t new_ns = 0;       // processor time of their first runs, summed
    std::uint64_t repeat_ns = 0;    // and of their second
  };

  Figures figures() const {
    const MutexLock lock(mu_);
    return figures_;
  }
  void note_emptying(std::uint64_t first_bytes, std::uint64_t shape_bytes, std::size_t shape_limit) {
    const MutexLock lock(mu_);
    ++figures_.emptied;
    figures_.first_bytes = first_bytes;
    figures_.shape_bytes = shape_bytes;
    figures_.shape_limit = shape_limit;
  }
  void note_repetition(std::uint64_t new_ns, std::uint64_t repeat_ns) {
    const MutexLock lock(mu_);
    ++figures_.repeated;
    figures_.new_ns += new_ns;
    figures_.repeat_ns += repeat_ns;
  }

 private:
  mutable Mutex mu_;
  Figures figures_ GUARDED_BY(mu_);
};

// The shapes that one part may hold. Used on the part's thread only.
class OneDnnBudget {
 public:
  explicit OneDnnBudget(const OneDnnLimits& limits) noexcept : limits_(limits) { onednn_parts().fetch_add(1); }
  OneDnnBudget(const OneDnnBudget&) = delete;
  OneDnnBudget& operator=(const OneDnnBudget&) = delete;
  ~OneDnnBudget() { onednn_parts().fetch_sub(1); }

  // One shape, until that one's bytes are known; then a few, until those of a further one are.
  std::size_t shape_limit() const noexcept {
    if (measured_ == 0) return 1;
    if (measured_ == 1) return std::min(limits_.max_shapes, kLearningShapes);
    const std::uint64_t share = limits_.max_bytes / std::max<std::size_t>(1, onednn_parts().load());
    const std::uint64_t fitting = 1 + share / std::max<std::uint64_t>(1, shape_bytes());
    // No faster than it is measured: a wrong figure must not let memory grow without bound.
    const std::uint64_t most = std::min<std::uint64_t>(limits_.max_shapes, 2 * last_shapes_);
    return static_cast<std::size_t>(std::max(least_shapes(), std::min(fitting, most)));
  }

  std::uint64_t allocated() const noexcept { return limits_.allocated(); }
  bool by_renewal() const noexcept { return limits_.by_renewal; }

  // Of the next emptying. Counting all of malloc's free chunks twice is 3 % of a run that has each width anew.
  bool wants_measurement() noexcept {
    constexpr std::size_t kLearning = 8, kOneIn = 8;
    return emptyings_++ < kLearning || emptyings_ % kOneIn == 0;
  }

  // Emptying a part of so many shapes took malloc from `before` to `after`.
  void note_emptying(std::size_t shapes, std::uint64_t before, std::uint64_t after) noexcept {
    const std::uint64_t freed = before > after ? before - after : 0;
    if (shapes == 0) return;
    if (measured_ == 0) {
      first_bytes_ = shapes == 1 ? freed : 0;
    } else if (shapes > 1) {
      recent_[measured_ % recent_.size()] = (freed > first_bytes_ ? freed - first_bytes_ : 0) / (shapes - 1);
      last_shapes_ = std::max(shapes, kLearningShapes);
    } else {
      return;
    }
    ++measured_;
  }

  std::uint64_t first_bytes() const noexcept { return first_bytes_; }

  // That a further shape adds: the median of the last measurements.
  std::uint64_t shape_bytes() const noexcept {
    const std::size_t count = std::min(recent_.size(), measured_ > 0 ? measured_ - 1 : 0);
    if (count == 0) return 0;
    std::array<std::uint64_t, 3> sorted{};
    for (std::size_t back = 0; back < count; ++back) sorted[back] = recent_[(measured_ - 1 - back) % recent_.size()];
    std::sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(count));
    return sorted[count / 2];
  }

 private:
  // Four of a detector's may take 300 MB.
  static constexpr std::size_t kLearningShapes = 4;
  // Alternating between a few shapes stays fast, so a part may hold a few beyond its share: those that the whole bound
  // has room for, and two however large they are. Paddle's own cache holds ten.
  static constexpr std::uint64_t kLeastShapes = 2;
  static constexpr std::uint64_t kMostBeyondShare = 4;

  std::uint64_t least_shapes() const noexcept {
    const std::uint64_t bounded = 1 + limits_.max_bytes / std::max<std::uint64_t>(1, shape_bytes());
    return std::min<std::uint64_t>(limits_.max_shapes, std::clamp(bounded, kLeastShapes, kMostBeyondShare));
  }

  const OneDnnLimits limits_;
  std::size_t measured_ = 0;
  std::size_t emptyings_ = 0;
  std::uint64_t first_bytes_ = 0;
  std::array<std::uint64_t, 3> recent_{};
  std::size_t last_shapes_ = kLearningShapes;
};

}  // namespace paddleinfer::paddle
