// How long a batch takes, by its rows, learned from what ran; for one bucket of shapes.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "parker.h"

namespace paddleinfer {

// Runs are gathered by size in bins (1, 2, 3 to 4, 5 to 8, ...), each a moving mean of rows and of time. From
// the bins follow the time of any size, the line a + b * rows through them, and the size to go up to.
//
// Nobody knows a model's best batch beforehand, so it is found on the way: sizes double while rows per second
// rise; past the peak the next size up is tried again now and then, in case noise had hidden it.
class LatencyModel {
 public:
  struct Line {
    double fixed_ns = 0;    // a: what a run costs, however few its rows
    double per_row_ns = 0;  // b
  };

  // `first` is the first run of these very rows on its instance: kernels are made and memory is fetched, so
  // it counts only while nothing better is known.
  void note(std::int64_t rows, Nanos run_ns, bool first) noexcept {
    if (rows < 1) return;
    Bin& bin = bins_[bin_of(rows)];
    if (first && bin.runs > 0) return;
    const double ns = std::max(1.0, double(run_ns));
    if (bin.runs == 0 || (bin.only_first && !first)) {
      bin = {1, double(rows), ns, first};
    } else {
      // A single slow run says little: it counts as at most four times what was expected.
      const double scaled = bin.ns * double(rows) / bin.rows;
      const double capped = std::min(ns, 4 * std::max(scaled, bin.ns));
      const double weight = std::max(1.0 / double(++bin.runs), kWeight);
      bin.rows += (double(rows) - bin.rows) * weight;
      bin.ns += (capped - bin.ns) * weight;
    }
    ++runs_since_look_;
    update(bin_of(rows));
  }

  // Whether the cost of one more row is known. While only single rows have run it is taken for nothing, or
  // nobody would ever find out.
  bool knows_line() const noexcept { return known_bins_ >= 2 || bins_[0].runs > 0; }
  Line line() const noexcept { return line_; }

  // 0 when nothing has run.
  double predict_ns(std::int64_t rows) const noexcept {
    const Bin* below = nullptr;
    const Bin* above = nullptr;
    for (const Bin& bin : bins_) {
      if (bin.runs == 0) continue;
      if (bin.rows <= double(rows)) {
        below = &bin;
      } else {
        above = &bin;
        break;
      }
    }
    if (below != nullptr && above != nullptr) {
      const double share = (double(rows) - below->rows) / (above->rows - below->rows);
      return below->ns + share * std::max(0.0, above->ns - below->ns);
    }
    if (above != nullptr) return above->ns;
    if (below == nullptr) return 0;
    if (known_bins_ == 1) return below->ns * double(rows) / below->rows;
    return below->ns + line_.per_row_ns * (double(rows) - below->rows);
  }

  // The size at which rows per second have been seen to peak; past it is only loss. Unlimited while no loss
  // has been seen.
  std::int64_t peak_rows() const noexcept {
    const bool seen = known_bins_ >= 2 && best_ < highest_ && !bins_[highest_].only_first;
    return seen ? best_rows() : std::numeric_limits<std::int64_t>::max();
  }

  // Rows that one batch of several requests should hold at most.
  std::int64_t best_rows() const noexcept {
    if (known_bins_ == 0) return 1;
    if (bins_[highest_].only_first) return std::int64_t{1} << highest_;  // measure it properly
    const bool look_further = best_ == highest_ || runs_since_look_ >= kRunsBetweenLooks;
    return std::int64_t{1} << std::min(best_ + (look_further ? 1 : 0), kBins - 1);
  }

  // Nanoseconds a row at the best size. 0 when nothing has run.
  double best_row_ns() const noexcept { return known_bins_ == 0 ? 0 : bins_[best_].ns / bins_[best_].rows; }

 private:
  static constexpr std::size_t kBins = 24;
  static constexpr double kWeight = 1.0 / 8;
  static constexpr double kWorthwhile = 1.02;  // a larger batch must bring this much
  static constexpr std::int64_t kRunsBetweenLooks = 64;

  struct Bin {
    std::int64_t runs = 0;
    double rows = 0;
    double ns = 0;
    bool only_first = false;

    double rate() const noexcept { return rows / ns; }
  };

  static std::size_t bin_of(std::int64_t rows) noexcept {
    std::size_t bin = 0;
    while (bin < kBins - 1 && (std::int64_t{1} << bin) < rows) ++bin;
    return bin;
  }

  void update(std::size_t changed) noexcept {
    known_bins_ = 0;
    double rows = 0, ns = 0, rows_rows = 0, rows_ns = 0;
    for (std::size_t place = 0; place < kBins; ++place) {
      const Bin& bin = bins_[place];
      if (bin.runs == 0) continue;
      if (known_bins_++ == 0 || bin.rate() > kWorthwhile * bins_[best_].rate()) best_ = place;
      highest_ = place;
      rows += bin.rows;
      ns += bin.ns;
      rows_rows += bin.rows * bin.rows;
      rows_ns += bin.rows * bin.ns;
    }
    if (changed > best_) runs_since_look_ = 0;
    if (known_bins_ < 2) {
      line_ = {ns, 0};
      return;
    }
    const double count = double(known_bins_);
    const double slope = (count * rows_ns - rows * ns) / (count * rows_rows - rows * rows);
    line_.per_row_ns = std::max(0.0, slope);
    line_.fixed_ns = std::max(0.0, (ns - line_.per_row_ns * rows) / count);
  }

  std::array<Bin, kBins> bins_{};
  std::size_t known_bins_ = 0;
  std::size_t best_ = 0;
  std::size_t highest_ = 0;
  std::int64_t runs_since_look_ = 0;
  Line line_;
};

}  // namespace paddleinfer
