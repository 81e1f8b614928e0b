// MKL's buffers, which Paddle gives back after every run.
//
// That looks at all of them: 8 of the 24 us that a small model takes without oneDNN, and the next run gets its own
// again. Paddle calls it through a pointer that it finds at its first run, in a variable that it exports; so afterwards
// a function can stand there that does it at times.
#pragma once

#include <atomic>

#include "paddle/paddle_abi.h"
#include "requests/time.h"
#include "running/shared_library.h"

namespace paddleinfer::paddle {

class MklBuffers {
 public:
  using GiveBack = void (*)();
  // Between two times, for the whole process. A run that is longer ends as Paddle wants it to.
  static constexpr Nanos kInterval = 10'000'000;

  MklBuffers() = default;  // this Paddle's pointer is not known
  MklBuffers(GiveBack* pointer, const unsigned char* is_found) noexcept : pointer_(pointer), is_found_(is_found) {}

  static MklBuffers of(const Abi& abi) noexcept {
    GiveBack* pointer = nullptr;
    const unsigned char* is_found = nullptr;
    const bool both =
        find_symbol(abi.library, pointer,
                    "_ZZN3phi7dynload25DynLoad__MKL_Free_BuffersclIJEEEDTcl16MKL_Free_Buffersspfp_EEDpT_E7p__name") &&
        find_symbol(abi.library, is_found,
                    "_ZGVZN3phi7dynload25DynLoad__MKL_Free_BuffersclIJEEEDTcl16MKL_Free_Buffersspfp_EEDpT_E7p__name");
    return both ? MklBuffers(pointer, is_found) : MklBuffers();
  }

  // After a run: from now on they are given back at times.
  void keep() const noexcept {
    if (pointer_ == nullptr || __atomic_load_n(is_found_, __ATOMIC_ACQUIRE) == 0) return;
    GiveBack now = __atomic_load_n(pointer_, __ATOMIC_ACQUIRE);
    if (now == nullptr || now == at_times) return;
    paddles().store(now, std::memory_order_release);
    __atomic_compare_exchange_n(pointer_, &now, &at_times, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
  }

 private:
  static std::atomic<GiveBack>& paddles() noexcept {
    static std::atomic<GiveBack> paddles{nullptr};
    return paddles;
  }

  static void at_times() {
    static std::atomic<Nanos> next_ns{0};
    const Nanos now = monotonic_now();
    if (now < next_ns.load(std::memory_order_relaxed)) return;
    next_ns.store(now + kInterval, std::memory_order_relaxed);
    paddles().load(std::memory_order_acquire)();
  }

  GiveBack* pointer_ = nullptr;
  const unsigned char* is_found_ = nullptr;  // the guard of the variable, as the Itanium C++ ABI has it
};

}  // namespace paddleinfer::paddle
