// The ends of requests, told together: one wake-up for each reader, one for all who sleep.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "completion.h"
#include "counters.h"
#include "request.h"

namespace paddleinfer {

class Ends {
 public:
  // `several`: a chain of wake-ups pays.
  Ends(Counters& counters, bool several) : counters_(counters) {
    if (several) chain_ = std::make_shared<WakeChain>();
  }

  // The one end of a request that the caller has claimed, and holds.
  void add(const RequestPtr& request, Outcome outcome) {
    request->outcome = outcome;
    count(outcome);
    if (chain_) request->wakes_next(chain_);
    // A queue that holds a request must not be held by it.
    if (request->sink) for_sink(std::exchange(request->sink, nullptr)).push_back(request);
    if (request->publish()) sleepers_.push_back(request);
  }

  void tell() {
    for (auto& [sink, ended] : for_sinks_) sink->push(std::move(ended));
    if (chain_) {
      chain_->start(std::move(sleepers_));
    } else {
      for (const RequestPtr& request : sleepers_) request->wake();
    }
  }

 private:
  void count(Outcome outcome) noexcept {
    std::atomic<std::int64_t>* counter = &counters_.closed;
    if (outcome == Outcome::result) counter = &counters_.results;
    if (outcome == Outcome::error) counter = &counters_.errors;
    if (outcome == Outcome::cancelled) counter = &counters_.cancelled;
    if (outcome == Outcome::expired) counter = &counters_.expired;
    if (outcome == Outcome::shed) counter = &counters_.shed;
    counter->fetch_add(1, std::memory_order_relaxed);
  }

  // There is one as a rule, so a search is quickest.
  std::vector<RequestPtr>& for_sink(std::shared_ptr<CompletionQueue> sink) {
    for (auto& [other, ended] : for_sinks_) {
      if (other == sink) return ended;
    }
    for_sinks_.push_back({std::move(sink), {}});
    return for_sinks_.back().second;
  }

  Counters& counters_;
  std::shared_ptr<WakeChain> chain_;
  std::vector<std::pair<std::shared_ptr<CompletionQueue>, std::vector<RequestPtr>>> for_sinks_;
  std::vector<RequestPtr> sleepers_;
};

}  // namespace paddleinfer
