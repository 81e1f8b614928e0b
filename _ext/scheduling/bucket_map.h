// All buckets of a scheduler, and the order of their first requests.
#pragma once

#include <cstdint>
#include <iterator>
#include <set>
#include <unordered_map>
#include <utility>

#include "bucket.h"
#include "request.h"

namespace paddleinfer {

class BucketMap {
 public:
  struct Head {
    Place place;
    Bucket* bucket;
    bool operator<(const Head& other) const noexcept { return place < other.place; }
  };

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

  void push(Bucket& bucket, const Place& place, const RequestPtr& request) {
    if (!bucket.empty()) heads_.erase({bucket.first_place(), &bucket});
    bucket.push(place, request);
    heads_.insert({bucket.first_place(), &bucket});
  }

  RequestPtr pop(Bucket& bucket) {
    heads_.erase({bucket.first_place(), &bucket});
    RequestPtr request = bucket.pop();
    if (!bucket.empty()) heads_.insert({bucket.first_place(), &bucket});
    return request;
  }

  void drop_dead() {
    heads_.clear();
    for (auto& [signature, bucket] : buckets_) {
      bucket.drop_dead();
      if (!bucket.empty()) heads_.insert({bucket.first_place(), &bucket});
    }
  }

  // Of buckets that are not empty, the most urgent first.
  const std::set<Head>& heads() const noexcept { return heads_; }
  const std::unordered_map<std::uint64_t, Bucket>& all() const noexcept { return buckets_; }

 private:
  static constexpr std::size_t kMost = 1024;  // of shapes that nobody uses now

  void drop_unused() {
    for (auto bucket = buckets_.begin(); bucket != buckets_.end();) {
      const bool unused = bucket->second.empty() && bucket->second.arrivals.outstanding() == 0;
      bucket = unused ? buckets_.erase(bucket) : std::next(bucket);
    }
  }

  std::unordered_map<std::uint64_t, Bucket> buckets_;
  std::set<Head> heads_;
};

}  // namespace paddleinfer
