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
#include <unordered_set>

#include "paddle_abi.h"

namespace paddleinfer::paddle {

// What is needed of Paddle for it.
struct OneDnnSymbols {
  void* (*thread_state)() = nullptr;                                  // OneDNNContextThreadLocals::fetch
  void (*construct)(void* state) = nullptr;                           // OneDNNContextThreadLocals::Body
  void (*destruct)(void* state) = nullptr;                            // its destructor
  void (*set_executor)(void* executor, const void* place) = nullptr;  // AttachPointerHashToONEDNNKey
  const void* cpu_place = nullptr;                                    // a phi::CPUPlace that lives for ever

  static OneDnnSymbols load(const Abi& abi, const void* cpu_place) {
    OneDnnSymbols found;
    const bool all = Abi::find_in(abi.library, found.thread_state, "_ZN3phi25OneDNNContextThreadLocals5fetchEv") &&
                     Abi::find_in(abi.library, found.construct, "_ZN3phi25OneDNNContextThreadLocals4BodyC1Ev") &&
                     Abi::find_in(abi.library, found.destruct, "_ZN3phi25OneDNNContextThreadLocals4BodyD1Ev") &&
                     // Paddle 3.3 renamed it.
                     (Abi::find_in(abi.library, found.set_executor,
                                   "_ZN6paddle8platform28AttachPointerHashToONEDNNKeyEPvRKN3phi5PlaceE") ||
                      Abi::find_in(abi.library, found.set_executor,
                                   "_ZN6paddle8platform28AttachPointerHashToMKLDNNKeyEPvRKN3phi5PlaceE"));
    if (all) found.cpu_place = cpu_place;
    return found;
  }
  bool complete() const noexcept { return cpu_place != nullptr; }
};

// How often a part of the map was emptied, in this process.
inline std::atomic<std::uint64_t>& onednn_clears() noexcept {
  static std::atomic<std::uint64_t>* const clears = new std::atomic<std::uint64_t>(0);
  return *clears;
}

// The part of one instance; made, used and destroyed on its thread.
class OneDnnCache {
 public:
  // Incomplete symbols: the map grows, and nothing here does anything.
  OneDnnCache(const OneDnnSymbols& symbols, std::size_t max_shapes) : symbols_(symbols), max_shapes_(max_shapes) {
    adopt_thread();
  }
  OneDnnCache(const OneDnnCache&) = delete;
  OneDnnCache& operator=(const OneDnnCache&) = delete;
  ~OneDnnCache() noexcept(false) { clear(); }

  void before_run(std::uint64_t shape) {
    if (!seen_.insert(shape).second || seen_.size() <= max_shapes_) return;
    clear();
    seen_.insert(shape);
  }

  void clear() {
    seen_.clear();
    if (!symbols_.complete()) return;
    void* state = symbols_.thread_state();
    symbols_.destruct(state);
    symbols_.construct(state);
    adopt_thread();
    onednn_clears().fetch_add(1, std::memory_order_relaxed);
  }

 private:
  // A thread's state that never had an executor empties the whole map when it goes, other threads' parts
  // too, and those crash. So it always has one.
  void adopt_thread() {
    if (symbols_.complete()) symbols_.set_executor(this, symbols_.cpu_place);
  }

  const OneDnnSymbols symbols_;
  const std::size_t max_shapes_;
  std::unordered_set<std::uint64_t> seen_;
};

}  // namespace paddleinfer::paddle
