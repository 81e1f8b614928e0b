// All buckets of a scheduler, and the order of their first requests.
#pragma once

#include <cstdint>
#include <iterator>
#include <unordered_map>
#include <utility>

#include "requests/request.h"
#include "scheduling/bucket.h"

namespace paddleinfer {

class BucketMap {
 public:
  // The request's own, made if need be. Signatures that collide by chance get different buckets.
  Bucket& of(const Request& request) {
    std::uint64_t signature = request.signature;
    for (;;) {
      const auto found = buckets_.find(signature);
      if (found == buckets_.end()) break;
      if (found->second.takes(request)) return found->second;
      signature = signature * 0x9e3779b97f4a7c15u + 1;
    }
    if (buckets_.size() >= kMost) drop_unused();
    return buckets_.emplace(signature, Bucket(request.inputs)).first->second;
  }

  // Changes nothing where it throws; cannot where the bucket has held as many before.
  void push(Bucket& bucket, const Place& place, const RequestPtr& request) {
    bucket.make_room_for_one();
    take_out(bucket);
    bucket.push(place, request);
    put_in(bucket);
  }

  RequestPtr pop(Bucket& bucket) noexcept {
    take_out(bucket);
    RequestPtr request = bucket.pop();
    put_in(bucket);
    return request;
  }

  void drop_dead() noexcept {
    for (auto& [signature, bucket] : buckets_) {
      take_out(bucket);
      bucket.drop_dead();
      put_in(bucket);
    }
  }

  // Of buckets that are not empty, the most urgent first.
  const Heads& heads() const noexcept { return heads_; }
  const std::unordered_map<std::uint64_t, Bucket>& all() const noexcept { return buckets_; }

 private:
  static constexpr std::size_t kMost = 1024;  // of shapes that nobody uses now

  void drop_unused() {
    for (auto bucket = buckets_.begin(); bucket != buckets_.end();) {
      const Bucket& known = bucket->second;
      const bool unused = known.empty() && known.running == 0 && known.arrivals.outstanding() == 0;
      bucket = unused ? buckets_.erase(bucket) : std::next(bucket);
    }
  }

  // A bucket keeps its node of the set while it is not in it: none is made or freed on the way.
  void take_out(Bucket& bucket) noexcept {
    if (!bucket.empty()) bucket.head = heads_.extract({bucket.first_place(), &bucket});
  }
  void put_in(Bucket& bucket) noexcept {
    if (bucket.empty()) return;
    bucket.head.value() = {bucket.first_place(), &bucket};
    heads_.insert(std::move(bucket.head));
  }

  std::unordered_map<std::uint64_t, Bucket> buckets_;
  Heads heads_;
};

}  // namespace paddleinfer
