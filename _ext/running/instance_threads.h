// Starts the threads of the instances, waits for their exit, and joins or detaches them.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <cstdio>
#include <functional>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "requests/parker.h"
#include "requests/thread_safety.h"
#include "running/instance_list.h"

namespace paddleinfer {

// The system has no further thread.
class NoThread final : public std::system_error {
 public:
  using std::system_error::system_error;
};

class InstanceThreads {
 public:
  // `mu` is the dispatcher's lock, which guards the list. Each function takes it itself.
  InstanceThreads(Mutex& mu, InstanceList& instances) : mu_(mu), instances_(instances) {}

  // Starts the instance's thread. Where it cannot be started, and NoThread is thrown where it is the system that has
  // none, the instance counts as having left.
  void launch(Instance& instance, const std::function<void(Instance&)>& main) {
    try {
      std::thread thread = started(main, instance);
      name(thread, instance.index);
      const MutexLock lock(mu_);
      if (instances_.threads_detached) {
        thread.detach();
      } else {
        instance.thread = std::move(thread);
      }
    } catch (...) {
      note_exit(instance);
      throw;
    }
  }

  void note_exit(Instance& instance) noexcept {
    {
      const MutexLock lock(mu_);
      instance.exited = true;
      if (!instance.root) --instances_.clones_alive;
    }
    exits_.wake();
  }

  // On a root's own thread: it goes when they are gone, even where nobody waits for that any more.
  void wait_for_clones(Instance& root) noexcept {
    for (;;) {
      const std::uint32_t seen = exits_.epoch();
      bool is_new = false;
      {
        const MutexLock lock(mu_);
        if (instances_.clones_alive == 0) return;
        is_new = !std::exchange(root.awaits_clones, true);
      }
      if (is_new) {
        exits_.wake();  // who waits for all that are vacant need not wait for this one
      } else {
        exits_.wait(seen, kNever);
      }
    }
  }

  // True when every thread (or every one without a batch) has left in time, or was given up on.
  bool wait_for_exits(Nanos deadline, bool only_vacant) {
    for (;;) {
      const std::uint32_t seen = exits_.epoch();
      bool all = true;
      {
        const MutexLock lock(mu_);
        for (const auto& instance : instances_.all()) {
          const bool stays = instance->occupied || (instance->awaits_clones && instances_.clones_alive > 0);
          all = all && (instance->exited || (only_vacant && stays));
        }
        all = all || (!only_vacant && instances_.abandoned);
      }
      if (all) return true;
      if (exits_.wait(seen, deadline) == Woken::timed_out) return false;
    }
  }

  // From now on nobody waits for those that are still running.
  void abandon() {
    {
      const MutexLock lock(mu_);
      instances_.abandoned = true;
    }
    exits_.wake();
    wake_all();
  }

  void wake_all() noexcept {
    for (std::size_t place = 0; Instance* instance = instance_at(place); ++place) instance->parker.wake();
  }

  // Joins the threads that have left, lets go of the others; how many of those still run.
  std::size_t join_or_detach() {
    std::size_t abandoned = 0;
    for (std::size_t place = 0; Instance* instance = instance_at(place); ++place) {
      std::thread finished;
      {
        const MutexLock lock(mu_);
        instances_.threads_detached = true;
        if (!instance->thread.joinable()) continue;  // parted with by an earlier close()
        if (instance->exited) {
          finished = std::move(instance->thread);
        } else {
          if (!instance->awaits_clones) ++abandoned;
          instance->thread.detach();
        }
      }
      if (finished.joinable()) finished.join();
    }
    return abandoned;
  }

  void detach_all() {
    const MutexLock lock(mu_);
    instances_.threads_detached = true;
    for (const auto& instance : instances_.all()) {
      if (instance->thread.joinable()) instance->thread.detach();
    }
  }

 private:
  // Null past the last.
  Instance* instance_at(std::size_t place) noexcept {
    const MutexLock lock(mu_);
    return instances_.at(place);
  }

  static std::thread started(const std::function<void(Instance&)>& main, Instance& instance) {
    try {
      return std::thread(main, std::ref(instance));
    } catch (const std::system_error& error) {
      throw NoThread(error.code());
    }
  }

  static void name(std::thread& thread, std::size_t number) noexcept {
    char text[16];  // as long as the system takes
    std::snprintf(text, sizeof text, "paddleinfer-%zu", number % 1'000);
    pthread_setname_np(thread.native_handle(), text);
  }

  Mutex& mu_;
  InstanceList& instances_ GUARDED_BY(mu_);
  Parker exits_;  // woken when an instance thread leaves
};

}  // namespace paddleinfer
