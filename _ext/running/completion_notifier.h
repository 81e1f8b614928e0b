// Tells callers of ended requests together: with one wake-up for each reader, and one for all sleepers.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "requests/completion.h"
#include "requests/request.h"
#include "requests/wake_chain.h"
#include "running/counters.h"

namespace paddleinfer {

// Told of each request that has to do with the cache.
class EndObserver {
 public:
  EndObserver() = default;
  EndObserver(const EndObserver&) = delete;
  EndObserver& operator=(const EndObserver&) = delete;
  virtual ~EndObserver() = default;
  // The request has been claimed, and its end is not known to anybody yet. Gives others that end with it: claimed, with
  // outcomes of their own. No lock is held.
  virtual RequestChain ended(const RequestPtr& request, Outcome outcome) noexcept = 0;
};

// Nothing here fails: where there is no memory for a chain of wake-ups each sleeper is woken by itself.
class CompletionNotifier {
 public:
  // Of so many requests at most.
  CompletionNotifier(Counters& counters, std::size_t most, EndObserver* observer = nullptr) noexcept
      : counters_(counters), observer_(observer) {
    if (most <= few_.size()) return;
    try {
      sleepers_.reserve(most);
      chain_ = std::make_shared<WakeChain>();
    } catch (const std::bad_alloc&) {
      sleepers_.clear();
    }
  }

  // The one end of a request that the caller has claimed, and holds.
  void complete(const RequestPtr& request, Outcome outcome) noexcept {
    if (observer_ != nullptr && request->cache_use) {
      RequestChain others = observer_->ended(request, outcome);
      while (!others.empty()) publish_other(others.pop());
    }
    request->outcome = outcome;
    if (!request->outside_queue) count(outcome);
    if (chain_) request->wakes_next(chain_);
    const bool has_queue = request->completion_queue != nullptr;
    const bool sleeps = request->publish();
    if (sleeps && chain_) {
      sleepers_.push_back(request);
    } else if (sleeps && number_of_few_ < few_.size()) {
      few_[number_of_few_++] = request;
    } else if (sleeps) {
      request->wake();
    }
    if (has_queue) for_queues_.push(request);
  }

  void notify() noexcept {
    while (!for_queues_.empty()) notify_one_queue();
    if (chain_) return chain_->start(std::move(sleepers_));
    for (std::size_t place = 0; place < number_of_few_; ++place) few_[place]->wake();
  }

 private:
  // One more than was said, for whom the chain has no room.
  void publish_other(RequestPtr request) noexcept {
    count(request->outcome);
    const bool has_queue = request->completion_queue != nullptr;
    if (request->publish()) request->wake();
    if (has_queue) for_queues_.push(std::move(request));
  }

  void count(Outcome outcome) noexcept {
    std::atomic<std::int64_t>* counter = &counters_.closed;
    if (outcome == Outcome::result) counter = &counters_.results;
    if (outcome == Outcome::error) counter = &counters_.errors;
    if (outcome == Outcome::cancelled) counter = &counters_.cancelled;
    if (outcome == Outcome::expired) counter = &counters_.expired;
    if (outcome == Outcome::shed) counter = &counters_.shed;
    counter->fetch_add(1, std::memory_order_relaxed);
  }

  // There is one as a rule, so going through all for each is quickest.
  void notify_one_queue() noexcept {
    const std::shared_ptr<CompletionQueue> completion_queue = for_queues_.first()->completion_queue;
    RequestChain own, others;
    while (!for_queues_.empty()) {
      RequestPtr request = for_queues_.pop();
      if (request->completion_queue != completion_queue) {
        others.push(std::move(request));
        continue;
      }
      request->completion_queue = nullptr;  // a queue that holds a request must not be held by it
      own.push(std::move(request));
    }
    completion_queue->push(std::move(own));
    for_queues_.append(std::move(others));
  }

  Counters& counters_;
  EndObserver* const observer_;
  std::shared_ptr<WakeChain> chain_;
  RequestChain for_queues_;
  std::vector<RequestPtr> sleepers_;
  std::array<RequestPtr, 2> few_;  // where a chain would not pay
  std::size_t number_of_few_ = 0;
};

}  // namespace paddleinfer
