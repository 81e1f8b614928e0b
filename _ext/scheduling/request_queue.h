// Holds what is queued: the buckets with their rows and bytes, and the requests that wait for room.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "requests/request.h"
#include "requests/room.h"
#include "scheduling/admission_queue.h"
#include "scheduling/backlog.h"
#include "scheduling/bucket_map.h"
#include "scheduling/scheduler_types.h"

namespace paddleinfer {

class RequestQueue {
 public:
  // Of the priority classes.
  static constexpr Nanos kSlack[3] = {kNanosPerSecond / 10, kNanosPerSecond, 10 * kNanosPerSecond};

  explicit RequestQueue(const SchedulerOptions& options) : options_(options) {}

  // -- room

  // Whether the request could wait at all.
  bool fits(const Request& request) const noexcept { return wanted_bytes(request) <= options_.max_queue_bytes; }

  // The first of several that are let in together has to have room for all.
  static std::int64_t wanted_rows(const Request& request) noexcept {
    return std::max(request.rows, request.rows_together);
  }
  static std::size_t wanted_bytes(const Request& request) noexcept {
    return std::max(request.bytes, request.bytes_together);
  }

  bool has_room(const Request& request) const noexcept {
    const bool for_bytes = queued_bytes_ + wanted_bytes(request) <= options_.max_queue_bytes;
    return request.follows || (has_room_for_rows(request) && for_bytes);
  }

  // One request of more rows than may wait is nobody's burden where nothing else waits.
  bool has_room_for_rows(const Request& request) const noexcept {
    return queued_requests_ == 0 || queued_rows_ + wanted_rows(request) <= options_.max_queue_rows;
  }

  // -- in

  static Nanos key_of(const Request& request, Nanos now) noexcept {
    return std::min(request.deadline, now + kSlack[request.priority]);
  }

  void enqueue(const RequestPtr& request, Bucket& bucket, Nanos now) {
    insert(request, bucket);
    bucket.arrivals.arrived(request->rows, now);
    const double alone_ns = bucket.times.predict_ns(request->rows);
    if (alone_ns > 0 && bucket.arrivals.callers() == 1) request->sole_caller_run_ns = Nanos(alone_ns);
  }

  // One whose caller waits already. It is due as it was when it came.
  void enqueue_accepted(const RequestPtr& request, Nanos now) {
    Bucket& bucket = buckets.of(*request);
    request->key = key_of(*request, request->arrival);
    insert(request, bucket);
    bucket.arrivals.arrived(request->rows, now);
  }

  void insert(const RequestPtr& request, Bucket& bucket) {
    buckets.push(bucket, {request->key, next_order_}, request);
    ++next_order_;
    request->in_queue = true;
    request->rows_unfinished = request->rows;
    request->row_cost_ns = Nanos(bucket.times.best_row_ns());
    queued_rows_ += request->rows;
    queued_bytes_ += request->bytes;
    ++queued_requests_;
    ++bucket.queued_requests;
    bucket.queued_rows += request->rows;
    backlog_.add(request->key, request->rows * request->row_cost_ns);
  }

  // A request in parts that cannot be joined: it waits again, to run whole, whatever of it has run or runs.
  void requeue_whole(const RequestPtr& request) {
    if (request->in_one_run) return;
    Bucket& bucket = buckets.of(*request);
    const std::int64_t rows = request->next_row;  // that had been handed out
    const std::int64_t unfinished = request->rows_unfinished + rows;
    if (request->in_queue) {
      queued_rows_ += rows;
      bucket.queued_rows += rows;
      backlog_.add(request->key, rows * request->row_cost_ns);
    } else {
      insert(request, bucket);
      request->hold_inputs();
    }
    request->in_one_run = true;
    request->next_row = 0;
    request->rows_unfinished = unfinished;
    bucket.arrivals.again(rows);
  }

  // -- the admission queue

  // Whether somebody could be let in, and there was no memory for it.
  bool is_stuck() const noexcept { return is_stuck_; }
  void admit_waiting(Nanos now) noexcept {
    const auto let_in = [this, now](const RequestPtr& request) {
      request->key = key_of(*request, now);
      enqueue(request, buckets.of(*request), now);
    };
    try {
      admission_queue.open([this](const Request& request) { return has_room(request); }, let_in);
      is_stuck_ = false;
    } catch (const std::bad_alloc&) {
      is_stuck_ = true;
    }
  }

  // -- out

  // True when the request's hold on its inputs has become the caller's to let go of.
  bool forget(Request& request, Nanos now) noexcept {
    if (request.awaiting_admission) {
      admission_queue.forget(request);
      admit_waiting(now);  // those behind it may fit
      return true;
    }
    if (!request.in_queue) return false;
    leave_queue(buckets.of(request), request, now);
    if (++dead_entries_ > queued_requests_ + 64) {
      buckets.drop_dead();
      dead_entries_ = 0;
    }
    admit_waiting(now);
    return true;
  }

  // The rows that wait are given up.
  void leave_queue(Bucket& bucket, Request& request, Nanos now) noexcept {
    const std::int64_t rows = request.rows - request.next_row;
    request.next_row = request.rows;
    request.rows_unfinished -= rows;
    bucket.arrivals.departed(request.rows_unfinished == 0 ? 1 : 0, rows, now);
    take_out(bucket, request, rows);
  }

  void take_out(Bucket& bucket, Request& request, std::int64_t rows) noexcept {
    queued_rows_ -= rows;
    bucket.queued_rows -= rows;
    backlog_.remove(request.key, rows * request.row_cost_ns);
    if (request.next_row < request.rows) return;
    request.in_queue = false;
    queued_bytes_ -= request.bytes;
    --queued_requests_;
    if (--bucket.queued_requests == 0) bucket.end_delay();
  }

  // Takes requests out of the queue, in the order in which they would have run, and then from the admission queue,
  // until there are no more or no more places. How many.
  template <std::size_t kPlaces>
  std::size_t drain(std::array<RequestPtr, kPlaces>& taken, Nanos now) noexcept {
    std::size_t count = 0;
    while (count < kPlaces && !buckets.heads().empty()) {
      Bucket& bucket = *buckets.heads().begin()->bucket;
      RequestPtr request = buckets.pop(bucket);
      if (!request->in_queue) {
        --dead_entries_;
        continue;
      }
      leave_queue(bucket, *request, now);
      taken[count++] = std::move(request);
    }
    while (count < kPlaces && admission_queue.waiting() > 0) taken[count++] = admission_queue.take();
    return count;
  }

  // All that is left of the head.
  void hand_out(Decision& decision, Bucket& bucket, std::int64_t rows) {
    make_room(decision.batch);
    RequestPtr request = buckets.pop(bucket);
    const std::int64_t first_row = request->next_row;
    request->next_row = request->rows;
    take_out(bucket, *request, rows);
    decision.batch.push_back({std::move(request), first_row, rows});
  }

  // The first rows of what is left of the head, which goes back to its place among the others.
  void hand_out_part(Decision& decision, Bucket& bucket, std::int64_t rows) {
    make_room(decision.batch);
    if (Request& head = *bucket.first(); !head.partial_result) {
      head.partial_result = std::make_unique<PartialResult>(head.rows);
      if (!head.ended()) head.keep_inputs_to_the_end();  // else its end is past
    }
    const RequestPtr request = buckets.pop(bucket);
    request->hold_inputs();
    decision.batch.push_back({request, request->next_row, rows});
    request->next_row += rows;
    take_out(bucket, *request, rows);
    const std::int64_t rows_left = request->rows - request->next_row;
    backlog_.remove(request->key, rows_left * request->row_cost_ns);
    request->key = std::min(request->deadline, request->key + Nanos(bucket.times.predict_ns(rows)));
    backlog_.add(request->key, rows_left * request->row_cost_ns);
    buckets.push(bucket, {request->key, next_order_++}, request);
  }

  // Takes the head out. Null where it has ended early: then nothing of it waits.
  RequestPtr pop(Bucket& bucket) noexcept {
    RequestPtr request = buckets.pop(bucket);
    if (request->in_queue) return request;
    --dead_entries_;
    return nullptr;
  }

  // -- how much

  // Work in nanoseconds whose key is not later.
  std::int64_t work_ahead(Nanos key, Nanos now) const noexcept { return backlog_.ahead(key, now); }
  // Nanoseconds until what waits has run on one instance, by the best rate measured. 0 when nothing has been measured.
  double work_ns() const noexcept {
    double ns = 0;
    for (const auto& [signature, bucket] : buckets.all()) {
      ns += double(bucket.queued_rows) * bucket.times.best_row_ns();
    }
    return ns;
  }
  std::int64_t requests() const noexcept { return queued_requests_; }
  std::int64_t rows() const noexcept { return queued_rows_; }
  std::size_t bytes() const noexcept { return queued_bytes_; }

  BucketMap buckets;
  AdmissionQueue admission_queue;

 private:
  const SchedulerOptions& options_;
  Backlog backlog_;        // nanoseconds of work, by key
  bool is_stuck_ = false;  // there was no memory to let somebody in
  std::uint64_t next_order_ = 0;
  std::int64_t dead_entries_ = 0;  // ended early, still in a bucket
  std::int64_t queued_requests_ = 0;
  std::int64_t queued_rows_ = 0;
  std::size_t queued_bytes_ = 0;
};

}  // namespace paddleinfer
