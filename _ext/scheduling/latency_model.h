// How long a batch takes, by its rows, learned from what ran; for one bucket of shapes.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "requests/time.h"
#include "scheduling/best_size.h"

namespace paddleinfer {

// Runs are gathered by size in the bins of BestSize, each a moving mean of rows and of time. From the
// bins follow the time of any size and the line a + b * rows through them. BestSize finds the size to go up to.
//
// What slows one size mostly slows all: a neighbour on the machine, a model that has changed. So one factor for all
// sizes, the slowness, follows every run, and the bins hold times without it; else a size that does not run at the
// moment would stay slow for ever. A run moves the slowness and its bin by the same factor: did it not, then while
// one size runs for long the two would drift apart, their product right, and all other sizes wrong by more and more.
// The 95th percentile, too, is of what runs took over what was expected, whatever their size.
class LatencyModel {
 public:
  struct Line {
    double fixed_ns = 0;    // a: what a run costs, however few its rows
    double per_row_ns = 0;  // b
  };

  // `first` is the first run of these very rows on its instance: kernels are made and memory is fetched, so
  // it counts only while nothing better is known. `changed`: the run before on its instance had other rows.
  void note(std::int64_t rows, Nanos run_ns, bool first, bool changed = false) noexcept {
    if (rows < 1) return;
    best_.note(rows, run_ns, first, changed);
    Bin& bin = bins_[BestSize::bin_of(rows)];
    const double taken_ns = std::max(1.0, double(run_ns));
    if (first && bin.runs > 0) return;
    double factor = 1;
    if (!first && bin.runs > 0 && !bin.only_first) {
      const double ratio = taken_ns / predict_ns(rows);
      keep_ratio(ratio);
      factor = 1 + (std::clamp(ratio, 0.5, 2.0) - 1) * kWeight;
      slowness_ *= factor;
    }
    knows_usual_ = knows_usual_ || !first;
    const double ns = taken_ns / slowness_;
    if (double(bin.runs) * kWeight >= 1) {
      ++bin.runs;
      const double more_rows = (double(rows) - bin.rows) * kWeight;
      // Along one line, up and down alike: a size that varies moves the point, and not what is said of others.
      const double more_ns = more_rows * (known_bins_ == 1 ? bin.ns / bin.rows : line_.per_row_ns);
      bin.ns = std::max(bin.ns / 2, bin.ns + more_ns) * factor;
      bin.rows += more_rows;
    } else if (bin.runs == 0 || (bin.only_first && !first)) {
      bin.runs = 1;
      bin.rows = double(rows);
      bin.ns = ns;
      bin.only_first = first;
    } else {
      // A single slow run says little: it counts as at most four times what was expected.
      const double scaled = bin.ns * double(rows) / bin.rows;
      const double capped = std::min(ns, 4 * std::max(scaled, bin.ns));
      const double weight = 1.0 / double(++bin.runs);
      bin.rows += (double(rows) - bin.rows) * weight;
      bin.ns += (capped - bin.ns) * weight;
    }
    update();
  }

  // Whether the cost of one more row is known. While only single rows have run it is taken for nothing, or
  // nobody would ever find out.
  bool knows_line() const noexcept { return known_bins_ >= 2 || bins_[0].runs > 0; }
  Line line() const noexcept { return {line_.fixed_ns * slowness_, line_.per_row_ns * slowness_}; }

  bool knows_anything() const noexcept { return known_bins_ > 0; }

  // Whether more than first runs is known, which take far longer than all later ones.
  bool knows_usual() const noexcept { return knows_usual_; }

  // The mean of such a run. 0 when nothing has run.
  double predict_ns(std::int64_t rows) const noexcept {
    return slowness_ * interpolated(rows, [](const Bin& bin) { return bin.ns; });
  }

  // What 19 of 20 such runs stay within, as far as the last ones tell. Rises with rows. 0 when nothing has run.
  double predict_p95_ns(std::int64_t rows) const noexcept { return predict_ns(rows) * p95_ratio_; }

  // What the quickest of the last few runs took over what was expected of it; at most 1.
  double least_ratio() const noexcept { return least_ratio_; }

  // The most rows, at most `limit`, whose run stays within so long; 0 when not even one row's does.
  std::int64_t rows_within(double ns, std::int64_t limit) const noexcept {
    if (predict_p95_ns(limit) <= ns) return limit;
    std::int64_t fits = 0;
    std::int64_t beyond = limit;
    while (beyond - fits > 1) {
      const std::int64_t middle = fits + (beyond - fits) / 2;
      (predict_p95_ns(middle) <= ns ? fits : beyond) = middle;
    }
    return fits;
  }

  // The size at which rows per second have been seen to peak; past it is only loss. Unlimited while no loss
  // has been seen.
  std::int64_t peak_rows() const noexcept { return best_.peak_rows(); }

  // Rows that one batch of several requests should hold at most.
  std::int64_t best_rows() const noexcept { return best_.rows(); }

  // Nanoseconds a row at the best size. 0 when nothing has run.
  double best_row_ns() const noexcept {
    const Bin& best = bins_[best_.best()];
    return best.runs == 0 ? 0 : slowness_ * best.ns / best.rows;
  }

 private:
  static constexpr std::size_t kBins = BestSize::kBins;
  static constexpr std::size_t kRecent = 64;
  static constexpr std::size_t kLast = 8;
  static constexpr double kMostTail = 2;  // rarer and slower runs than that nobody can plan for
  static constexpr double kWeight = 1.0 / 8;

  struct Bin {
    std::int64_t runs = 0;
    double rows = 0;
    double ns = 0;
    bool only_first = false;
  };

  // Of what ran, over what was expected, whatever the size: so this never goes stale.
  void keep_ratio(double ratio) noexcept {
    ratios_[kept_++ % kRecent] = ratio;
    const std::size_t count = std::min(kept_, kRecent);
    std::array<double, kRecent> sorted = ratios_;
    const auto rank = std::size_t(std::ceil(0.95 * double(count))) - 1;
    std::nth_element(sorted.begin(), sorted.begin() + std::ptrdiff_t(rank), sorted.begin() + std::ptrdiff_t(count));
    p95_ratio_ = std::clamp(sorted[rank], 1.0, kMostTail);
    last_[next_++ % kLast] = ratio;
    least_ratio_ = *std::min_element(last_.begin(), last_.end());
  }

  // Between the bins' points, never falling as rows rise.
  template <typename Time>
  double interpolated(std::int64_t rows, Time&& time) const noexcept {
    const Bin* below = nullptr;
    double below_ns = 0;
    for (const Bin& bin : bins_) {
      if (bin.runs == 0) continue;
      const double ns = std::max(below_ns, time(bin));
      if (bin.rows > double(rows)) {
        if (below == nullptr) return ns;
        return below_ns + (ns - below_ns) * (double(rows) - below->rows) / (bin.rows - below->rows);
      }
      below = &bin;
      below_ns = ns;
    }
    if (below == nullptr) return 0;
    if (known_bins_ == 1) return below_ns * double(rows) / below->rows;
    return below_ns + line_.per_row_ns * (double(rows) - below->rows);
  }

  void update() noexcept {
    known_bins_ = 0;
    double rows = 0, ns = 0, rows_rows = 0, rows_ns = 0;
    for (const Bin& bin : bins_) {
      if (bin.runs == 0) continue;
      ++known_bins_;
      rows += bin.rows;
      ns += bin.ns;
      rows_rows += bin.rows * bin.rows;
      rows_ns += bin.rows * bin.ns;
    }
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
  BestSize best_;
  Line line_;
  double slowness_ = 1;
  double p95_ratio_ = 1;
  bool knows_usual_ = false;
  std::array<double, kLast> last_{1, 1, 1, 1, 1, 1, 1, 1};  // ratios, a ring
  std::size_t next_ = 0;
  double least_ratio_ = 1;
  std::array<double, kRecent> ratios_{};  // a ring
  std::size_t kept_ = 0;
};

}  // namespace paddleinfer
