// How many rows a batch should hold: the size at which rows per second peak, found on the way.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "requests/time.h"

namespace paddleinfer {

// Nobody knows a model's best batch beforehand. So sizes double while rows per second rise. Then the next size up and
// the next one down are tried in turn, in a few runs one after the other, soon at first and ever more rarely.
//
// Run times are noisy, and noise mostly adds: another process has the processor, a thread wakes late, memory is laid
// out anew because the run before had another size. So
// - while no trial has spoken against a size, one run of it that is quicker a row is enough to go up to it;
// - a trial compares the usual runs of both sizes, at one time: what ran long ago, when the machine may have been
//   quicker or slower for every size, says nothing;
// - trials of the same two sizes are averaged, and believed the less the more run times vary and the fewer trials there
//   were; in doubt the larger size is taken, for a small one might be a trap;
// - one that contradicts the average is soon followed by another;
// - one that runs of no account have drawn out is put off until the other size has run again.
class BestSize {
 public:
  static constexpr std::size_t kBins = 24;
  static constexpr std::int64_t kFewestRunsBetweenTrials = 8;
  static constexpr std::int64_t kMostRunsBetweenTrials = 256;

  // The most rows of a bin, and the size that is tried for it: each is twice the one before.
  static constexpr std::int64_t rows_of(std::size_t bin) noexcept { return std::int64_t{1} << bin; }

  // By rows: 1, 2, 3 to 4, 5 to 8, ...
  static std::size_t bin_of(std::int64_t rows) noexcept {
    std::size_t bin = 0;
    while (bin < kBins - 1 && rows_of(bin) < rows) ++bin;
    return bin;
  }

  // `first`: of these rows on its instance, so that kernels were made, or else of no account; `changed`: the run before
  // there had other rows.
  void note(std::int64_t rows, Nanos ns, bool first, bool changed) noexcept {
    const std::size_t at = bin_of(rows);
    if (first && bins_[at].count > 0) {
      if (tries() && at == tried()) ++unusual_in_trial_;
      return;
    }
    bins_[at].push({std::max(1.0, double(ns)) / double(rows), double(rows)});
    ++runs_;
    if (!known_) {
      known_ = true;
      best_ = at;
      return;
    }
    if (at > best_ && !spoken_against(at) &&
        bins_[at].back(0).row_ns * kWorthwhile < bins_[best_].quickest(kKept / 2)) {
      return go_to(at);
    }
    if (!tries()) return;
    if (at == tried() && !first && unusual_in_trial_ >= kMostUnusual) {
      begin_after(kFewestRunsBetweenTrials);
    } else if (at == tried() && !first) {
      note_trial(rows, changed);
    } else if (runs_ >= due() + kPatience) {
      next_trial(runs_between_trials_);  // nobody brings so many rows
    }
  }

  bool known() const noexcept { return known_; }
  std::size_t best() const noexcept { return best_; }

  // Rows that one batch of several requests should hold at most: the best size, or the one that is to be tried.
  std::int64_t rows() const noexcept {
    if (!known_) return 1;
    return rows_of(tries() ? tried() : best_);
  }

  // The size past which is only loss. Unlimited while no loss has been seen.
  std::int64_t peak_rows() const noexcept {
    return pairs_[best_].trials > 0 && !pairs_[best_].rises(bins_[best_].spread())
               ? rows()
               : std::numeric_limits<std::int64_t>::max();
  }

 private:
  static constexpr std::size_t kKept = 8;
  static constexpr double kWorthwhile = 1.02;   // a larger batch must bring this much
  static constexpr double kTellingRows = 1.25;  // of the best
  static constexpr int kTelling = 4;            // what such a run, not hindered by a change, says; another says 1
  static constexpr int kEnough = 5 * kTelling;  // for a trial
  static constexpr int kMostUnusual = 4;        // in a trial: what the other size took before is out of date then
  static constexpr std::int64_t kFewestRunsBeforeSmaller = 64;  // no trap: it can wait
  static constexpr std::int64_t kPatience = 32;                 // runs
  static constexpr double kDoubt = 0.4;                         // of the spread, where there was one trial
  static constexpr double kMoreDoubt = 1.5;                     // that a smaller size is better
  static constexpr double kMostGain = 0.7;                      // of one trial
  static constexpr int kTrialsToRemember = 8;

  struct Timed {
    double row_ns = 0;
    double rows = 0;
  };

  // Its last runs, a ring.
  struct Bin {
    std::array<Timed, kKept> last{};
    std::size_t count = 0;  // ever pushed

    void push(const Timed& timed) noexcept { last[count++ % kKept] = timed; }
    // 0 is the newest.
    const Timed& back(std::size_t place) const noexcept { return last[(count - 1 - place) % kKept]; }
    // Of the newest ones.
    double quickest(std::size_t among) const noexcept {
      double least = back(0).row_ns;
      for (std::size_t place = 1; place < std::min({among, kKept, count}); ++place) {
        least = std::min(least, back(place).row_ns);
      }
      return least;
    }
    // How much its runs vary: how far the usual one lies above the quickest.
    double spread() const noexcept { return std::log(usual(kKept) / quickest(kKept)); }
    // The median of the newest ones, the lower where there are two.
    double usual(std::size_t among) const noexcept {
      among = std::min({among, kKept, count});
      std::array<double, kKept> times{};
      for (std::size_t place = 0; place < among; ++place) times[place] = back(place).row_ns;
      const auto middle = times.begin() + std::ptrdiff_t((among - 1) / 2);
      std::nth_element(times.begin(), middle, times.begin() + std::ptrdiff_t(among));
      return *middle;
    }
  };

  // A size and the next one up: the logarithm of what the larger gains in rows per second, on average over trials.
  struct Pair {
    double sum = 0;
    double trials = 0;

    double gain() const noexcept { return trials > 0 ? sum / trials : 0; }
    // `spread`: how much run times vary.
    double doubt(double spread) const noexcept { return kDoubt * spread / std::sqrt(std::max(1.0, trials)); }
    bool rises(double spread) const noexcept { return gain() > std::log(kWorthwhile) - doubt(spread); }
    bool falls(double spread) const noexcept { return gain() < std::log(kWorthwhile) / 2 - kMoreDoubt * doubt(spread); }
    void add(double gain) noexcept {
      if (trials >= kTrialsToRemember) {
        sum *= 1 - 1 / trials;
        trials -= 1;
      }
      sum += std::clamp(gain, -kMostGain, kMostGain);
      trials += 1;
    }
  };

  // After how many runs the next trial is due.
  std::int64_t due() const noexcept {
    return tried() < best_ ? std::max(runs_between_trials_, kFewestRunsBeforeSmaller) : runs_between_trials_;
  }
  bool tries() const noexcept { return runs_ >= due(); }
  std::size_t tried() const noexcept {
    if (best_ == 0 || upwards_) return std::min(best_ + 1, kBins - 1);
    return best_ - 1;
  }

  bool spoken_against(std::size_t larger) const noexcept { return larger == best_ + 1 && pairs_[best_].trials > 0; }

  void go_to(std::size_t size) noexcept {
    upwards_ = size > best_;
    best_ = size;
    // Upwards it goes on at once where nothing is known.
    begin_after(upwards_ && pairs_[best_].trials == 0 ? 0 : kFewestRunsBetweenTrials);
  }

  void note_trial(std::int64_t rows, bool changed) noexcept {
    const Bin& best = bins_[best_];
    const bool telling = !changed && (tried() < best_ || double(rows) >= kTellingRows * best.back(0).rows);
    said_ += telling ? kTelling : 1;
    telling_ += telling ? 1 : 0;
    ++runs_in_trial_;
    if (said_ < kEnough) return;
    const bool up = tried() > best_;
    Pair& pair = pairs_[up ? best_ : best_ - 1];
    const double others = best.usual(kKept);
    // Those that a change has hindered come first.
    const double these = bins_[tried()].usual(telling_ > 0 ? telling_ : runs_in_trial_);
    const double gain = std::log(up ? others / these : these / others);
    const double before = pair.gain();
    pair.add(gain);
    if (up ? pair.rises(best.spread()) : pair.falls(best.spread())) return go_to(tried());
    const bool contradicts = up ? gain > 0 && before <= 0 : gain < 0 && before >= 0;
    next_trial(contradicts ? kFewestRunsBetweenTrials : 2 * runs_between_trials_);
  }

  void next_trial(std::int64_t after) noexcept {
    upwards_ = !upwards_;
    begin_after(std::clamp(after, kFewestRunsBetweenTrials, kMostRunsBetweenTrials));
  }

  void begin_after(std::int64_t runs) noexcept {
    runs_between_trials_ = runs;
    runs_ = 0;
    said_ = 0;
    runs_in_trial_ = telling_ = 0;
    unusual_in_trial_ = 0;
  }

  std::array<Bin, kBins> bins_{};
  std::array<Pair, kBins> pairs_{};  // by the smaller
  bool known_ = false;
  std::size_t best_ = 0;
  bool upwards_ = true;            // what is tried next
  int said_ = 0;                   // in this trial
  std::size_t runs_in_trial_ = 0;  // of the size that is tried
  std::size_t telling_ = 0;        // of those
  int unusual_in_trial_ = 0;
  std::int64_t runs_ = 0;  // since the last trial
  std::int64_t runs_between_trials_ = 0;
};

}  // namespace paddleinfer
