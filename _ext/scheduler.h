// The accumulator: decides which requests run next. It reads no clock, takes no lock, starts no thread.
//
// PARAMETERS AND BEHAVIOUR
//   admit(request, now)  takes a request or says why not; never blocks.
//   next(now)            the batch an idle instance should run, or until when there is nothing to do.
//                        Requests whose deadline has passed come back in `expired` and never run.
//   done(batch)          the batch has ended, well or badly.
//   forget(request)      a queued request ended early; its rows and bytes are given back at once.
// One bucket per signature, first come first served; the bucket whose head came first goes first; a
// batch is one request.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "request.h"

namespace paddleinfer {

struct SchedulerOptions {
  std::int64_t max_queue_rows = 4096;
  std::size_t max_queue_bytes = std::size_t{256} << 20;
};

enum class Admission { accepted, too_many_rows, too_many_bytes, rows_over_limit, bytes_over_limit };

struct Decision {
  Batch batch;
  std::vector<RequestPtr> expired;
  Nanos wake_at = kNever;
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options) : options_(options) {}

  Admission admit(const RequestPtr& request, Nanos now) {
    if (request->rows > options_.max_queue_rows) return Admission::rows_over_limit;
    if (request->bytes > options_.max_queue_bytes) return Admission::bytes_over_limit;
    if (queued_rows_ + request->rows > options_.max_queue_rows) return Admission::too_many_rows;
    if (queued_bytes_ + request->bytes > options_.max_queue_bytes) return Admission::too_many_bytes;
    request->arrival = now;
    request->in_queue = true;
    queued_rows_ += request->rows;
    queued_bytes_ += request->bytes;
    ++queued_requests_;
    Bucket& bucket = buckets_[request->signature];
    bucket.entries.push_back({next_order_++, request});
    if (bucket.entries.size() == 1) heads_.insert({bucket.entries.front().order, request->signature});
    return Admission::accepted;
  }

  // Whether the request could wait at all.
  bool fits(const Request& request) const noexcept {
    return request.rows <= options_.max_queue_rows && request.bytes <= options_.max_queue_bytes;
  }

  Decision next(Nanos now) {
    Decision decision;
    while (!heads_.empty()) {
      const std::uint64_t signature = heads_.begin()->second;
      RequestPtr request = pop_head(signature);
      if (!request->in_queue) {  // ended early, and given back then
        --dead_entries_;
        continue;
      }
      give_back(*request);
      if (request->deadline <= now) {
        decision.expired.push_back(std::move(request));
        continue;
      }
      decision.batch.push_back(std::move(request));
      ++running_batches_;
      break;
    }
    return decision;
  }

  void done(const Batch& batch) noexcept {
    if (!batch.empty()) --running_batches_;
  }

  // A batch of one that never queued: it runs on its caller's thread.
  void begin_inline() noexcept { ++running_batches_; }

  void forget(Request& request) {
    if (!request.in_queue) return;
    give_back(request);
    if (++dead_entries_ > queued_requests_ + 64) drop_dead_entries();
  }

  // Empties the queue, oldest first.
  std::vector<RequestPtr> take_all() {
    std::vector<RequestPtr> taken;
    while (!heads_.empty()) {
      RequestPtr request = pop_head(heads_.begin()->second);
      if (!request->in_queue) continue;
      give_back(*request);
      taken.push_back(std::move(request));
    }
    dead_entries_ = 0;
    return taken;
  }

  std::int64_t queued_requests() const noexcept { return queued_requests_; }
  std::int64_t queued_rows() const noexcept { return queued_rows_; }
  std::size_t queued_bytes() const noexcept { return queued_bytes_; }
  std::int64_t running_batches() const noexcept { return running_batches_; }

 private:
  struct Entry {
    std::uint64_t order;
    RequestPtr request;
  };
  struct Bucket {
    std::deque<Entry> entries;
  };

  RequestPtr pop_head(std::uint64_t signature) {
    const auto found = buckets_.find(signature);
    std::deque<Entry>& entries = found->second.entries;
    heads_.erase({entries.front().order, signature});
    RequestPtr request = std::move(entries.front().request);
    entries.pop_front();
    if (entries.empty()) {
      buckets_.erase(found);
    } else {
      heads_.insert({entries.front().order, signature});
    }
    return request;
  }

  // Each entry is dropped at most once, so this costs O(1) amortised a request.
  void drop_dead_entries() {
    heads_.clear();
    for (auto bucket = buckets_.begin(); bucket != buckets_.end();) {
      std::deque<Entry> alive;
      for (Entry& entry : bucket->second.entries) {
        if (entry.request->in_queue) alive.push_back(std::move(entry));
      }
      bucket->second.entries.swap(alive);
      if (bucket->second.entries.empty()) {
        bucket = buckets_.erase(bucket);
      } else {
        heads_.insert({bucket->second.entries.front().order, bucket->first});
        ++bucket;
      }
    }
    dead_entries_ = 0;
  }

  void give_back(Request& request) noexcept {
    request.in_queue = false;
    queued_rows_ -= request.rows;
    queued_bytes_ -= request.bytes;
    --queued_requests_;
  }

  const SchedulerOptions options_;
  std::unordered_map<std::uint64_t, Bucket> buckets_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> heads_;  // (order of the head, signature)
  std::uint64_t next_order_ = 0;
  std::int64_t dead_entries_ = 0;  // ended early, still in a bucket
  std::int64_t queued_requests_ = 0;
  std::int64_t queued_rows_ = 0;
  std::size_t queued_bytes_ = 0;
  std::int64_t running_batches_ = 0;
};

}  // namespace paddleinfer
