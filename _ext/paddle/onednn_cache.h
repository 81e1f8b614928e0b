// oneDNN's kernel cache in Paddle: one map for the whole process, which never forgets a shape by itself.
//
// With a cache capacity above 0 Paddle counts the cached kernels without a lock after each run, and crashes
// when two predictors run at once. With capacity 0 it counts nothing, and the map only grows: so each
// instance empties its own part after a number of input shapes.
//
// Paddle frees a thread's part when the thread ends: the destructor of the thread's oneDNN state erases, under
// the map's lock, what the executor that last ran there has put in. Destroying that state and making it anew
// is therefore the same, without ending the thread; and it needs to know no class layout.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <unordered_set>

#include "paddle_abi.h"

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
  const void* cpu_place = nullptr;                                    // a phi::CPUPlace that lives for ever

  static OneDnnSymbols load(const Abi& abi, const void* cpu_place) {
    OneDnnSymbols found;
    const bool all =
        Abi::find_in(abi.library, found.thread_state, "_ZN3phi25OneDNNContextThreadLocals5fetchEv") &&
        Abi::find_in(abi.library, found.construct, "_ZN3phi25OneDNNContextThreadLocals4BodyC1Ev") &&
        Abi::find_in(abi.library, found.destruct, "_ZN3phi25OneDNNContextThreadLocals4BodyD1Ev") &&
        Abi::find_in(abi.library, found.contexts, "_ZN3phi17DeviceContextPool8InstanceEv") &&
        Abi::find_in(abi.library, found.context, "_ZN3phi17DeviceContextPool3GetERKNS_5PlaceE") &&
        Abi::find_in(abi.library, found.block_next_clear, "_ZN3phi13OneDNNContext22BlockNextCacheClearingEv") &&
        Abi::find_in(abi.library, found.clear, "_ZN3phi13OneDNNContext12ResetBlobMapEPv") &&
        // Paddle 3.3 renamed it.
        (Abi::find_in(abi.library, found.set_executor,
                      "_ZN6paddle8platform28AttachPointerHashToONEDNNKeyEPvRKN3phi5PlaceE") ||
         Abi::find_in(abi.library, found.set_executor,
                      "_ZN6paddle8platform28AttachPointerHashToMKLDNNKeyEPvRKN3phi5PlaceE"));
    if (all) found.cpu_place = cpu_place;
    return found;
  }
  bool complete() const noexcept { return cpu_place != nullptr; }

  // A thread's state that never had an executor empties the whole map when it goes, other threads' parts
  // too, and those crash. So it always has one. Any address that no other thread uses will do.
  void adopt_thread(void* executor) const { set_executor(executor, cpu_place); }

  // Empties this thread's part.
  void clear_thread(void* executor) const {
    void* state = thread_state();
    destruct(state);
    construct(state);
    adopt_thread(executor);
  }
};

// Held by who clears a part, together, and by a shelter alone, for it would swallow the clearing.
inline std::shared_mutex& onednn_clearing() noexcept {
  static std::shared_mutex* const lock = new std::shared_mutex;
  return *lock;
}

// Each graph pass over a legacy program that Paddle loads ends with emptying the whole map, under the feet of the
// predictors that run meanwhile, and those crash. While a shelter stands Paddle skips that: it counts down how
// often it shall. Made and destroyed on the loading thread, under predictor_lock().
class OneDnnShelter {
 public:
  explicit OneDnnShelter(const OneDnnSymbols& symbols) : symbols_(symbols), nobody_clears_(onednn_clearing()) {
    if (!symbols_.complete()) return;
    symbols_.adopt_thread(this);
    context_ = symbols_.context(symbols_.contexts(), symbols_.cpu_place);
    for (int skip = 0; skip < kSkips; ++skip) symbols_.block_next_clear(context_);
  }
  OneDnnShelter(const OneDnnShelter&) = delete;
  OneDnnShelter& operator=(const OneDnnShelter&) = delete;
  ~OneDnnShelter() noexcept(false) {
    if (context_ == nullptr) return;
    // Uses up the skips that are left; further calls empty this shelter's part, where nothing is.
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
  // Incomplete symbols: the map grows, and nothing here does anything.
  OneDnnCache(const OneDnnSymbols& symbols, std::size_t max_shapes) : symbols_(symbols), max_shapes_(max_shapes) {
    if (symbols_.complete()) symbols_.adopt_thread(this);
  }
  OneDnnCache(const OneDnnCache&) = delete;
  OneDnnCache& operator=(const OneDnnCache&) = delete;
  ~OneDnnCache() noexcept(false) { clear(); }

  void before_run(std::uint64_t shape) {
    if (!seen_.insert(shape).second || seen_.size() <= max_shapes_) return;
    const std::shared_lock<std::shared_mutex> nobody_loads(onednn_clearing(), std::try_to_lock);
    if (!nobody_loads) return;  // a later run will do
    clear();
    seen_.insert(shape);
  }

  void clear() {
    seen_.clear();
    if (!symbols_.complete()) return;
    symbols_.clear_thread(this);
    onednn_clears().fetch_add(1, std::memory_order_relaxed);
  }

 private:
  const OneDnnSymbols symbols_;
  const std::size_t max_shapes_;
  std::unordered_set<std::uint64_t> seen_;
};

}  // namespace paddleinfer::paddle
