// Runs of programs with `if` and `while`, kept apart from the emptying of oneDNN's kernels that they would have Paddle
// skip (onednn_cache.h).
#pragma once

#include <cstdint>

#include "requests/parker.h"
#include "requests/thread_safety.h"

namespace paddleinfer::paddle {

// For the whole process, as Paddle's count of emptyings to skip is. Only such programs pass here.
class InnerBlocks {
 public:
  // A run hangs, or takes very long: then the emptying goes on without it, and the skip that it may raise is a chance.
  static constexpr Nanos kMostWait = 10 * kNanosPerSecond;

  // While it stands its thread runs such a program. Waits while there is an Emptying.
  class Run {
   public:
    explicit Run(bool has_inner_blocks) noexcept : counts_(has_inner_blocks) {
      if (counts_) state().begin_run();
    }
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;
    ~Run() {
      if (counts_) state().end_run();
    }

   private:
    const bool counts_;
  };

  // While it stands no run begins; those under way have ended, but for one that takes longer than `most_ns`.
  class Emptying {
   public:
    explicit Emptying(bool has_inner_blocks, Nanos most_ns = kMostWait) noexcept : counts_(has_inner_blocks) {
      if (counts_) state().begin_emptying(monotonic_now() + most_ns);
    }
    Emptying(const Emptying&) = delete;
    Emptying& operator=(const Emptying&) = delete;
    ~Emptying() {
      if (counts_) state().end_emptying();
    }

   private:
    const bool counts_;
  };

 private:
  class State {
   public:
    void begin_run() noexcept {
      for (;;) {
        const std::uint32_t seen = changed_.epoch();
        {
          const MutexLock lock(mu_);
          if (emptyings_ == 0) {
            ++runs_;
            return;
          }
        }
        changed_.wait(seen, kNever);
      }
    }
    void end_run() noexcept { change(&State::runs_, -1); }

    void begin_emptying(Nanos deadline) noexcept {
      change(&State::emptyings_, 1);
      for (;;) {
        const std::uint32_t seen = changed_.epoch();
        {
          const MutexLock lock(mu_);
          if (runs_ == 0) return;
        }
        if (changed_.wait(seen, deadline) == Woken::timed_out) return;
      }
    }
    void end_emptying() noexcept { change(&State::emptyings_, -1); }

   private:
    void change(int State::* count, int by) noexcept {
      {
        const MutexLock lock(mu_);
        this->*count += by;
      }
      changed_.wake();
    }

    Mutex mu_;
    int runs_ GUARDED_BY(mu_) = 0;
    int emptyings_ GUARDED_BY(mu_) = 0;
    Parker changed_;
  };

  // Never destroyed: a thread may outlive main().
  static State& state() noexcept {
    static State* const state = new State;
    return *state;
  }
};

}  // namespace paddleinfer::paddle
