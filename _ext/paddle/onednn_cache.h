// oneDNN's kernel cache in Paddle: one map for the whole process, which never forgets a shape by itself.
//
// With a cache capacity above 0 Paddle counts the cached kernels without a lock after each run, and crashes
// when two predictors run at once. With capacity 0 it counts nothing, and the map only grows: so each
// instance empties its own part after a number of input shapes, which onednn_budget.h finds from a bound in bytes.
//
// Paddle frees a thread's part when the thread ends: the destructor of the thread's oneDNN state erases, under
// the map's lock, what the executor that last ran there has put in. Destroying that state and making it anew
// is therefore the same, without ending the thread; and it needs to know no class layout.
//
// What stands inside `if` and `while` is run by executors of its own, and from then on all that the thread puts in
// goes by the last of them. Then only a part of the part is erased; the rest is never freed, and fails whenever its
// shape comes again, for it belongs to the oneDNN engine that went with the state. The end of the predictor erases
// the parts of all its executors: so for such a program that is made anew instead (`by_renewal`).
//
// Each run of `if` and `while` also has Paddle skip one emptying to come, whoever's that is. What was to be freed then
// stays, and fails when its shape comes again, or its executor's address. So skips are used up before, and such a
// predictor ends while no such run is under way (inner_blocks.h). The emptying for another program can still meet a run
// that begins in the microseconds between; so can Paddle's Python run(), but for the GIL.
#pragma once

#include <atomic>
#include <cstdint>
#include <ctime>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <utility>

#include "paddle/heap_trim.h"
#include "paddle/onednn_budget.h"
#include "paddle/onednn_primitives.h"
#include "paddle/paddle_abi.h"

namespace paddleinfer::paddle {

// What is needed of Paddle for it.
struct OneDnnSymbols {
  void* (*thread_state)() = nullptr;                                  // OneDNNContextThreadLocals::fetch
  void (*construct)(void* state) = nullptr;                           // OneDNNContextThreadLocals::Body
  void (*destruct)(void* state) = nullptr;                            // its destructor
  void (*set_executor)(void* executor, const void* place) = nullptr;  // AttachPointerHashToONEDNNKey
  void* (*contexts)() = nullptr;                                      // DeviceContextPool::Instance
  void* (*context)(void* contexts, const void* place) = nullptr;      // DeviceContextPool::Get
  void (*block_next_clear)(void* context) = nullptr;                  // OneDNNContext::BlockNextCacheClearing
  void (*clear)(void* context, void* executor) = nullptr;             // OneDNNContext::ResetBlobMap
  void (*set_layout)(void* state, int layout) = nullptr;              // Body::set_cur_paddle_data_layout
  int (*layout)(void* state) = nullptr;                               // Body::get_cur_paddle_data_layout
  const void* cpu_place = nullptr;                                    // a phi::CPUPlace that lives for ever
  OneDnnPrimitives primitives{};

  static OneDnnSymbols load(const Abi& abi, const void* cpu_place) {
    OneDnnSymbols found;
    const bool all =
        find_symbol(abi.library, found.thread_state, "_ZN3phi25OneDNNContextThreadLocals5fetchEv") &&
        find_symbol(abi.library, found.construct, "_ZN3phi25OneDNNContextThreadLocals4BodyC1Ev") &&
        find_symbol(abi.library, found.destruct, "_ZN3phi25OneDNNContextThreadLocals4BodyD1Ev") &&
        find_symbol(abi.library, found.contexts, "_ZN3phi17DeviceContextPool8InstanceEv") &&
        find_symbol(abi.library, found.context, "_ZN3phi17DeviceContextPool3GetERKNS_5PlaceE") &&
        find_symbol(abi.library, found.block_next_clear, "_ZN3phi13OneDNNContext22BlockNextCacheClearingEv") &&
        find_symbol(abi.library, found.clear, "_ZN3phi13OneDNNContext12ResetBlobMapEPv") &&
        find_symbol(abi.library, found.set_layout,
                    "_ZN3phi25OneDNNContextThreadLocals4Body26set_cur_paddle_data_layoutEN6common10DataLayoutE") &&
        find_symbol(abi.library, found.layout,
                    "_ZN3phi25OneDNNContextThreadLocals4Body26get_cur_paddle_data_layoutEv") &&
        // Paddle 3.3 renamed it.
        (find_symbol(abi.library, found.set_executor,
                     "_ZN6paddle8platform28AttachPointerHashToONEDNNKeyEPvRKN3phi5PlaceE") ||
         find_symbol(abi.library, found.set_executor,
                     "_ZN6paddle8platform28AttachPointerHashToMKLDNNKeyEPvRKN3phi5PlaceE"));
    if (!all) return found;
    found.cpu_place = cpu_place;
    found.primitives = OneDnnPrimitives::load(abi);
    return found;
  }
  bool complete() const noexcept { return cpu_place != nullptr; }

  // A thread's state that never had an executor empties the whole map when it goes, other threads' parts
  // too, and those crash. So it always has one. Any address that no other thread uses will do.
  void adopt_thread(void* executor) const { set_executor(executor, cpu_place); }

  // More than runs can have raised between two uses; a Paddle that tells in another way must not hold the instance up.
  static constexpr int kMostSkips = 1'000'000;

  // Until an emptying happens: that sets the thread's layout to Paddle's usual one, and a skipped one does not.
  void use_up_skips() const {
    constexpr int kUndefined = 0;
    static char nobody;  // nothing is filed under it
    void* const state = thread_state();
    void* const context_now = context(contexts(), cpu_place);
    for (int skip = 0; skip < kMostSkips; ++skip) {
      set_layout(state, kUndefined);
      clear(context_now, &nobody);
      if (layout(state) != kUndefined) return;
    }
  }

  // Empties this thread's part.
  void clear_thread(void* executor) const {
    use_up_skips();
    void* state = thread_state();
    destruct(state);
    construct(state);
    adopt_thread(executor);
  }
};

// Held by who clears a part, together, and by a guard alone, for it would swallow the clearing.
inline std::shared_mutex& onednn_clearing() noexcept {
  static std::shared_mutex* const lock = new std::shared_mutex;
  return *lock;
}

// Each graph pass over a legacy program that Paddle loads ends with emptying the whole map, under the feet of the
// predictors that run meanwhile, and those crash. While a guard stands Paddle skips that: it counts down how
// often it shall. Made and destroyed on the loading thread, under predictor_lock().
class OneDnnCacheGuard {
 public:
  explicit OneDnnCacheGuard(const OneDnnSymbols& symbols) : symbols_(symbols), nobody_clears_(onednn_clearing()) {
    if (!symbols_.complete()) return;
    symbols_.adopt_thread(this);
    context_ = symbols_.context(symbols_.contexts(), symbols_.cpu_place);
    for (int skip = 0; skip < kSkips; ++skip) symbols_.block_next_clear(context_);
  }
  OneDnnCacheGuard(const OneDnnCacheGuard&) = delete;
  OneDnnCacheGuard& operator=(const OneDnnCacheGuard&) = delete;
  ~OneDnnCacheGuard() noexcept(false) {
    if (context_ == nullptr) return;
    // Uses up the skips that are left; further calls empty this guard's part, where nothing is.
    for (int skip = 0; skip < kSkips; ++skip) symbols_.clear(context_, this);
    symbols_.clear_thread(this);  // what the passes themselves have put in
  }

 private:
  // A load has about a hundred passes. All skips together take about a millisecond.
  static constexpr int kSkips = 10'000;

  const OneDnnSymbols symbols_;
  const std::unique_lock<std::shared_mutex> nobody_clears_;
  void* context_ = nullptr;
};

// How often a part of the map was emptied, in this process.
inline std::atomic<std::uint64_t>& onednn_clears() noexcept {
  static std::atomic<std::uint64_t>* const clears = new std::atomic<std::uint64_t>(0);
  return *clears;
}

// The part of one instance; made, used and destroyed on its thread, the last under predictor_lock().
class OneDnnCache {
 public:
  // Incomplete symbols: the map grows, and nothing is emptied.
  OneDnnCache(const OneDnnSymbols& symbols, const OneDnnLimits& limits, std::shared_ptr<OneDnnRecord> record)
      : symbols_(symbols), budget_(limits), record_(std::move(record)) {
    if (symbols_.complete()) symbols_.adopt_thread(this);
  }
  OneDnnCache(const OneDnnCache&) = delete;
  OneDnnCache& operator=(const OneDnnCache&) = delete;
  ~OneDnnCache() noexcept(false) { clear(); }

  // `ran_last`: no other predictor has run on this thread since this one did. Only then can its part be emptied.
  void before_run(std::uint64_t shape, bool ran_last = true) {
    const auto [place, is_new] = seen_.try_emplace(shape);
    present_ = &place->second;
    const bool is_full = is_new && !budget_.by_renewal() && symbols_.complete() && seen_.size() > budget_.shape_limit();
    if (is_full && !ran_last) {
      empties_after_ = true;
    } else if (is_full) {
      const std::shared_lock<std::shared_mutex> nobody_loads(onednn_clearing(), std::try_to_lock);
      if (nobody_loads) {  // else a later run will do
        seen_.erase(place);
        empty();
        present_ = &seen_[shape];
      }
    }
    if (present_->runs < 2) began_ns_ = processor_time_ns();
  }

  // After a run that did not fail.
  void after_run() {
    if (empties_after_) {
      const std::shared_lock<std::shared_mutex> nobody_loads(onednn_clearing(), std::try_to_lock);
      if (nobody_loads) {
        empties_after_ = false;
        empty();
        return;
      }
    }
    if (budget_.by_renewal() && symbols_.complete()) {
      const std::shared_lock<std::shared_mutex> nobody_loads(onednn_clearing(), std::try_to_lock);
      if (nobody_loads) symbols_.use_up_skips();
    }
    if (present_->runs >= 2) return;
    const std::uint64_t taken_ns = processor_time_ns() - began_ns_;
    if (++present_->runs == 1) {
      present_->first_ns = taken_ns;
      present_->is_telling = has_run_;  // the instance's first run of all makes more than kernels
      has_run_ = true;
      symbols_.primitives.keep_within_limit();
    } else if (present_->is_telling) {
      record_->note_repetition(present_->first_ns, taken_ns);
    }
  }

  // Whether its owner has to make the predictor anew, with the two calls around the end of the old one.
  bool is_due_for_renewal() const noexcept {
    return budget_.by_renewal() && symbols_.complete() && seen_.size() > budget_.shape_limit();
  }
  void begin_renewal() {
    allocated_before_ = budget_.allocated();
    symbols_.use_up_skips();
  }
  void end_renewal() {
    const std::size_t shapes = seen_.size();
    clear();
    note_emptying(shapes, allocated_before_);
    HeapTrim::shared().note_emptying(shapes * budget_.shape_bytes());
  }

  void clear() {
    seen_.clear();
    present_ = nullptr;
    if (!symbols_.complete()) return;
    symbols_.clear_thread(this);
    onednn_clears().fetch_add(1, std::memory_order_relaxed);
  }

 private:
  struct Seen {
    int runs = 0;  // counted to two
    bool is_telling = false;
    std::uint64_t first_ns = 0;
  };

  // Of this thread: what else the machine does must not change what a kernel is found to be worth.
  static std::uint64_t processor_time_ns() noexcept {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
  }

  void empty() {
    const std::size_t shapes = seen_.size();
    const bool measured = budget_.wants_measurement();
    const std::uint64_t before = measured ? budget_.allocated() : 0;
    clear();
    if (measured) note_emptying(shapes, before);
    HeapTrim::shared().note_emptying(shapes * budget_.shape_bytes());
  }

  void note_emptying(std::size_t shapes, std::uint64_t before) {
    budget_.note_emptying(shapes, before, budget_.allocated());
    record_->note_emptying(budget_.first_bytes(), budget_.shape_bytes(), budget_.shape_limit());
  }

  const OneDnnSymbols symbols_;
  OneDnnBudget budget_;
  const std::shared_ptr<OneDnnRecord> record_;
  std::unordered_map<std::uint64_t, Seen> seen_;
  Seen* present_ = nullptr;  // of the run under way
  bool empties_after_ = false;
  std::uint64_t began_ns_ = 0;
  std::uint64_t allocated_before_ = 0;  // the renewal under way
  bool has_run_ = false;
};

}  // namespace paddleinfer::paddle
