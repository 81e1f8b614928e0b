// Python objects that a native thread has done with. Whoever holds the GIL next drains them.
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

namespace paddleinfer {

class ReleaseList {
 public:
  void push(void* object) {
    if (object == nullptr) return;
    const std::lock_guard<std::mutex> lock(mu_);
    objects_.push_back(object);
    filled_.store(true, std::memory_order_release);
  }

  // One lock for all of them; none may be null.
  void push_all(const std::vector<void*>& objects) {
    if (objects.empty()) return;
    const std::lock_guard<std::mutex> lock(mu_);
    objects_.insert(objects_.end(), objects.begin(), objects.end());
    filled_.store(true, std::memory_order_release);
  }

  // Cheap when there is nothing, which is nearly always.
  std::vector<void*> take() {
    std::vector<void*> taken;
    if (!filled_.load(std::memory_order_acquire)) return taken;
    const std::lock_guard<std::mutex> lock(mu_);
    taken.swap(objects_);
    filled_.store(false, std::memory_order_release);
    return taken;
  }

 private:
  std::mutex mu_;
  std::vector<void*> objects_;  // guarded by mu_
  std::atomic<bool> filled_{false};
};

}  // namespace paddleinfer
