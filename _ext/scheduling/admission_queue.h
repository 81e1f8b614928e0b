// Where requests wait for room in a full queue, first come first served.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "request.h"

namespace paddleinfer {

class Door {
 public:
  void push(const RequestPtr& request) {
    request->at_door = true;
    ++waiting_;
    line_.push_back(request);
  }

  // A request ended early. Each entry is dropped at most once, so this costs O(1) amortised.
  void forget(Request& request) {
    request.at_door = false;
    --waiting_;
    if (line_.size() <= 2 * std::size_t(waiting_) + 64) return;
    const auto dead = [](const RequestPtr& other) { return !other->at_door; };
    line_.erase(std::remove_if(line_.begin(), line_.end(), dead), line_.end());
  }

  // Lets in those at the front that have room.
  template <typename HasRoom, typename LetIn>
  void open(HasRoom&& has_room, LetIn&& let_in) {
    while (!line_.empty() && (!line_.front()->at_door || has_room(*line_.front()))) {
      const RequestPtr request = std::move(line_.front());
      line_.pop_front();
      if (!request->at_door) continue;
      request->at_door = false;
      --waiting_;
      let_in(request);
    }
  }

  void take_all(std::vector<RequestPtr>& taken) {
    open([](const Request&) { return true; }, [&taken](const RequestPtr& request) { taken.push_back(request); });
  }

  std::int64_t waiting() const noexcept { return waiting_; }

 private:
  std::deque<RequestPtr> line_;  // those that ended early are no longer at the door
  std::int64_t waiting_ = 0;
};

}  // namespace paddleinfer
