// Wakes the many callers of one batch: each wakes the next one, so that the instance pays for one wake-up only.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace paddleinfer {

class Request;

class WakeChain {
 public:
  // The sleepers, all done already. Called once; wakes before it find nothing to do.
  void start(std::vector<std::shared_ptr<Request>>&& sleepers) noexcept {
    sleepers_ = std::move(sleepers);
    count_.store(sleepers_.size(), std::memory_order_release);
    wake_next();
  }

  // Wakes one more sleeper, who will call this in turn. One that has woken by itself is passed over.
  inline void wake_next() noexcept;

 private:
  std::vector<std::shared_ptr<Request>> sleepers_;  // each entry is touched by the one who drew its number
  std::atomic<std::size_t> count_{0};
  std::atomic<std::size_t> next_{0};
};

}  // namespace paddleinfer
