// Keeps Python objects that native threads are done with, until the next holder of the GIL drains them.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "requests/thread_safety.h"

namespace paddleinfer {

// An object that was promised can be pushed without memory: nothing is lost where there is none left.
class ReleaseList {
 public:
  // So many objects are to come. Throws std::bad_alloc where there is no room for them.
  void promise(std::int64_t count = 1) {
    const std::int64_t promised = promised_.fetch_add(count, std::memory_order_relaxed) + count;
    if (promised <= room_.load(std::memory_order_acquire)) return;
    try {
      const MutexLock lock(mu_);
      const auto wanted = static_cast<std::size_t>(std::max<std::int64_t>(0, promised_.load()));
      if (wanted > objects_.capacity()) objects_.reserve(std::max(wanted, 2 * objects_.capacity()));
      room_.store(static_cast<std::int64_t>(objects_.capacity()), std::memory_order_release);
    } catch (...) {
      withdraw(count);
      throw;
    }
  }
  // They will not come.
  void withdraw(std::int64_t count = 1) noexcept { promised_.fetch_sub(count, std::memory_order_relaxed); }

  // Promised, and not taken yet.
  std::int64_t promised() const noexcept { return promised_.load(std::memory_order_relaxed); }

  void push(void* object) noexcept { push_all(&object, 1); }

  // One lock for all of them; null ones are none.
  void push_all(void* const* objects, std::size_t count) noexcept {
    if (count == 0) return;
    const MutexLock lock(mu_);
    for (std::size_t place = 0; place < count; ++place) {
      if (objects[place] == nullptr) continue;
      objects_.push_back(objects[place]);
      filled_.store(true, std::memory_order_release);
    }
  }

  // Cheap when there is nothing, which is nearly always. Takes nothing where it throws.
  std::vector<void*> take() {
    std::vector<void*> taken;
    if (!filled_.load(std::memory_order_acquire)) return taken;
    const MutexLock lock(mu_);
    taken = objects_;
    objects_.clear();
    filled_.store(false, std::memory_order_release);
    withdraw(static_cast<std::int64_t>(taken.size()));
    return taken;
  }

 private:
  Mutex mu_;
  std::vector<void*> objects_ GUARDED_BY(mu_);
  std::atomic<bool> filled_{false};
  std::atomic<std::int64_t> promised_{0};
  std::atomic<std::int64_t> room_{0};
};

}  // namespace paddleinfer
