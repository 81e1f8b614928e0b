// What is to happen on a simulated clock, in order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "requests/time.h"

namespace paddleinfer {

struct Event {
  // In the order in which they happen at one instant.
  enum class Kind : std::uint8_t { opens, run_ends, call, delivery, wake };

  Nanos time = 0;
  Kind kind = Kind::call;
  std::uint64_t order = 0;
  std::size_t replica = 0;
  std::size_t number = 0;  // of a request, or of an instance

  bool operator>(const Event& other) const noexcept {
    if (time != other.time) return time > other.time;
    return kind != other.kind ? kind > other.kind : order > other.order;
  }
};

class Events {
 public:
  bool empty() const noexcept { return heap_.empty(); }
  const Event& first() const noexcept { return heap_.front(); }

  void add(Event event) {
    event.order = next_order_++;
    heap_.push_back(event);
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }
  Event take() noexcept {
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    const Event event = heap_.back();
    heap_.pop_back();
    return event;
  }

 private:
  std::vector<Event> heap_;
  std::uint64_t next_order_ = 0;
};

}  // namespace paddleinfer
