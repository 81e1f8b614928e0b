// The threads that may be in Paddle's code when the process ends.
//
// exit() destroys Paddle's static objects. A run that was not over in time, and that nobody waits for, would crash on
// them, and the process would end by a signal instead of with its exit code.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>

namespace paddleinfer {

// Counts the thread that it is made on, as long as it lives.
class NativeThread {
 public:
  NativeThread() noexcept { alive().fetch_add(1); }
  NativeThread(const NativeThread&) = delete;
  NativeThread& operator=(const NativeThread&) = delete;
  ~NativeThread() { alive().fetch_sub(1); }

  // In a forked child, which has none of the other threads.
  static void forget_other_threads() noexcept { alive().store(0); }

  static int count() noexcept { return alive().load(); }

 private:
  static std::atomic<int>& alive() noexcept {
    static std::atomic<int> alive{0};  // needs no destructor, so it is there to the end
    return alive;
  }
};

// Has exit() end the process before it destroys anything, with the same exit code, where such threads are left. What is
// registered later is called earlier, so this is called as late as can be.
inline void exit_around_native_threads() {
  const auto leave = [](int status, void*) {
    if (NativeThread::count() <= 0) return;  // below: one that forked has ended in the child
    std::fflush(nullptr);
    _exit(status);
  };
  if (on_exit(leave, nullptr) != 0) throw std::bad_alloc();
}

}  // namespace paddleinfer
