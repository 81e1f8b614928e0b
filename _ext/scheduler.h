// The accumulator: decides which rows run together, and when. It reads no clock, takes no lock, starts no thread.
//
// PARAMETERS AND BEHAVIOUR
//   admit(request, now)  takes a request or says why not; never blocks.
//   plan(now)            whether an idle instance has something to do now, or until when it should wait.
//   next(now)            the batch an idle instance should run, or until when there is nothing to do.
//                        Requests whose deadline has passed come back in `expired` and never run.
//   done(batch, runs)    the batch has ended, well or badly.
//   forget(request, now) a request ended early; what still waits of it is given back at once.
//
// Requests wait in buckets, one for each set of dtypes and shapes beyond the rows, ordered by key: the deadline,
// or arrival plus kSlack, whichever is sooner. The bucket whose head has the smallest key goes first.
//
// A batch holds at most max_batch_size rows; not more than the size at which measured rows per second peak; not
// more than its share of what waits, divided over the idle instances; not more than the rows of all callers
// divided over the instances, so that callers who wait for their answers keep every instance busy.
//
// An idle instance starts at once, unless waiting for one more row is predicted to pay (Bucket::hold_until); only
// the last idle instance may hold, and only while callers of late are missing.
//
// A request of more rows than a batch is handed out in parts, all under its one deadline; part k is due k runs
// later than its first, so that other requests may run in between.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bucket.h"
#include "door.h"
#include "request.h"

namespace paddleinfer {

// Whether rows of several requests may share a run.
enum class Merging : std::uint8_t {
  no,
  probe,    // unknown: the first batch that could hold several is to be probed
  probing,  // an instance does so; until it knows nothing is merged
  yes,
};

struct SchedulerOptions {
  std::int64_t max_batch_size = 32;
  std::int64_t max_queue_rows = 4096;
  std::size_t max_queue_bytes = std::size_t{256} << 20;
  Nanos max_hold = kNever;  // of one request, for company; 0 never holds
  Merging merging = Merging::yes;
};

enum class Admission : std::uint8_t {
  accepted,
  waits_for_room,
  too_many_rows,
  too_many_bytes,
  rows_over_limit,
  bytes_over_limit
};

struct Decision {
  Batch batch;
  bool probe = false;          // find out first whether its rows may share a run
  Nanos lone_run_ns = kNever;  // predicted, when its only caller is the only one of late
  std::vector<RequestPtr> expired;
  Nanos wake_at = kNever;
};

struct Plan {
  std::int64_t instances = 0;  // that have something to do now
  Nanos wake_at = kNever;      // when there may be something for one, if nothing happens before
};

// One run of the model.
struct Ran {
  std::int64_t rows = 0;
  Nanos run_ns = 0;
  bool failed = false;
  bool first_of_its_size = false;  // on its instance: slow for reasons of its own
};

class Scheduler {
 public:
  static constexpr Nanos kSlack = kNanosPerSecond;

  explicit Scheduler(const SchedulerOptions& options) : options_(options), merging_(options.merging) {}

  void set_instances(std::int64_t count) noexcept { instances_ = count; }

  Admission admit(const RequestPtr& request, Nanos now) {
    if (request->rows > options_.max_queue_rows) return Admission::rows_over_limit;
    if (request->bytes > options_.max_queue_bytes) return Admission::bytes_over_limit;
    const bool room = has_room(*request);
    request->arrival = now;
    if (request->waits_for_room && (!room || door_.waiting() > 0)) {
      door_.push(request);
      return Admission::waits_for_room;
    }
    if (!room) {
      const bool rows = queued_rows_ + request->rows > options_.max_queue_rows;
      return rows ? Admission::too_many_rows : Admission::too_many_bytes;
    }
    enqueue(request, now);
    return Admission::accepted;
  }

  // Whether the request could wait at all.
  bool fits(const Request& request) const noexcept {
    return request.rows <= options_.max_queue_rows && request.bytes <= options_.max_queue_bytes;
  }

  Plan plan(Nanos now) {
    Plan plan;
    if (idle_instances() < 1) return plan;
    Bucket* bucket = nullptr;
    plan.wake_at = look(now, bucket);
    if (bucket == nullptr) return plan;
    const std::int64_t limit = batch_limit(*bucket);
    const std::int64_t batches =
        merging_ == Merging::yes ? (bucket->queued_rows + limit - 1) / limit : bucket->queued_requests;
    plan.instances = std::min(idle_instances(), std::max({batches, std::int64_t(heads_.size()), std::int64_t{1}}));
    return plan;
  }

  Decision next(Nanos now) {
    Decision decision;
    do {
      open_door(now);
      Bucket* bucket = nullptr;
      decision.wake_at = look(now, bucket);
      if (bucket == nullptr) return decision;
      fill(decision, *bucket, now);
    } while (decision.batch.empty());
    ++running_batches_;
    decision.lone_run_ns = decision.batch.front().request->lone_run_ns;
    open_door(now);
    return decision;
  }

  // `runs` are the runs of the model that this took: one, as a rule.
  void done(const Batch& batch, const std::vector<Ran>& runs, Nanos now) {
    if (batch.empty()) return;
    --running_batches_;
    Bucket& bucket = bucket_of(*batch.front().request);
    for (const Ran& run : runs) {
      ++batch_rows_[run.rows];
      if (!run.failed) bucket.times.note(run.rows, run.run_ns, run.first_of_its_size);
    }
    std::int64_t over = 0;
    for (const Slice& slice : batch) {
      slice.request->rows_unfinished -= slice.rows;
      if (slice.request->rows_unfinished == 0) ++over;
    }
    bucket.arrivals.left(over, rows_of(batch), now);
  }

  // A request that runs on its caller's thread, if nothing else is queued or running and this caller is alone.
  // `limit_ns` is how long it may be predicted to take.
  bool begin_inline(Request& request, Nanos limit_ns, Nanos now) {
    if (queued_requests_ > 0 || running_batches_ > 0 || door_.waiting() > 0 || !fits(request)) return false;
    if (merging_ == Merging::yes && request.rows > options_.max_batch_size) return false;
    Bucket& bucket = bucket_of(request);
    const double expected_ns = bucket.times.predict_ns(request.rows);
    if (expected_ns <= 0 || expected_ns > double(limit_ns) || bucket.arrivals.callers() > 1) return false;
    request.arrival = now;
    request.rows_unfinished = request.rows;
    request.next_row = request.rows;
    bucket.arrivals.arrived(request.rows, now);
    ++running_batches_;
    return true;
  }

  // True when the request's hold on its inputs has become the caller's to let go of.
  bool forget(Request& request, Nanos now) {
    if (request.at_door) {
      door_.forget(request);
      open_door(now);  // those behind it may fit
      return true;
    }
    if (!request.in_queue) return false;
    Bucket& bucket = bucket_of(request);
    leave_queue(bucket, request, now);
    if (++dead_entries_ > queued_requests_ + 64) drop_dead_entries();
    open_door(now);
    return true;
  }

  // Empties the queue, in the order it would have run, and the door.
  std::vector<RequestPtr> take_all(Nanos now) {
    std::vector<RequestPtr> taken;
    while (!heads_.empty()) {
      Bucket& bucket = *heads_.begin()->bucket;
      RequestPtr request = pop_head(bucket);
      if (!request->in_queue) continue;
      leave_queue(bucket, *request, now);
      taken.push_back(std::move(request));
    }
    door_.take_all(taken);
    dead_entries_ = 0;
    return taken;
  }

  // No more requests will come.
  void close() noexcept { closing_ = true; }

  // A request of more rows than a batch that was handed out whole, to be probed: it waits again, to run in parts.
  void put_back(const RequestPtr& request) {
    --running_batches_;
    Bucket& bucket = bucket_of(*request);
    request->next_row = 0;
    put_in(request, bucket);
    push(bucket, {std::min(request->deadline, request->arrival + kSlack), next_order_++}, request);
  }

  Merging merging() const noexcept { return merging_; }
  void set_merging(Merging merging) noexcept { merging_ = merging; }

  // Nanoseconds until what waits has run, by the best rate measured. 0 when nothing has been measured.
  double predicted_drain_ns() const {
    double ns = 0;
    for (const auto& [signature, bucket] : buckets_) ns += double(bucket.queued_rows) * bucket.times.best_row_ns();
    return ns / double(std::max<std::int64_t>(1, instances_));
  }

  std::int64_t queued_requests() const noexcept { return queued_requests_; }
  std::int64_t queued_rows() const noexcept { return queued_rows_; }
  std::size_t queued_bytes() const noexcept { return queued_bytes_; }
  std::int64_t running_batches() const noexcept { return running_batches_; }
  std::int64_t waiting_for_room() const noexcept { return door_.waiting(); }
  // Rows of a batch -> how many such batches have ended.
  const std::map<std::int64_t, std::int64_t>& batch_rows() const noexcept { return batch_rows_; }

 private:
  static constexpr int kBucketsToLookAt = 8;
  static constexpr std::size_t kBucketsToKeep = 1024;  // of shapes that nobody uses now

  struct Head {
    Place place;
    Bucket* bucket;
    bool operator<(const Head& other) const noexcept { return place < other.place; }
  };

  std::int64_t idle_instances() const noexcept { return instances_ - running_batches_; }

  // -- buckets

  // Its own, made if need be. Signatures that collide by chance get different buckets.
  Bucket& bucket_of(const Request& request) {
    std::uint64_t signature = request.signature;
    for (;;) {
      const auto found = buckets_.find(signature);
      if (found == buckets_.end()) break;
      if (found->second.takes(request)) return found->second;
      signature = signature * 0x9e3779b97f4a7c15u + 1;
    }
    if (buckets_.size() >= kBucketsToKeep) drop_unused_buckets();
    return buckets_.emplace(signature, Bucket(request.inputs)).first->second;
  }

  void drop_unused_buckets() {
    for (auto bucket = buckets_.begin(); bucket != buckets_.end();) {
      const bool unused = bucket->second.empty() && bucket->second.arrivals.outstanding() == 0;
      bucket = unused ? buckets_.erase(bucket) : std::next(bucket);
    }
  }

  void push(Bucket& bucket, const Place& place, const RequestPtr& request) {
    if (!bucket.empty()) heads_.erase({bucket.first_place(), &bucket});
    bucket.push(place, request);
    heads_.insert({bucket.first_place(), &bucket});
  }

  RequestPtr pop_head(Bucket& bucket) {
    heads_.erase({bucket.first_place(), &bucket});
    RequestPtr request = bucket.pop();
    if (!bucket.empty()) heads_.insert({bucket.first_place(), &bucket});
    return request;
  }

  // Each entry is dropped at most once, so this costs O(1) amortised a request.
  void drop_dead_entries() {
    heads_.clear();
    for (auto& [signature, bucket] : buckets_) {
      bucket.drop_dead();
      if (!bucket.empty()) heads_.insert({bucket.first_place(), &bucket});
    }
    dead_entries_ = 0;
  }

  // -- the way in and out

  bool has_room(const Request& request) const noexcept {
    return queued_rows_ + request.rows <= options_.max_queue_rows &&
           queued_bytes_ + request.bytes <= options_.max_queue_bytes;
  }

  void enqueue(const RequestPtr& request, Nanos now) {
    Bucket& bucket = bucket_of(*request);
    put_in(request, bucket);
    bucket.arrivals.arrived(request->rows, now);
    const double alone_ns = bucket.times.predict_ns(request->rows);
    if (alone_ns > 0 && bucket.arrivals.callers() == 1) request->lone_run_ns = Nanos(alone_ns);
    push(bucket, {std::min(request->deadline, now + kSlack), next_order_++}, request);
  }

  void put_in(const RequestPtr& request, Bucket& bucket) noexcept {
    request->in_queue = true;
    request->rows_unfinished = request->rows;
    queued_rows_ += request->rows;
    queued_bytes_ += request->bytes;
    ++queued_requests_;
    ++bucket.queued_requests;
    bucket.queued_rows += request->rows;
  }

  // The rows that wait are given up.
  void leave_queue(Bucket& bucket, Request& request, Nanos now) {
    const std::int64_t rows = request.rows - request.next_row;
    request.next_row = request.rows;
    request.rows_unfinished -= rows;
    bucket.arrivals.left(request.rows_unfinished == 0 ? 1 : 0, rows, now);
    take_out(bucket, request, rows);
  }

  void take_out(Bucket& bucket, Request& request, std::int64_t rows) noexcept {
    queued_rows_ -= rows;
    bucket.queued_rows -= rows;
    if (request.next_row < request.rows) return;
    request.in_queue = false;
    queued_bytes_ -= request.bytes;
    --queued_requests_;
    if (--bucket.queued_requests == 0) bucket.end_hold();
  }

  void open_door(Nanos now) {
    door_.open([this](const Request& request) { return has_room(request); },
               [this, now](const RequestPtr& request) { enqueue(request, now); });
  }

  // -- what runs

  // The bucket that should go now, none if there is none; then until when the first one is held back.
  Nanos look(Nanos now, Bucket*& bucket) {
    Nanos wake_at = kNever;
    int looked_at = 0;
    for (const Head& head : heads_) {
      const Nanos hold = hold_until(*head.bucket, now);
      if (hold <= now) {
        bucket = head.bucket;
        return kNever;
      }
      wake_at = std::min(wake_at, hold);
      if (++looked_at == kBucketsToLookAt) break;
    }
    return wake_at;
  }

  // The rows past which a request is handed out in parts.
  std::int64_t part_limit(const Bucket& bucket) const noexcept {
    return std::min(options_.max_batch_size, bucket.times.peak_rows());
  }

  // The rows of a batch that is worth no more waiting.
  std::int64_t full_batch(const Bucket& bucket) const noexcept {
    const std::int64_t of_callers = divided(bucket.arrivals.peak_rows(), instances_);
    return std::min({options_.max_batch_size, bucket.times.best_rows(), of_callers});
  }

  // The rows that an idle instance takes of those that wait, while others are idle too.
  std::int64_t batch_limit(const Bucket& bucket) const noexcept {
    return std::min(full_batch(bucket), divided(bucket.queued_rows, idle_instances()));
  }

  // Rounded up; at least 1.
  static std::int64_t divided(std::int64_t rows, std::int64_t by) noexcept {
    by = std::max<std::int64_t>(1, by);
    return std::max<std::int64_t>(1, (rows + by - 1) / by);
  }

  // Until when the bucket should be held back; `now`: it should go.
  Nanos hold_until(Bucket& bucket, Nanos now) {
    // Nobody knows yet whether it may run in parts; then it is all that may run at once.
    if (merging_ == Merging::probing && bucket.first()->in_queue && bucket.first()->rows > options_.max_batch_size) {
      return kNever;
    }
    const bool pointless = merging_ != Merging::yes || options_.max_hold == 0 || closing_ || idle_instances() > 1 ||
                           bucket.queued_rows == 0 || bucket.queued_rows >= full_batch(bucket);
    if (!pointless) return bucket.hold_until(now, options_.max_hold);
    bucket.end_hold();
    return now;
  }

  // Fills the decision from one bucket. Or drops its head, when that has ended: another may be due sooner then.
  void fill(Decision& decision, Bucket& bucket, Nanos now) {
    const std::int64_t limit = merging_ == Merging::yes || merging_ == Merging::probe ? batch_limit(bucket) : 1;
    std::int64_t rows = 0;
    while (!bucket.empty()) {
      const RequestPtr& head = bucket.first();
      if (!head->in_queue) {  // ended early, and given back then
        pop_head(bucket);
        --dead_entries_;
        if (decision.batch.empty()) return;
        continue;
      }
      if (head->deadline <= now) {
        const RequestPtr late = pop_head(bucket);
        leave_queue(bucket, *late, now);
        decision.expired.push_back(late);
        if (decision.batch.empty()) return;
        continue;
      }
      const std::int64_t left = head->rows - head->next_row;
      if (merging_ == Merging::yes && left > part_limit(bucket)) {
        if (rows >= std::min(limit, part_limit(bucket))) break;
        rows += hand_out_part(decision, bucket, std::min(limit, part_limit(bucket)) - rows);
        continue;
      }
      if (rows > 0 && rows + left > limit) break;
      hand_out(decision, bucket, left);
      rows += left;
    }
    bucket.end_hold();
    if (merging_ == Merging::probe && (decision.batch.size() > 1 || rows > options_.max_batch_size)) {
      decision.probe = true;
      merging_ = Merging::probing;
    }
  }

  // All that is left of the head.
  void hand_out(Decision& decision, Bucket& bucket, std::int64_t rows) {
    RequestPtr request = pop_head(bucket);
    const std::int64_t first_row = request->next_row;
    request->next_row = request->rows;
    take_out(bucket, *request, rows);
    decision.batch.push_back({std::move(request), first_row, rows});
  }

  // The first rows of what is left of the head, which goes back to its place among the others.
  std::int64_t hand_out_part(Decision& decision, Bucket& bucket, std::int64_t rows) {
    const Nanos key = bucket.first_place().key;
    RequestPtr request = pop_head(bucket);
    if (!request->joined) request->joined = std::make_unique<Joined>(request->rows);
    request->hold_inputs();
    decision.batch.push_back({request, request->next_row, rows});
    request->next_row += rows;
    take_out(bucket, *request, rows);
    const Nanos due = std::min(request->deadline, key + Nanos(bucket.times.predict_ns(rows)));
    push(bucket, {due, next_order_++}, request);
    return rows;
  }

  const SchedulerOptions options_;
  Merging merging_;
  bool closing_ = false;
  std::int64_t instances_ = 1;
  std::unordered_map<std::uint64_t, Bucket> buckets_;
  std::set<Head> heads_;  // of buckets that are not empty
  Door door_;
  std::uint64_t next_order_ = 0;
  std::int64_t dead_entries_ = 0;  // ended early, still in a bucket
  std::int64_t queued_requests_ = 0;
  std::int64_t queued_rows_ = 0;
  std::size_t queued_bytes_ = 0;
  std::int64_t running_batches_ = 0;
  std::map<std::int64_t, std::int64_t> batch_rows_;
};

}  // namespace paddleinfer
