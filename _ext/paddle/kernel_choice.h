// Which shapes of input an engine's instances run without oneDNN: those that are faster so, and give the same.
//
// oneDNN has a fixed cost a run, so that small batches of a small model are faster without it, and large ones with it.
// What is decided is measured again now and then, for it may have been decided on a busy machine.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "requests/request.h"
#include "requests/thread_safety.h"
#include "requests/time.h"
#include "running/inline_runs.h"

namespace paddleinfer::paddle {

class KernelChoice final : public InlineRuns {
 public:
  // Further shapes run with oneDNN.
  static constexpr std::size_t kShapes = 256;
  // The timed runs of each kind from which a shape is decided, by the shortest, and decided anew: more where the two
  // shortest of a kind differ by a quarter, for then the machine is busy.
  static constexpr int kSamples = 6;
  static constexpr int kMostSamples = 32;
  // With a run of oneDNN that is longer, its fixed cost is no matter.
  static constexpr Nanos kLongRun = 1'000'000;
  // The runs of a decided shape that run both ways again, are timed and compared: the 16th, 32nd, 64th and so on, and
  // from the last on one of so many.
  static constexpr std::uint32_t kFirstCheck = 16;
  static constexpr std::uint32_t kCheckEvery = 1'024;

  enum class Way : std::uint8_t { open, onednn, plain, onednn_only };

  // `shapes`: the signature of all inputs.
  Way way(std::uint64_t shapes) const noexcept {
    if (is_given_up_.load(std::memory_order_acquire)) return Way::onednn_only;
    const Slot* const slot = find(shapes);
    if (slot != nullptr) return slot->way.load(std::memory_order_acquire);
    return used_.load(std::memory_order_relaxed) < kShapes ? Way::open : Way::onednn_only;
  }

  // How long a run of either kind took that was not its predictor's first of these shapes. They gave the same.
  void note(std::uint64_t shapes, Nanos onednn_ns, Nanos plain_ns) noexcept {
    const MutexLock lock(mu_);
    Slot* const slot = find_or_add(shapes);
    if (slot == nullptr) return;
    const Way before = slot->way.load(std::memory_order_relaxed);
    if (before == Way::onednn_only) return;
    slot->onednn.add(onednn_ns);
    slot->plain.add(plain_ns);
    const bool is_sure = slot->onednn.is_sure() && slot->plain.is_sure();
    if (++slot->samples < (is_sure ? kSamples : kMostSamples)) return;
    // Where the two are level there is none to make kernels for, and callers may run it on their own threads.
    const bool is_worth_onednn = slot->onednn.shortest_ns < slot->plain.shortest_ns / 10 * 9;
    slot->samples = 0;
    slot->onednn = slot->plain = {};
    decide(*slot, is_worth_onednn ? Way::onednn : Way::plain);
  }

  // A decided shape runs. Whether it should run both ways.
  bool count_run(std::uint64_t shapes) noexcept {
    Slot* const slot = find(shapes);
    return slot != nullptr && is_checked(slot->runs.fetch_add(1, std::memory_order_relaxed) + 1);
  }

  // A run with oneDNN was too long for its fixed cost to matter, and none without it was made.
  void note_long(std::uint64_t shapes, Nanos onednn_ns) noexcept { note(shapes, onednn_ns, kNever); }

  // These shapes never run without it.
  void keep_onednn(std::uint64_t shapes) noexcept {
    const MutexLock lock(mu_);
    Slot* const slot = find_or_add(shapes);
    if (slot != nullptr) decide(*slot, Way::onednn_only);
  }

  // Everything runs with oneDNN from now on.
  void give_up(std::string reason) noexcept {
    const MutexLock lock(mu_);
    if (is_given_up_.load(std::memory_order_relaxed)) return;
    reason_ = std::move(reason);
    is_given_up_.store(true, std::memory_order_release);
    is_changed_.store(true, std::memory_order_release);
  }

  // oneDNN keeps copies of the weights for each thread: a caller's thread may run a model only without it, and not
  // where both ways are to run.
  bool may_run(const std::vector<TensorView>& inputs) const noexcept override {
    if (inputs.empty() || is_given_up_.load(std::memory_order_acquire)) return false;
    const Slot* const slot = find(signature_of(inputs, /*with_rows=*/true));
    return slot != nullptr && slot->way.load(std::memory_order_acquire) == Way::plain &&
           !is_checked(slot->runs.load(std::memory_order_relaxed) + 1);
  }

  // True once after something has been decided.
  bool take_change() noexcept { return is_changed_.load(std::memory_order_acquire) && is_changed_.exchange(false); }

  // How many shapes run without oneDNN.
  std::size_t plain_shapes() const noexcept {
    if (is_given_up_.load(std::memory_order_acquire)) return 0;
    std::size_t found = 0;
    for (const Slot& slot : slots_) found += slot.way.load(std::memory_order_acquire) == Way::plain ? 1 : 0;
    return found;
  }

  // Why all run with it; empty where nobody gave up.
  std::string reason() const {
    const MutexLock lock(mu_);
    return reason_;
  }

 private:
  struct Shortest {
    Nanos shortest_ns = kNever;
    Nanos second_ns = kNever;

    void add(Nanos ns) noexcept {
      second_ns = std::min(second_ns, std::max(shortest_ns, ns));
      shortest_ns = std::min(shortest_ns, ns);
    }
    bool is_sure() const noexcept { return second_ns - shortest_ns <= shortest_ns / 4; }
  };

  struct Slot {
    std::atomic<std::uint64_t> shapes{0};  // 0: free
    std::atomic<Way> way{Way::open};
    std::atomic<std::uint32_t> runs{0};  // since it was decided
    int samples = 0;                     // these three under mu_
    Shortest onednn;
    Shortest plain;
  };

  static constexpr std::size_t kSlots = 2 * kShapes;  // a power of two; half of them stay free

  static constexpr bool is_checked(std::uint32_t runs) noexcept {
    return runs >= kCheckEvery ? runs % kCheckEvery == 0 : runs >= kFirstCheck && (runs & (runs - 1)) == 0;
  }

  const Slot* find(std::uint64_t shapes) const noexcept {
    for (std::size_t place = shapes;; ++place) {
      const Slot& slot = slots_[place % kSlots];
      const std::uint64_t there = slot.shapes.load(std::memory_order_acquire);
      if (there == shapes) return &slot;
      if (there == 0) return nullptr;
    }
  }
  Slot* find(std::uint64_t shapes) noexcept { return const_cast<Slot*>(std::as_const(*this).find(shapes)); }

  Slot* find_or_add(std::uint64_t shapes) noexcept REQUIRES(mu_) {
    std::size_t place = shapes;
    for (;; ++place) {
      const std::uint64_t there = slots_[place % kSlots].shapes.load(std::memory_order_relaxed);
      if (there == shapes) return &slots_[place % kSlots];
      if (there == 0) break;
    }
    if (used_.load(std::memory_order_relaxed) == kShapes) return nullptr;
    used_.fetch_add(1, std::memory_order_relaxed);
    slots_[place % kSlots].shapes.store(shapes, std::memory_order_release);
    return &slots_[place % kSlots];
  }

  void decide(Slot& slot, Way way) noexcept REQUIRES(mu_) {
    if (slot.way.exchange(way, std::memory_order_acq_rel) == way) return;
    slot.runs.store(0, std::memory_order_relaxed);
    is_changed_.store(true, std::memory_order_release);
  }

  std::array<Slot, kSlots> slots_;
  std::atomic<std::size_t> used_{0};
  std::atomic<bool> is_given_up_{false};
  std::atomic<bool> is_changed_{false};
  mutable Mutex mu_;
  std::string reason_ GUARDED_BY(mu_);
};

}  // namespace paddleinfer::paddle
