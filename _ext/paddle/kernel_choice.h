// Finds out for each size of input which of two predictors of a model is faster: Paddle with oneDNN, or without.
//
// oneDNN has a fixed cost a run, so that small batches of a small model are faster without it, and large ones with it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "requests/thread_safety.h"
#include "requests/time.h"
#include "running/backend.h"
#include "running/inline_runs.h"

namespace paddleinfer::paddle {

// What the instances of one engine know of it. Sizes of the first input that have the same power of two are one class.
class KernelChoice final : public InlineRuns {
 public:
  static constexpr std::size_t kClasses = 65;
  // The timed runs of each way from which a class is decided, by the shortest.
  static constexpr int kSamples = 6;
  // With a run of oneDNN that is longer, its fixed cost is no matter.
  static constexpr Nanos kLongRun = 1'000'000;
  // After so many failures and no success a class is not tried without oneDNN again.
  static constexpr int kFailures = 2;

  static std::size_t class_of(std::size_t bytes) noexcept {
    std::size_t bits = 0;
    for (; bytes > 0; bytes >>= 1) ++bits;
    return bits;
  }

  bool is_decided(std::size_t place) const noexcept { return way(place) != Way::open; }
  bool is_plain(std::size_t place) const noexcept { return way(place) == Way::plain; }

  // Whether the next run of an open class is to be one without oneDNN.
  bool tries_plain(std::size_t place) const {
    const MutexLock lock(mu_);
    const Samples& samples = samples_[place];
    return samples.plain.count < samples.onednn.count;
  }

  // How long a run took that was not its predictor's first of this class.
  void note(std::size_t place, bool plain, Nanos took) {
    const MutexLock lock(mu_);
    if (is_decided(place)) return;
    Samples& samples = samples_[place];
    (plain ? samples.plain : samples.onednn).add(took);
    if (samples.onednn.count > 0 && samples.onednn.shortest > kLongRun) {
      decide(place, Way::onednn);
    } else if (samples.onednn.count >= kSamples && samples.plain.count >= kSamples) {
      decide(place, samples.plain.shortest < samples.onednn.shortest ? Way::plain : Way::onednn);
    }
  }

  // A run without oneDNN has failed, which may be its request's fault, or this way's.
  void note_failure(std::size_t place) {
    const MutexLock lock(mu_);
    Samples& samples = samples_[place];
    if (samples.plain.count == 0 && ++samples.plain_failures == kFailures) decide(place, Way::onednn);
  }

  // Everything runs with oneDNN: there is no other predictor.
  void give_up() noexcept {
    const MutexLock lock(mu_);
    for (std::atomic<Way>& way : ways_) way.store(Way::onednn, std::memory_order_release);
  }

  // oneDNN keeps copies of the weights for each thread: a caller's thread may run a model only without it.
  bool may_run(const std::vector<TensorView>& inputs) const noexcept override {
    return !inputs.empty() && is_plain(class_of(inputs.front().bytes()));
  }

  // True once after classes have been decided.
  bool take_change() noexcept { return is_changed_.load(std::memory_order_acquire) && is_changed_.exchange(false); }

  // The classes that run without oneDNN.
  std::vector<std::size_t> plain_classes() const {
    std::vector<std::size_t> found;
    for (std::size_t place = 0; place < kClasses; ++place) {
      if (is_plain(place)) found.push_back(place);
    }
    return found;
  }

 private:
  enum class Way : std::uint8_t { open, onednn, plain };

  struct Timed {
    int count = 0;
    Nanos shortest = kNever;

    void add(Nanos took) noexcept {
      ++count;
      if (took < shortest) shortest = took;
    }
  };

  struct Samples {
    Timed onednn;
    Timed plain;
    int plain_failures = 0;
  };

  Way way(std::size_t place) const noexcept { return ways_[place].load(std::memory_order_acquire); }
  void decide(std::size_t place, Way way) noexcept {
    ways_[place].store(way, std::memory_order_release);
    is_changed_.store(true, std::memory_order_release);
  }

  std::array<std::atomic<Way>, kClasses> ways_{};
  std::atomic<bool> is_changed_{false};
  mutable Mutex mu_;
  std::array<Samples, kClasses> samples_ GUARDED_BY(mu_);
};

// Runs each batch on the predictor that is faster for its size.
class ChoosingBackend final : public Backend {
 public:
  using Maker = std::function<std::unique_ptr<Backend>()>;
  using Clock = Nanos (*)();

  ChoosingBackend(const Maker& with_onednn, const Maker& without, std::shared_ptr<KernelChoice> choice,
                  Clock clock = monotonic_now)
      : choice_(std::move(choice)), clock_(clock) {
    try {
      plain_ = without();
    } catch (...) {  // the model runs with oneDNN alone
      choice_->give_up();
    }
    onednn_ = with_onednn();  // the last: a load takes the thread's part of oneDNN's cache, and this keeps it
  }

  void* input(std::size_t index, DType dtype, const Shape& shape) override {
    if (index == 0) choose(KernelChoice::class_of(shape.bytes(dtype)));
    return chosen().input(index, dtype, shape);
  }

  void run() override {
    if (!is_timed_) {
      chosen().run();
      return;
    }
    is_timed_ = false;
    const Nanos began = clock_();
    try {
      chosen().run();
    } catch (...) {
      if (is_plain_) choice_->note_failure(place_);
      throw;
    }
    bool& has_run = (is_plain_ ? has_run_plain_ : has_run_onednn_)[place_];
    if (has_run) choice_->note(place_, is_plain_, clock_() - began);
    has_run = true;
  }

  TensorView output(std::size_t index) override { return chosen().output(index); }

 private:
  Backend& chosen() noexcept { return is_plain_ ? *plain_ : *onednn_; }

  void choose(std::size_t place) {
    place_ = place;
    if (plain_ && std::this_thread::get_id() != home_) {
      // A caller's thread, which may run more than the size that it was let in for: a merge is probed, say.
      is_timed_ = false;
      is_plain_ = true;
      return;
    }
    is_timed_ = !choice_->is_decided(place);
    is_plain_ = plain_ && (is_timed_ ? choice_->tries_plain(place) : choice_->is_plain(place));
  }

  const std::shared_ptr<KernelChoice> choice_;
  const Clock clock_;
  const std::thread::id home_ = std::this_thread::get_id();  // oneDNN's kernels are tied to it
  std::unique_ptr<Backend> onednn_;
  std::unique_ptr<Backend> plain_;
  // A predictor's first run of a size makes what later ones use.
  std::array<bool, KernelChoice::kClasses> has_run_onednn_{};
  std::array<bool, KernelChoice::kClasses> has_run_plain_{};
  std::size_t place_ = 0;
  bool is_plain_ = false;
  bool is_timed_ = false;
};

}  // namespace paddleinfer::paddle
