// Answers requests without a run: out of the cache of results, or together with an equal request that runs.
//
// A request with a key is looked up as it is admitted, under the dispatcher's lock. It is answered at once where its
// result is kept; it follows an equal one that is under way; or it goes into the queue and leads those that come after.
// A leader that ends with a result is copied to its followers, and kept. One that ends in another way ends alone: its
// followers go into the queue themselves, each with its own deadline and priority.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "requests/cache_use.h"
#include "requests/request.h"
#include "requests/thread_safety.h"
#include "running/completion_notifier.h"
#include "running/core_state.h"
#include "running/execution.h"

namespace paddleinfer {

class CachedAnswers final : public EndObserver {
 public:
  explicit CachedAnswers(CoreState& state) : state_(state) {
    if (state.options.cache_bytes > 0) state.end_observer = this;
  }

  // Whether it needs no run of its own: where it has an answer, answer() is to be called once the lock is free.
  static bool takes(CoreState& state, const RequestPtr& request, Nanos now) noexcept REQUIRES(state.mu) {
    if (!request->cache_use) return false;
    request->cache_use->answer = state.cache.find(request->cache_use->key);
    if (!request->cache_use->answer && !state.equal_requests.follow(request, now)) return false;
    request->arrival = now;
    return true;
  }

  // Whether takes() would be true of it, or nearly.
  static bool may_take(const CoreState& state, const Request& request) noexcept REQUIRES(state.mu) {
    return request.cache_use &&
           (state.cache.has(request.cache_use->key) || state.equal_requests.has(request.cache_use->key));
  }

  // It is about to run by itself, queued or not.
  static void runs(CoreState& state, const RequestPtr& request) noexcept REQUIRES(state.mu) {
    if (!request->cache_use) return;
    state.equal_requests.lead(request);
    Counters::add(state.counters.cache_misses);
  }

  // Ends a request whose result was kept.
  void answer(const RequestPtr& request) noexcept {
    request->release_inputs(*state_.releases);
    if (!request->claim(Request::State::queued)) return;
    const std::shared_ptr<const CachedResult> result = std::move(request->cache_use->answer);
    const Outcome outcome = copy_to(*request, result->outputs);
    Explanation& explanation = request->explanation;
    explanation.reason = DispatchReason::cached;
    explanation.gather_end = explanation.run_end = request->arrival;
    explanation.scatter_end = monotonic_now();
    if (outcome == Outcome::result) {
      Counters::add(state_.counters.cache_hits);
      Counters::add(state_.counters.cache_hit_ns, explanation.scatter_end - request->arrival);
      count_result(*request, explanation.scatter_end);
    }
    CompletionNotifier notifier(state_.counters, 1);
    notifier.complete(request, outcome);
    notifier.notify();
  }

  RequestChain ended(const RequestPtr& request, Outcome outcome) noexcept override {
    const Nanos began = monotonic_now();
    std::shared_ptr<const CachedResult> kept;
    if (outcome == Outcome::result) kept = copied(*request);
    std::vector<RequestPtr> followers;
    Outcome left = outcome;  // what becomes of those that have not gone their own way
    WokenInstances woken;
    {
      const MutexLock lock(state_.mu);
      if (kept && !may_be_a_neighbours(*request)) state_.cache.insert(request->cache_use->key, std::move(kept));
      followers = state_.equal_requests.end(*request);
      const bool requeues = !followers.empty() && outcome != Outcome::result && outcome != Outcome::closed;
      if (requeues) left = requeue(followers, outcome == Outcome::error);
      if (requeues || state_.closing) woken = state_.instances_to_wake(monotonic_now());
    }
    woken.wake();
    if (outcome == Outcome::result) {
      Counters::add(state_.counters.cache_miss_ns, monotonic_now() - began);
      return answered(followers, *request);
    }
    return ended_as(left, followers);
  }

 private:
  std::shared_ptr<const CachedResult> copied(const Request& request) const noexcept {
    if (ResultCache::bytes_of(request.outputs) > state_.options.cache_bytes) return nullptr;
    try {
      auto result = std::make_shared<CachedResult>();
      for (const OwnedTensor& output : request.outputs) result->outputs.push_back(copy_whole(view_of(output)));
      return result;
    } catch (const std::bad_alloc&) {  // then it is not kept
      return nullptr;
    }
  }

  static Outcome copy_to(Request& request, const std::vector<OwnedTensor>& outputs) noexcept {
    try {
      for (const OwnedTensor& output : outputs) request.outputs.push_back(copy_whole(view_of(output)));
      return Outcome::result;
    } catch (const std::bad_alloc&) {
      request.outputs.clear();
      request.failure = Execution::out_of_memory();
      return Outcome::error;
    }
  }

  // It came out of a run with others, and since then it has turned out that rows may not share one.
  bool may_be_a_neighbours(const Request& request) const noexcept {
    return state_.unbatchable.load(std::memory_order_acquire) && request.explanation.batch_rows != request.rows;
  }

  // They go their own way: all at once where each has to find out for itself (`apart`), else one leads the others.
  // What is left in `followers` cannot, and ends as it says.
  Outcome requeue(std::vector<RequestPtr>& followers, bool apart) noexcept REQUIRES(state_.mu) {
    if (state_.closing && !state_.instances.any_takes_batches()) return Outcome::closed;
    const Nanos now = monotonic_now();
    const auto sooner = [](const RequestPtr& a, const RequestPtr& b) {
      return EqualRequests::due(*a, a->arrival) < EqualRequests::due(*b, b->arrival);
    };
    std::sort(followers.begin(), followers.end(), sooner);
    std::size_t done = 0;
    for (; done < followers.size(); ++done) {
      const RequestPtr& request = followers[done];
      if (request->ended()) {
        request->release_inputs(*state_.releases);
        continue;
      }
      try {
        state_.scheduler.enqueue_accepted(request, now);
      } catch (const std::bad_alloc&) {
        break;
      }
      if (apart) {
        Counters::add(state_.counters.cache_misses);
        continue;
      }
      runs(state_, request);
      if (request->cache_use->role != CacheUse::Role::leads) continue;  // no memory for it
      Request& leader = *request;                                       // which the queue holds
      followers.erase(followers.begin(), followers.begin() + std::ptrdiff_t(done) + 1);
      state_.equal_requests.hand_over(followers, leader);
      return Outcome::error;
    }
    followers.erase(followers.begin(), followers.begin() + std::ptrdiff_t(done));
    return Outcome::error;
  }

  // Those of `followers` that nobody has ended before, with the leader's result.
  RequestChain answered(const std::vector<RequestPtr>& followers, const Request& leader) noexcept {
    RequestChain chain;
    for (const RequestPtr& follower : followers) {
      follower->release_inputs(*state_.releases);
      if (!follower->claim(Request::State::queued)) continue;
      const Outcome outcome = copy_to(*follower, leader.outputs);
      if (outcome == Outcome::result) {
        follower->explanation = seen_from(*follower, leader);
        Counters::add(state_.counters.cache_coalesced);
        count_result(*follower, monotonic_now());
      }
      follower->outcome = outcome;
      chain.push(follower);
    }
    return chain;
  }

  // Those of `requests` that nobody has ended before; an error is that there is no memory for them.
  RequestChain ended_as(Outcome outcome, const std::vector<RequestPtr>& requests) noexcept {
    RequestChain chain;
    for (const RequestPtr& request : requests) {
      request->release_inputs(*state_.releases);
      if (!request->claim(Request::State::queued)) continue;
      if (outcome == Outcome::error) request->failure = Execution::out_of_memory();
      request->outcome = outcome;
      chain.push(request);
    }
    return chain;
  }

  // The leader's run, as one who came later saw it.
  static Explanation seen_from(const Request& follower, const Request& leader) noexcept {
    Explanation explanation = leader.explanation;
    explanation.reason = DispatchReason::coalesced;
    explanation.queue_ns = std::max<Nanos>(0, leader.arrival + explanation.queue_ns - follower.arrival);
    explanation.hold_ns = std::min(explanation.hold_ns, explanation.queue_ns);
    const Nanos started = follower.arrival + explanation.queue_ns;
    explanation.gather_end = std::max(explanation.gather_end, started);
    explanation.run_end = std::max(explanation.run_end, explanation.gather_end);
    explanation.scatter_end = std::max(explanation.scatter_end, explanation.run_end);
    return explanation;
  }

  void count_result(const Request& request, Nanos now) noexcept {
    Counters::add(state_.counters.result_ns, now - request.arrival);
    state_.counters.result_durations.add(now - request.arrival);
  }

  CoreState& state_;
};

}  // namespace paddleinfer
