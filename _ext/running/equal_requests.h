// Lets requests that are equal follow the one of them that runs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <unordered_map>
#include <utility>
#include <vector>

#include "requests/cache_use.h"
#include "requests/request.h"
#include "scheduling/request_queue.h"

namespace paddleinfer {

// Guarded by the dispatcher's lock, as a whole. Those that follow are in no queue: they have room of their own, as much
// as the queue has.
class EqualRequests {
 public:
  EqualRequests(std::int64_t max_rows, std::size_t max_bytes) : max_rows_(max_rows), max_bytes_(max_bytes) {}

  bool has(const CacheKey& key) const noexcept { return leaders_.count(key) > 0; }
  // Whether any may have to run yet, as the one that it follows may end without a result.
  bool any_follows() const noexcept { return followers_ > 0; }

  // From now on equal ones follow it, and no longer the one that led before; those that did stay with that.
  void lead(const RequestPtr& request) noexcept {
    try {
      leaders_[request->cache_use->key] = request;
      request->cache_use->role = CacheUse::Role::leads;
    } catch (const std::bad_alloc&) {  // then it runs for itself
    }
  }

  // Whether it follows one now. Not one that may be due later than itself and has not started, and not where there is
  // no room.
  bool follow(const RequestPtr& request, Nanos now) noexcept {
    const auto place = leaders_.find(request->cache_use->key);
    if (place == leaders_.end()) return false;
    Request& leader = *place->second;
    if (!leader.started() && due(leader, leader.arrival) > due(*request, now)) return false;
    if (rows_ + request->rows > max_rows_ || bytes_ + request->bytes > max_bytes_) return false;
    return attach(request, leader);
  }

  // It has ended: nobody follows it any more. Those that did.
  std::vector<RequestPtr> end(Request& leader) noexcept {
    std::vector<RequestPtr> followers;
    CacheUse& use = *leader.cache_use;
    if (use.role != CacheUse::Role::leads) return followers;
    const auto place = leaders_.find(use.key);
    if (place != leaders_.end() && place->second.get() == &leader) leaders_.erase(place);
    use.role = CacheUse::Role::none;
    followers = std::move(use.followers);
    use.followers.clear();
    for (const RequestPtr& follower : followers) detach(*follower);
    return followers;
  }

  // Those of one that has ended follow another; which cannot, for there is no memory, stay in `followers`.
  void hand_over(std::vector<RequestPtr>& followers, Request& leader) noexcept {
    while (!followers.empty() && attach(followers.back(), leader)) followers.pop_back();
  }

  // A request that ends before the one that it follows. True when its inputs are the caller's to let go of.
  bool forget(Request& request) noexcept {
    if (!request.cache_use || request.cache_use->role != CacheUse::Role::follows) return false;
    std::vector<RequestPtr>& followers = request.cache_use->leader->cache_use->followers;
    detach(request);
    const auto place = std::find_if(followers.begin(), followers.end(),
                                    [&request](const RequestPtr& other) { return other.get() == &request; });
    if (place != followers.end()) followers.erase(place);
    return true;
  }

  static Nanos due(const Request& request, Nanos arrival) noexcept { return RequestQueue::key_of(request, arrival); }

 private:
  bool attach(const RequestPtr& request, Request& leader) noexcept {
    try {
      leader.cache_use->followers.push_back(request);
    } catch (const std::bad_alloc&) {
      return false;
    }
    request->cache_use->role = CacheUse::Role::follows;
    request->cache_use->leader = &leader;
    ++followers_;
    rows_ += request->rows;
    bytes_ += request->bytes;
    return true;
  }

  void detach(Request& request) noexcept {
    request.cache_use->role = CacheUse::Role::none;
    request.cache_use->leader = nullptr;
    --followers_;
    rows_ -= request.rows;
    bytes_ -= request.bytes;
  }

  const std::int64_t max_rows_;
  const std::size_t max_bytes_;
  std::unordered_map<CacheKey, RequestPtr, HashOfKey> leaders_;
  // What follows.
  std::int64_t followers_ = 0;
  std::int64_t rows_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace paddleinfer
