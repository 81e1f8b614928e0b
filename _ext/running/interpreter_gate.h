// The way of native threads into Python, until the interpreter ends.
//
// Before Python 3.14 a thread that asks for the GIL once the interpreter has begun to end is ended where it stands, by
// pthread_exit(). That unwinds its stack; and a function on it that may not throw, as every destructor, then aborts the
// process. After the interpreter's end asking is a crash. So none asks once the gate is closed, and those that are in
// Python by then, and are ended there, stay where they are.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <thread>

namespace paddleinfer {

class InterpreterGate {
 public:
  // Calls `into`, which takes the GIL and says so with entered(). False, without calling it, once the gate is closed.
  template <typename Into>
  bool call(Into&& into) {
    on_their_way_.fetch_add(1);
    if (closed_.load()) {
      on_their_way_.fetch_sub(1);
      return false;
    }
    try {
      into();
    } catch (...) {
      while (!std::current_exception()) pause();  // what ends a thread is no exception of C++
      throw;
    }
    return true;
  }

  // Once, at the beginning of every such call.
  void entered() noexcept { on_their_way_.fetch_sub(1); }

  // From now on nobody gets in; waits, without the GIL, for those that are about to take it.
  void close() noexcept {
    closed_.store(true);
    while (on_their_way_.load() > 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }

  // In a forked child, which has none of the other threads: whoever was on its way will never arrive.
  void forget_other_threads() noexcept { on_their_way_.store(0); }

  bool closed() const noexcept { return closed_.load(); }

 private:
  std::atomic<bool> closed_{false};
  std::atomic<int> on_their_way_{0};
};

// The process's own; never destroyed, for threads may outlive everything else.
inline InterpreterGate& interpreter_gate() noexcept {
  static InterpreterGate* const gate = new InterpreterGate;
  return *gate;
}

}  // namespace paddleinfer
