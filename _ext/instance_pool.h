// The instances of one engine and their threads: who is there, who is idle, who has left.
#pragma once

#include <pthread.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "instance.h"
#include "parker.h"

namespace paddleinfer {

class InstancePool {
 public:
  // `mu` is the dispatcher's lock.
  explicit InstancePool(std::mutex& mu) : mu_(mu) {}

  // -- under the lock

  Instance& add(bool root) {
    instances_.push_back(std::make_unique<Instance>(instances_.size(), root));
    if (!root) ++clones_alive_;
    return *instances_.back();
  }
  std::int64_t alive() const noexcept {
    std::int64_t count = 0;
    for (const auto& instance : instances_) count += instance->exited ? 0 : 1;
    return count;
  }
  const std::vector<std::unique_ptr<Instance>>& all() const noexcept { return instances_; }

  bool any_idle() const noexcept { return !idle_.empty(); }
  // The most recently used instance: its caches are warm.
  Instance* take_idle() {
    if (idle_.empty()) return nullptr;
    Instance* instance = idle_.back();
    idle_.pop_back();
    instance->idle = false;
    return instance;
  }
  void list_idle(Instance& instance) {
    if (instance.idle) return;
    instance.idle = true;
    idle_.push_back(&instance);
  }
  void unlist(Instance& instance) {
    if (!instance.idle) return;
    instance.idle = false;
    for (auto place = idle_.begin(); place != idle_.end(); ++place) {
      if (*place == &instance) {
        idle_.erase(place);
        return;
      }
    }
  }

  // -- with the lock free

  // Starts the instance's thread. When it cannot be started the instance counts as having left.
  void launch(Instance& instance, std::function<void()> main) {
    try {
      std::thread thread(std::move(main));
      pthread_setname_np(thread.native_handle(), ("paddleinfer-" + std::to_string(instance.index)).c_str());
      const std::lock_guard<std::mutex> lock(mu_);
      if (parted_) {
        thread.detach();
      } else {
        instance.thread = std::move(thread);
      }
    } catch (...) {
      note_exit(instance);
      throw;
    }
  }

  void note_exit(Instance& instance) {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      instance.exited = true;
      if (!instance.root) --clones_alive_;
    }
    exits_.wake();
  }

  // False when some will never go.
  bool wait_for_clones() {
    for (;;) {
      const std::uint32_t seen = exits_.epoch();
      {
        const std::lock_guard<std::mutex> lock(mu_);
        if (clones_alive_ == 0) return true;
        if (abandoned_) return false;
      }
      exits_.wait(seen, kNever);
    }
  }

  // True when every thread (or every one without a batch) has left in time, or was given up on.
  bool wait_for_exits(Nanos deadline, bool only_vacant) {
    for (;;) {
      const std::uint32_t seen = exits_.epoch();
      bool all = true;
      {
        const std::lock_guard<std::mutex> lock(mu_);
        for (const auto& instance : instances_) {
          all = all && (instance->exited || (only_vacant && instance->occupied));
        }
        all = all || (!only_vacant && abandoned_);
      }
      if (all) return true;
      if (exits_.wait(seen, deadline) == Woken::timed_out) return false;
    }
  }

  // From now on nobody waits for those that are still running.
  void abandon() {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      abandoned_ = true;
    }
    exits_.wake();
    wake_all();
  }

  void wake_all() {
    std::vector<Instance*> all;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      for (const auto& instance : instances_) all.push_back(instance.get());
    }
    for (Instance* instance : all) instance->parker.wake();
  }

  // Joins the threads that have left, lets go of the others; how many those are.
  std::size_t part_with_threads() {
    std::vector<std::thread> finished;
    std::size_t abandoned = 0;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      parted_ = true;
      for (const auto& instance : instances_) {
        if (!instance->thread.joinable()) continue;  // parted with by an earlier close()
        if (instance->exited) {
          finished.push_back(std::move(instance->thread));
        } else {
          ++abandoned;
          instance->thread.detach();
        }
      }
    }
    for (std::thread& thread : finished) thread.join();
    return abandoned;
  }

  void let_go_of_threads() {
    const std::lock_guard<std::mutex> lock(mu_);
    parted_ = true;
    for (const auto& instance : instances_) {
      if (instance->thread.joinable()) instance->thread.detach();
    }
  }

 private:
  std::mutex& mu_;
  Parker exits_;  // woken when an instance thread leaves

  std::vector<std::unique_ptr<Instance>> instances_;  // guarded by mu_; only grows
  std::vector<Instance*> idle_;                       // guarded by mu_
  std::size_t clones_alive_ = 0;                      // guarded by mu_; instances that are no root
  bool parted_ = false;                               // guarded by mu_; threads are no longer joined
  bool abandoned_ = false;                            // guarded by mu_
};

}  // namespace paddleinfer
