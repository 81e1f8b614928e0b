// The accumulator: decides which rows run together, and when. It reads no clock, takes no lock, starts no thread.
//
// PARAMETERS AND BEHAVIOUR
//   admit(request, now)  takes a request or says why not; never blocks.
//   plan(now)            whether an idle instance has something to do now, or until when it should wait.
//   next(now)            the batch an idle instance should run, or until when there is nothing to do. Requests
//                        whose deadline has passed or can no longer be met come back, too, and never run.
//   done(batch, runs)    the batch has ended, well or badly.
//   forget(request, now) a request ended early; what still waits of it is given back at once.
//
// Requests wait in buckets, one for each set of dtypes and shapes beyond the rows, ordered by key: the deadline, or
// arrival plus the slack of the priority class, whichever is sooner. So nothing starves. The bucket whose head has
// the smallest key goes first. How many rows go, and when, is BatchRules' to say.
//
// With the adaptive policy and a deadline, a request is refused at once when what waits ahead of it and one run are
// predicted to take longer; it is shed when its turn comes too late for a run to end in time (19 of 20 such runs);
// the batch is made no larger than its most urgent request allows; and in overload, when the heads would force one
// small batch after the other, the shortest run of heads is shed whose loss lets full ones go. While nothing has run
// of late, what is predicted may be out of date: then one request is let through to find out.
//
// A request of more rows than a batch is handed out in parts, all under its one deadline; part k is due k runs
// later than its first, so that other requests may run in between.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "backlog.h"
#include "batch_rules.h"
#include "bucket_map.h"
#include "door.h"
#include "request.h"
#include "schedule.h"

namespace paddleinfer {

class Scheduler {
 public:
  // Of the priority classes.
  static constexpr Nanos kSlack[3] = {kNanosPerSecond / 10, kNanosPerSecond, 10 * kNanosPerSecond};

  explicit Scheduler(const SchedulerOptions& options) : options_(options) {}
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  void set_instances(std::int64_t count) noexcept { rules_.instances = count; }

  // What most results take from the end of their run to their callers: runs have to end that much sooner.
  void set_hand_over(double ns) noexcept { hand_over_ns_ = ns; }

  Admission admit(const RequestPtr& request, Nanos now) {
    if (request->rows > options_.max_queue_rows) return Admission::rows_over_limit;
    if (request->bytes > options_.max_queue_bytes) return Admission::bytes_over_limit;
    request->arrival = now;
    const bool room = has_room(*request);
    if (request->waits_for_room && (!room || door_.waiting() > 0)) {
      door_.push(request);
      return Admission::waits_for_room;
    }
    if (!room) {
      const bool rows = queued_rows_ + request->rows > options_.max_queue_rows;
      return rows ? Admission::too_many_rows : Admission::too_many_bytes;
    }
    Bucket& bucket = buckets_.of(*request);
    request->key = std::min(request->deadline, now + kSlack[request->priority]);
    if (predicts_lateness(*request, bucket, now)) return Admission::would_be_late;
    enqueue(request, bucket, now);
    return Admission::accepted;
  }

  // Whether the request could wait at all.
  bool fits(const Request& request) const noexcept {
    return request.rows <= options_.max_queue_rows && request.bytes <= options_.max_queue_bytes;
  }

  Plan plan(Nanos now) {
    Plan plan;
    if (rules_.idle() < 1) return plan;
    Bucket* bucket = nullptr;
    DispatchReason reason{};
    plan.wake_at = look(now, bucket, reason);
    if (bucket == nullptr) return plan;
    const std::int64_t wanted = std::max(rules_.batches(*bucket), std::int64_t(buckets_.heads().size()));
    plan.instances = std::min(rules_.idle(), std::max<std::int64_t>(1, wanted));
    return plan;
  }

  Decision next(Nanos now) {
    Decision decision;
    Bucket* bucket = nullptr;
    do {
      open_door(now);
      bucket = nullptr;
      decision.wake_at = look(now, bucket, decision.reason);
      if (bucket == nullptr) return decision;
      decision.held_since = bucket->held_since;  // taking its last request ends the hold
      decision.held_until = std::min(now, bucket->held_until);
      fill(decision, *bucket, now);
    } while (decision.batch.empty());
    bucket->end_hold();
    ++bucket->running;
    ++rules_.running;
    if (rules_.idle() < 1) interrupt_holds(now);
    decision.predicted_ns = Nanos(bucket->times.predict_ns(rows_of(decision.batch)));
    note_end(now + decision.predicted_ns);
    decision.lone_run_ns = decision.batch.front().request->lone_run_ns;
    open_door(now);
    return decision;
  }

  // `runs` are the runs of the model that this took: one, as a rule.
  void done(const Batch& batch, const std::vector<Ran>& runs, Nanos now) {
    if (batch.empty()) return;
    one_less_running();
    Bucket& bucket = buckets_.of(*batch.front().request);
    --bucket.running;
    bucket.last_ended = now;
    for (const Ran& run : runs) {
      ++batch_rows_[run.rows];
      if (!run.failed) bucket.times.note(run.rows, run.run_ns, run.first_of_its_size);
      bucket.note_memory(run);
    }
    if (batch.front().request->outside_queue) return;
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
    if (queued_requests_ > 0 || rules_.running > 0 || door_.waiting() > 0 || !fits(request)) return false;
    if (rules_.merging == Merging::yes && request.rows > options_.max_batch_size) return false;
    Bucket& bucket = buckets_.of(request);
    const double expected_ns = bucket.times.predict_ns(request.rows);
    if (expected_ns <= 0 || expected_ns > double(limit_ns) || bucket.arrivals.callers() > 1) return false;
    request.lone_run_ns = Nanos(expected_ns);
    request.arrival = now;
    begin(request, bucket);
    note_end(now + request.lone_run_ns);
    bucket.arrivals.arrived(request.rows, now);
    return true;
  }

  // A request that one instance is to run by itself.
  void begin_outside_queue(Request& request) {
    request.outside_queue = true;
    begin(request, buckets_.of(request));
  }

  // True when the request's hold on its inputs has become the caller's to let go of.
  bool forget(Request& request, Nanos now) {
    if (request.at_door) {
      door_.forget(request);
      open_door(now);  // those behind it may fit
      return true;
    }
    if (!request.in_queue) return false;
    leave_queue(buckets_.of(request), request, now);
    if (++dead_entries_ > queued_requests_ + 64) {
      buckets_.drop_dead();
      dead_entries_ = 0;
    }
    open_door(now);
    return true;
  }

  // Empties the queue, in the order it would have run, and the door.
  std::vector<RequestPtr> take_all(Nanos now) {
    std::vector<RequestPtr> taken;
    while (!buckets_.heads().empty()) {
      Bucket& bucket = *buckets_.heads().begin()->bucket;
      RequestPtr request = buckets_.pop(bucket);
      if (!request->in_queue) continue;
      leave_queue(bucket, *request, now);
      taken.push_back(std::move(request));
    }
    door_.take_all(taken);
    dead_entries_ = 0;
    return taken;
  }

  // A request of more rows than a batch that was handed out whole, to be probed: it waits again, to run in parts.
  void put_back(const RequestPtr& request) {
    Bucket& bucket = buckets_.of(*request);
    one_less_running();
    --bucket.running;
    request->next_row = 0;
    put_in(request, bucket);
  }

  // No more requests will come.
  void close() noexcept { rules_.closing = true; }

  Merging merging() const noexcept { return rules_.merging; }
  void set_merging(Merging merging) noexcept { rules_.merging = merging; }

  // Of the bucket of this request.
  LatencyModel& times_of(const Request& request) { return buckets_.of(request).times; }

  // Nanoseconds until what waits has run, by the best rate measured. 0 when nothing has been measured.
  double predicted_drain_ns() const {
    double ns = 0;
    for (const auto& [signature, bucket] : buckets_.all()) {
      ns += double(bucket.queued_rows) * bucket.times.best_row_ns();
    }
    return ns / double(std::max<std::int64_t>(1, rules_.instances));
  }

  std::int64_t queued_requests() const noexcept { return queued_requests_; }
  std::int64_t queued_rows() const noexcept { return queued_rows_; }
  std::size_t queued_bytes() const noexcept { return queued_bytes_; }
  std::int64_t running_batches() const noexcept { return rules_.running; }
  std::int64_t waiting_for_room() const noexcept { return door_.waiting(); }
  // Rows of a batch -> how many such batches have ended.
  const std::map<std::int64_t, std::int64_t>& batch_rows() const noexcept { return batch_rows_; }

 private:
  static constexpr int kBucketsToLookAt = 8;
  static constexpr double kLossToRelieve = 0.1;  // of the best rate

  // -- the way in and out

  bool has_room(const Request& request) const noexcept {
    return queued_rows_ + request.rows <= options_.max_queue_rows &&
           queued_bytes_ + request.bytes <= options_.max_queue_bytes;
  }

  // Whether it would be late: what is ahead goes in full batches as the instances come free, and the last of it in the
  // request's own batch, which is to be as large as it would be by then.
  bool predicts_lateness(const Request& request, const Bucket& bucket, Nanos now) const noexcept {
    if (!minds_deadlines(request) || out_of_date(bucket, now)) return false;
    const std::int64_t full = std::max(rules_.full_batch(bucket), std::min(request.rows, rules_.part_limit(bucket)));
    const double row_ns = std::max(1.0, bucket.times.best_row_ns());
    const double ahead_ns = double(backlog_.ahead(request.key, now));
    const std::int64_t ahead = std::min(bucket.queued_rows, std::int64_t(ahead_ns / row_ns));
    const double of_others_ns = ahead_ns - double(ahead) * row_ns;
    const std::int64_t batches = (ahead + request.rows - 1) / full;
    const std::int64_t own = batches > 0 ? full : ahead + request.rows;
    const double start = start_after(batches, bucket.times.predict_ns(full), now) +
                         std::max(0.0, of_others_ns) / double(std::max<std::int64_t>(1, rules_.instances));
    return start + bucket.times.predict_p95_ns(own) > run_by(request);
  }

  // When a batch is likely to start that has so many full ones ahead of it.
  double start_after(std::int64_t batches, double full_ns, Nanos now) const noexcept {
    const std::int64_t instances = std::max<std::int64_t>(1, rules_.instances);
    const std::int64_t place = batches % instances - rules_.idle();  // of the instance that it waits for
    const bool runs = place >= 0 && place < std::int64_t(ends_.size());
    const Nanos free = runs ? std::max(now, ends_[std::size_t(place)]) : now;
    return double(free) + double(batches / instances) * full_ns;
  }

  void note_end(Nanos end) { ends_.insert(std::upper_bound(ends_.begin(), ends_.end(), end), end); }

  // A run is over: it is taken for the one that was to be over first.
  void one_less_running() noexcept {
    --rules_.running;
    if (!ends_.empty() && std::int64_t(ends_.size()) > rules_.running) ends_.erase(ends_.begin());
  }

  // When its run must be over.
  double run_by(const Request& request) const noexcept { return double(request.deadline) - hand_over_ns_; }

  bool minds_deadlines(const Request& request) const noexcept {
    return options_.policy == Policy::adaptive && request.deadline != kNever;
  }

  // Nothing is known, or nothing has run for longer than a run takes, and nothing does.
  static bool out_of_date(const Bucket& bucket, Nanos now) noexcept {
    if (!bucket.times.knows_anything()) return true;
    return bucket.running == 0 && bucket.queued_rows == 0 &&
           double(now - bucket.last_ended) > bucket.times.predict_p95_ns(1);
  }

  void enqueue(const RequestPtr& request, Bucket& bucket, Nanos now) {
    put_in(request, bucket);
    bucket.arrivals.arrived(request->rows, now);
    const double alone_ns = bucket.times.predict_ns(request->rows);
    if (alone_ns > 0 && bucket.arrivals.callers() == 1) request->lone_run_ns = Nanos(alone_ns);
  }

  void put_in(const RequestPtr& request, Bucket& bucket) {
    request->in_queue = true;
    request->rows_unfinished = request->rows;
    request->row_cost_ns = Nanos(bucket.times.best_row_ns());
    queued_rows_ += request->rows;
    queued_bytes_ += request->bytes;
    ++queued_requests_;
    ++bucket.queued_requests;
    bucket.queued_rows += request->rows;
    backlog_.add(request->key, request->rows * request->row_cost_ns);
    buckets_.push(bucket, {request->key, next_order_++}, request);
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
    backlog_.remove(request.key, rows * request.row_cost_ns);
    if (request.next_row < request.rows) return;
    request.in_queue = false;
    queued_bytes_ -= request.bytes;
    --queued_requests_;
    if (--bucket.queued_requests == 0) bucket.end_hold();
  }

  void open_door(Nanos now) {
    door_.open([this](const Request& request) { return has_room(request); },
               [this, now](const RequestPtr& request) {
                 request->key = std::min(request->deadline, now + kSlack[request->priority]);
                 enqueue(request, buckets_.of(*request), now);
               });
  }

  // -- what runs

  void begin(Request& request, Bucket& bucket) noexcept {
    request.rows_unfinished = request.rows;
    request.next_row = request.rows;
    ++bucket.running;
    ++rules_.running;
  }

  // The bucket that should go now, none if there is none; then until when the first one is held back.
  Nanos look(Nanos now, Bucket*& bucket, DispatchReason& reason) {
    Nanos wake_at = kNever;
    int looked_at = 0;
    for (const BucketMap::Head& head : buckets_.heads()) {
      const Nanos hold = rules_.hold_until(*head.bucket, now, reason);
      if (hold <= now) {
        bucket = head.bucket;
        return kNever;
      }
      wake_at = std::min(wake_at, hold);
      if (++looked_at == kBucketsToLookAt) break;
    }
    return wake_at;
  }

  void interrupt_holds(Nanos now) noexcept {
    int looked_at = 0;
    for (const BucketMap::Head& head : buckets_.heads()) {
      head.bucket->interrupt_hold(now);
      if (++looked_at == kBucketsToLookAt) break;
    }
  }

  // Fills the decision from one bucket. Or drops its heads, where those have ended: another may be due sooner then.
  void fill(Decision& decision, Bucket& bucket, Nanos now) {
    if (drop_late(decision, bucket, now)) return;
    relieve(decision, bucket, now);
    const bool merges = rules_.merging == Merging::yes || rules_.merging == Merging::probe;
    const std::int64_t limit = merges ? rules_.batch_limit(bucket) : 1;
    const std::int64_t part_limit = rules_.part_limit(bucket);
    std::int64_t rows = 0;
    double soonest = double(kNever);
    while (!bucket.empty()) {
      drop_late(decision, bucket, now);
      if (bucket.empty()) break;
      const Request& head = *bucket.first();
      const std::int64_t left = head.rows - head.next_row;
      const bool in_parts = rules_.merging == Merging::yes && left > part_limit;
      std::int64_t taken = in_parts ? std::min(limit, part_limit) - rows : left;
      if (rows > 0 && (taken <= 0 || rows + taken > limit)) break;
      if (minds_deadlines(head)) soonest = std::min(soonest, run_by(head));
      if (soonest < double(kNever)) {
        const std::int64_t in_time = bucket.times.rows_within(soonest - double(now), rows + taken);
        if (in_parts && rows == 0) taken = std::max<std::int64_t>(1, std::min(taken, in_time));
        if (rows > 0 && in_time < rows + taken && bucket.times.knows_anything()) {
          decision.reason = DispatchReason::deadline;
          break;
        }
      }
      if (in_parts) {
        hand_out_part(decision, bucket, taken);
      } else {
        hand_out(decision, bucket, left);
      }
      rows += taken;
    }
    if (rules_.merging == Merging::probe && (decision.batch.size() > 1 || rows > options_.max_batch_size)) {
      decision.probe = true;
      rules_.merging = Merging::probing;
    }
  }

  // Drops heads that have ended, that have expired, and that can no longer be in time. Whether there were any.
  bool drop_late(Decision& decision, Bucket& bucket, Nanos now) {
    bool dropped = false;
    for (; !bucket.empty(); dropped = true) {
      Request& head = *bucket.first();
      if (!head.in_queue) {  // ended early, and given back then
        buckets_.pop(bucket);
        --dead_entries_;
        continue;
      }
      const bool expired = head.deadline <= now;
      if (!expired && !(minds_deadlines(head) && too_late(bucket, head, now))) break;
      const RequestPtr late = buckets_.pop(bucket);
      leave_queue(bucket, *late, now);
      (expired ? decision.expired : decision.shed).push_back(late);
    }
    return dropped;
  }

  bool too_late(const Bucket& bucket, const Request& head, Nanos now) const noexcept {
    // The only one, with nothing running: it may as well find out whether what is predicted still holds.
    if (bucket.running == 0 && bucket.queued_requests == 1) return false;
    const std::int64_t rows = std::min(head.rows - head.next_row, rules_.part_limit(bucket));
    return bucket.times.predict_p95_ns(rows) > run_by(head) - double(now);
  }

  // In overload: when the most urgent request forces a small batch, and the one behind that batch would force another,
  // batches stay small for as long as requests keep coming. So the shortest run of heads is shed whose loss lets a
  // full batch go, unless small batches would lose less of all that waits.
  void relieve(Decision& decision, Bucket& bucket, Nanos now) {
    const std::int64_t full = rules_.full_batch(bucket);
    if (rules_.merging != Merging::yes || !minds_deadlines(*bucket.first()) || bucket.queued_rows <= full) return;
    const LatencyModel& times = bucket.times;
    const auto allowed = [&](const Request& head, double start) {
      return head.deadline == kNever ? full : times.rows_within(run_by(head) - start, full);
    };
    const std::int64_t rows = std::max<std::int64_t>(1, allowed(*bucket.first(), double(now)));
    const double rows_ns = times.predict_ns(rows);
    const double loss = 1 - double(rows) / rows_ns * times.predict_ns(full) / double(full);
    if (rows == full || loss < kLossToRelieve) return;

    std::vector<std::pair<Place, RequestPtr>> heads;
    std::size_t prefix = 0;   // of heads, that would have to go
    std::int64_t passed = 0;  // rows
    std::int64_t lost = 0;    // rows of the prefix
    bool stays_small = false;
    while (!bucket.empty() && passed <= full * std::max<std::int64_t>(1, rules_.instances)) {
      const Request& head = *bucket.first();
      if (head.in_queue) {
        if (prefix == 0 && allowed(head, double(now)) == full) {
          prefix = heads.size();
          lost = passed;
        }
        if (!stays_small && passed >= rows) {
          stays_small = allowed(head, double(now) + rows_ns) < full;
          if (!stays_small) break;
        }
        if (stays_small && prefix > 0) break;
        passed += head.rows - head.next_row;
      }
      const Place place = bucket.first_place();
      heads.push_back({place, buckets_.pop(bucket)});
    }
    const bool pays = stays_small && prefix > 0 && double(lost) < loss * double(bucket.queued_rows - lost);
    for (std::size_t place = 0; place < heads.size(); ++place) {
      RequestPtr& request = heads[place].second;
      if (!request->in_queue) {
        --dead_entries_;
      } else if (pays && place < prefix) {
        leave_queue(bucket, *request, now);
        decision.shed.push_back(std::move(request));
      } else {
        buckets_.push(bucket, heads[place].first, request);
      }
    }
  }

  // All that is left of the head.
  void hand_out(Decision& decision, Bucket& bucket, std::int64_t rows) {
    RequestPtr request = buckets_.pop(bucket);
    const std::int64_t first_row = request->next_row;
    request->next_row = request->rows;
    take_out(bucket, *request, rows);
    decision.batch.push_back({std::move(request), first_row, rows});
  }

  // The first rows of what is left of the head, which goes back to its place among the others.
  void hand_out_part(Decision& decision, Bucket& bucket, std::int64_t rows) {
    RequestPtr request = buckets_.pop(bucket);
    if (!request->joined) request->joined = std::make_unique<Joined>(request->rows);
    request->hold_inputs();
    decision.batch.push_back({request, request->next_row, rows});
    request->next_row += rows;
    take_out(bucket, *request, rows);
    const std::int64_t left = request->rows - request->next_row;
    backlog_.remove(request->key, left * request->row_cost_ns);
    request->key = std::min(request->deadline, request->key + Nanos(bucket.times.predict_ns(rows)));
    backlog_.add(request->key, left * request->row_cost_ns);
    buckets_.push(bucket, {request->key, next_order_++}, request);
  }

  const SchedulerOptions options_;
  BatchRules rules_{options_};
  BucketMap buckets_;
  std::vector<Nanos> ends_;  // when what runs is predicted to be over; rising
  Backlog backlog_;          // nanoseconds of work, by key
  Door door_;
  std::uint64_t next_order_ = 0;
  std::int64_t dead_entries_ = 0;  // ended early, still in a bucket
  std::int64_t queued_requests_ = 0;
  std::int64_t queued_rows_ = 0;
  std::size_t queued_bytes_ = 0;
  double hand_over_ns_ = 0;
  std::map<std::int64_t, std::int64_t> batch_rows_;
};

}  // namespace paddleinfer
