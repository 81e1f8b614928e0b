// Keeps the last requests and runs of an engine, with the instants between which each stage lies.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "requests/request.h"
#include "requests/thread_safety.h"
#include "requests/time.h"

namespace paddleinfer {

// One run of the model. Instants on the monotonic clock; an instant is 0 where it did not come so far.
struct TracedRun {
  std::uint64_t number = 0;  // counted from 1
  std::uint32_t instance = 0;
  Nanos began = 0;
  Nanos gather_end = 0;
  Nanos run_end = 0;
  Nanos scatter_end = 0;
  std::int64_t rows = 0;
  std::int64_t padded_rows = 0;
  std::int64_t requests = 0;
  std::int64_t queued_requests = 0;  // when it was over
  DispatchReason reason = DispatchReason::idle;
  bool failed = false;
  std::uint64_t bucket = 0;  // the requests' signature
};

// One request, once its caller has its end.
struct TracedRequest {
  std::uint64_t number = 0;  // counted from 1
  std::uint64_t run = 0;     // the last that it was part of; 0: none was
  Nanos call_time = 0;
  Nanos arrival = 0;
  Nanos started = 0;
  Nanos gather_end = 0;
  Nanos run_end = 0;
  Nanos scatter_end = 0;
  Nanos delivered = 0;
  Nanos hold_ns = 0;  // of the time before `started`, the end
  std::int64_t rows = 0;
  Outcome outcome = Outcome::none;
};

// The last `capacity` records of all that were pushed.
template <typename Record>
class Ring {
 public:
  void resize(std::size_t capacity) {
    std::vector<Record> kept = since(0);
    const std::size_t dropped = kept.size() > capacity ? kept.size() - capacity : 0;
    std::vector<Record> slots(capacity);
    const std::uint64_t oldest = pushed_ - (kept.size() - dropped);
    for (std::size_t place = dropped; place < kept.size(); ++place) {
      slots[(oldest + place - dropped) % capacity] = kept[place];
    }
    slots_ = std::move(slots);
    oldest_ = oldest;
  }

  std::uint64_t pushed() const noexcept { return pushed_; }

  // Its number is set: the first is 1.
  std::uint64_t push(Record record) noexcept {
    record.number = pushed_ + 1;
    slots_[pushed_ % slots_.size()] = record;
    ++pushed_;
    if (pushed_ - oldest_ > slots_.size()) ++oldest_;
    return record.number;
  }

  // What is still here of those pushed after the first `pushed`, oldest first.
  std::vector<Record> since(std::uint64_t pushed) const {
    std::vector<Record> records;
    for (std::uint64_t place = std::max(pushed, oldest_); place < pushed_; ++place) {
      records.push_back(slots_[place % slots_.size()]);
    }
    return records;
  }

 private:
  std::vector<Record> slots_;
  std::uint64_t pushed_ = 0;
  std::uint64_t oldest_ = 0;  // so many have been overwritten
};

// Recording takes a lock for some tens of nanoseconds, once a run and once a request.
class Trace {
 public:
  // Capacity 0 records nothing.
  explicit Trace(std::size_t capacity) { keep(capacity); }
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  bool on() const noexcept { return on_.load(std::memory_order_relaxed); }

  // From now on; what more than that is there already is forgotten.
  void keep(std::size_t capacity) {
    const MutexLock requests_lock(requests_mu_);
    const MutexLock runs_lock(runs_mu_);
    requests_.resize(capacity);
    runs_.resize(capacity);
    on_.store(capacity > 0, std::memory_order_relaxed);
  }

  // Its number; 0 when nothing is recorded.
  std::uint64_t record(const TracedRun& run) noexcept {
    if (!on()) return 0;
    const MutexLock lock(runs_mu_);
    return on() ? runs_.push(run) : 0;
  }

  // To be called once for each request, when its caller has what became of it.
  void record(const Request& request) noexcept {
    if (!on() || request.outside_queue) return;
    const Explanation& explanation = request.explanation;
    TracedRequest traced;
    traced.run = explanation.run;
    traced.call_time = request.call_time;
    traced.arrival = request.arrival;
    if (explanation.is_known()) {
      traced.started = request.arrival + explanation.queue_ns;
      traced.gather_end = explanation.gather_end;
      traced.run_end = explanation.run_end;
      traced.scatter_end = explanation.scatter_end;
    }
    traced.delivered = monotonic_now();
    traced.hold_ns = explanation.hold_ns;
    traced.rows = request.rows;
    traced.outcome = request.outcome;
    const MutexLock lock(requests_mu_);
    if (on()) requests_.push(traced);
  }

  // How many requests and runs have been recorded.
  std::pair<std::uint64_t, std::uint64_t> recorded() const {
    const MutexLock requests_lock(requests_mu_);
    const MutexLock runs_lock(runs_mu_);
    return {requests_.pushed(), runs_.pushed()};
  }

  std::vector<TracedRequest> requests_since(std::uint64_t recorded) const {
    const MutexLock lock(requests_mu_);
    return requests_.since(recorded);
  }

  std::vector<TracedRun> runs_since(std::uint64_t recorded) const {
    const MutexLock lock(runs_mu_);
    return runs_.since(recorded);
  }

 private:
  std::atomic<bool> on_{false};
  // Two, for instances record runs, and callers, with the GIL, requests: neither waits for the other.
  // Who takes both takes that of the requests first.
  mutable Mutex requests_mu_;
  mutable Mutex runs_mu_;
  Ring<TracedRequest> requests_ GUARDED_BY(requests_mu_);
  Ring<TracedRun> runs_ GUARDED_BY(runs_mu_);
};

}  // namespace paddleinfer
