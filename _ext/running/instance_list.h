// The instances of one engine: which there are, and which are idle.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "running/instance.h"

namespace paddleinfer {

// Instances that are to be woken once the lock is free.
class WokenInstances {
 public:
  bool full() const noexcept { return count_ == instances_.size(); }
  void add(Instance* instance) noexcept { instances_[count_++] = instance; }
  void wake() const noexcept {
    for (std::size_t place = 0; place < count_; ++place) instances_[place]->parker.wake();
  }

 private:
  std::array<Instance*, 8> instances_;  // more are woken by these, once they have taken their batch
  std::size_t count_ = 0;
};

// Guarded by the dispatcher's lock, as a whole. Instances stay where they are: there are only ever more.
class InstanceList {
 public:
  Instance& add(bool root) {
    idle_.reserve(instances_.size() + 1);
    instances_.push_back(std::make_unique<Instance>(instances_.size(), root));
    if (!root) ++clones_alive;
    return *instances_.back();
  }
  std::int64_t alive() const noexcept {
    std::int64_t count = 0;
    for (const auto& instance : instances_) count += instance->exited ? 0 : 1;
    return count;
  }
  // Whether what is queued now will be taken by one of them, unless they hang.
  bool any_takes_batches() const noexcept {
    return !given_up && std::any_of(instances_.begin(), instances_.end(),
                                    [](const auto& instance) { return !instance->exited && !instance->takes_no_more; });
  }
  const std::vector<std::unique_ptr<Instance>>& all() const noexcept { return instances_; }

  bool any_idle() const noexcept { return !idle_.empty(); }
  // The most recently used instance: its caches are warm.
  Instance* take_idle() noexcept {
    if (idle_.empty()) return nullptr;
    Instance* instance = idle_.back();
    idle_.pop_back();
    instance->idle = false;
    return instance;
  }
  // The one that is used last, if any.
  Instance* longest_idle() const noexcept { return idle_.empty() ? nullptr : idle_.front(); }
  void list_idle(Instance& instance) noexcept {
    if (instance.idle) return;
    instance.idle = true;
    idle_.push_back(&instance);
  }
  void unlist(Instance& instance) noexcept {
    if (!instance.idle) return;
    instance.idle = false;
    for (auto place = idle_.begin(); place != idle_.end(); ++place) {
      if (*place == &instance) {
        idle_.erase(place);
        return;
      }
    }
  }
  // Null past the last.
  Instance* at(std::size_t place) const noexcept {
    return place < instances_.size() ? instances_[place].get() : nullptr;
  }

  std::size_t clones_alive = 0;   // instances that are no root
  bool threads_detached = false;  // they are no longer joined
  bool abandoned = false;         // nobody waits any more for those that still run
  bool given_up = false;          // nothing that is queued from now on runs

 private:
  std::vector<std::unique_ptr<Instance>> instances_;
  std::vector<Instance*> idle_;
};

}  // namespace paddleinfer
