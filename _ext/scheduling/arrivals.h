// Who calls, and how soon the next call may come; for one bucket of shapes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "requests/time.h"

namespace paddleinfer {

// Callers mostly wait for one answer before they ask again. So the most requests that were recently outstanding at
// once are its callers; while fewer are outstanding the others may come back any moment, and once all are, nobody will.
// Gaps are measured only while somebody may come, and apart for the first call after an end (who got an answer has to
// think) and for those that follow it.
class Arrivals {
 public:
  // Fewer measured gaps than this say nothing.
  static constexpr std::int64_t kGapsToKnow = 8;

  // What comes at one instant counts as one arrival.
  void arrived(std::int64_t rows, Nanos now) noexcept {
    if (now == last_arrival_) {
      rows_at_once_ += double(rows) * (gaps_ == 0 ? 1 : kWeight);
    } else {
      if (requests_ < callers()) note_gap(now - may_come_since_);
      rows_at_once_ += (double(rows) - rows_at_once_) * (gaps_ == 0 ? 1 : kWeight);
      last_arrival_ = now;
    }
    after_an_end_ = false;
    may_come_since_ = now;
    ++requests_;
    rows_ += rows;
    peak_.raise(requests_, rows_);
    if (++arrivals_in_window_ > 4 * peak_.requests + 16) {
      arrivals_in_window_ = 0;
      former_peak_ = peak_;
      peak_ = {requests_, rows_};
    }
  }

  // Rows that were run or given up; `requests` of them are over with that.
  void departed(std::int64_t requests, std::int64_t rows, Nanos now) noexcept {
    if (requests > 0) {
      // Nobody came until now: a gap that only began must not look short.
      if (requests_ < callers()) (after_an_end_ ? first_ : next_).waited_ns += double(now - may_come_since_);
      after_an_end_ = true;
      may_come_since_ = now;
    }
    requests_ -= requests;
    rows_ -= rows;
  }

  // Rows that have left are to run again.
  void again(std::int64_t rows) noexcept { rows_ += rows; }

  // A batch was held back for others that did not come.
  void nobody_came() noexcept {
    for (Peak* peak : {&peak_, &former_peak_}) {
      peak->requests = std::min(peak->requests, requests_ + (peak->requests - requests_) / 2);
      peak->rows = std::min(peak->rows, rows_ + (peak->rows - rows_) / 2);
    }
  }

  bool knows_gap() const noexcept { return gaps_ >= kGapsToKnow; }
  // To the next arrival, on average.
  double gap_ns() const noexcept { return expected().mean_ns; }
  // After so long without one, there will hardly be one.
  double patience_ns() const noexcept { return 2 * expected().mean_ns + 4 * expected().deviation_ns; }
  // Rows that one arrival brings.
  double rows_at_once() const noexcept { return std::max(1.0, rows_at_once_); }
  std::int64_t outstanding() const noexcept { return requests_; }
  std::int64_t callers() const noexcept { return std::max(peak_.requests, former_peak_.requests); }
  // The most rows that were recently outstanding at once.
  std::int64_t peak_rows() const noexcept { return std::max({peak_.rows, former_peak_.rows, rows_}); }

 private:
  static constexpr double kWeight = 1.0 / 8;
  static constexpr double kForgetAfterGaps = 10;

  struct Peak {
    std::int64_t requests = 0;
    std::int64_t rows = 0;
    void raise(std::int64_t now_requests, std::int64_t now_rows) noexcept {
      requests = std::max(requests, now_requests);
      rows = std::max(rows, now_rows);
    }
  };

  // Moving means.
  struct Gap {
    std::int64_t seen = 0;
    double mean_ns = 0;
    double deviation_ns = 0;
    double waited_ns = 0;  // in vain, since the last one

    void note(double ns) noexcept {
      ns += std::exchange(waited_ns, 0);
      const double weight = std::max(1.0 / double(++seen), kWeight);
      deviation_ns += ((seen == 1 ? 0 : std::abs(ns - mean_ns)) - deviation_ns) * weight;
      mean_ns += (ns - mean_ns) * weight;
    }
  };

  const Gap& expected() const noexcept {
    if (after_an_end_) return first_.seen > 0 ? first_ : next_;
    return next_.seen > 0 ? next_ : first_;
  }

  void note_gap(Nanos gap) noexcept {
    Gap& kind = after_an_end_ ? first_ : next_;
    // After so long a silence, what was measured before it says nothing about now.
    if (requests_ == 0 && kind.seen >= kGapsToKnow && double(gap) > kForgetAfterGaps * kind.mean_ns) {
      first_ = next_ = {};
      gaps_ = 0;
    }
    kind.note(double(gap));
    ++gaps_;
  }

  std::int64_t requests_ = 0;  // admitted, not over
  std::int64_t rows_ = 0;
  Peak peak_;  // of this window and the one before
  Peak former_peak_;
  std::int64_t arrivals_in_window_ = 0;
  bool after_an_end_ = false;
  Nanos may_come_since_ = 0;
  Nanos last_arrival_ = kNever;
  std::int64_t gaps_ = 0;
  Gap first_;  // after an end
  Gap next_;   // after another arrival
  double rows_at_once_ = 1;
};

}  // namespace paddleinfer
