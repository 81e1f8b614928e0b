// Whether Paddle frees tensors while a predictor runs, on a helper thread of the predictor's own.
//
// Paddle reads a flag of the process for it: where it makes a legacy program's predictor, and where any other runs for
// the first time. From then on the predictor keeps the mode.
#pragma once

#include "paddle/paddle_abi.h"
#include "requests/parker.h"
#include "requests/thread_safety.h"
#include "requests/time.h"
#include "running/shared_library.h"

namespace paddleinfer::paddle {

struct DeletionMode {
  double* flag = nullptr;   // null: this Paddle keeps it somewhere else
  double threshold_gb = 0;  // what is freed waits for so much; below 0: nothing is freed

  static DeletionMode of(const Abi& abi, double threshold_gb) noexcept {
    DeletionMode mode{nullptr, threshold_gb};
    find_symbol(abi.library, mode.flag, "_ZN12paddle_flags28FLAGS_eager_delete_tensor_gbE");
    return mode;
  }
};

// While it stands, the flag has the mode's value; once the last of several has gone, what it had before.
class DeletionScope {
 public:
  // Those of another value wait for each other, but no longer: a run may take long, or hang. It has read the flag as it
  // began, so the one that has waited sets its own value.
  static constexpr Nanos kMostWait = kNanosPerSecond;

  explicit DeletionScope(const DeletionMode& mode, Nanos most_ns = kMostWait) noexcept : flag_(mode.flag) {
    if (flag_ != nullptr) state().begin(mode, monotonic_now() + most_ns);
  }
  DeletionScope(const DeletionScope&) = delete;
  DeletionScope& operator=(const DeletionScope&) = delete;
  ~DeletionScope() {
    if (flag_ != nullptr) state().end(flag_);
  }

 private:
  class State {
   public:
    void begin(const DeletionMode& mode, Nanos deadline) noexcept {
      for (bool is_late = false;;) {
        const std::uint32_t seen = changed_.epoch();
        {
          const MutexLock lock(mu_);
          if (standing_ == 0) before_ = *mode.flag;
          if (standing_ == 0 || is_late) *mode.flag = value_ = mode.threshold_gb;
          if (value_ == mode.threshold_gb) {
            ++standing_;
            return;
          }
        }
        is_late = changed_.wait(seen, deadline) == Woken::timed_out;
      }
    }

    void end(double* flag) noexcept {
      {
        const MutexLock lock(mu_);
        if (--standing_ > 0) return;
        if (*flag == value_) *flag = before_;  // else the program has set it meanwhile
      }
      changed_.wake();
    }

   private:
    Mutex mu_;
    int standing_ GUARDED_BY(mu_) = 0;
    double before_ GUARDED_BY(mu_) = 0;
    double value_ GUARDED_BY(mu_) = 0;
    Parker changed_;
  };

  // Never destroyed: a thread may outlive main().
  static State& state() noexcept {
    static State* const state = new State;
    return *state;
  }

  double* const flag_;
};

}  // namespace paddleinfer::paddle
