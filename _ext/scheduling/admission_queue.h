// Keeps requests that wait for room in a full queue, first come first served.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "requests/request.h"

namespace paddleinfer {

class AdmissionQueue {
 public:
  void push(const RequestPtr& request) {
    line_.push_back(request);
    request->awaiting_admission = true;
    ++waiting_;
  }

  // A request ended early. Each entry is dropped at most once, so this costs O(1) amortised.
  void forget(Request& request) noexcept {
    request.awaiting_admission = false;
    --waiting_;
    if (line_.size() <= 2 * std::size_t(waiting_) + 64) return;
    const auto dead = [](const RequestPtr& other) { return !other->awaiting_admission; };
    line_.erase(std::remove_if(line_.begin(), line_.end(), dead), line_.end());
  }

  // Lets in those at the front that have room. One that cannot be let in, for that throws, stays.
  template <typename HasRoom, typename LetIn>
  void open(HasRoom&& has_room, LetIn&& let_in) {
    while (!line_.empty() && (!line_.front()->awaiting_admission || has_room(*line_.front()))) {
      const RequestPtr request = line_.front();
      if (request->awaiting_admission) let_in(request);
      if (std::exchange(request->awaiting_admission, false)) --waiting_;
      line_.pop_front();
    }
  }

  // The first; there must be one.
  RequestPtr take() noexcept {
    RequestPtr first;
    const auto take_one = [&first](const RequestPtr& request) { first = request; };
    open([&first](const Request&) { return first == nullptr; }, take_one);
    return first;
  }

  std::int64_t waiting() const noexcept { return waiting_; }

 private:
  std::deque<RequestPtr> line_;  // those that ended early are no longer at the admission queue
  std::int64_t waiting_ = 0;
};

}  // namespace paddleinfer
