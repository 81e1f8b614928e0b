// Decides which rows run together, and when. It reads no clock, takes no lock and starts no thread.
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
// the smallest key goes first. RequestQueue holds them; BatchingPolicy says how many rows go, and when; Deadlines and
// Shedding say who can be in time; BatchAssembly fills the batch.
//
// With the adaptive policy and a deadline, a request is refused at once when what waits ahead of it and one run are
// predicted to take longer, and shed at once when even its own run would, as quick as such runs have recently been; it
// is shed when its turn comes too late for a run to end in time (19 of 20 such runs); the batch is made no larger than
// its most urgent request allows; and in overload, when the heads would force one small batch after the other, the
// shortest run of heads is shed whose loss lets full ones go. What is predicted may be out of date, so an idle engine
// lets one request through to find out, and again after a while; and first runs alone predict nothing.
//
// A request of more rows than a batch is handed out in parts, all under its one deadline; part k is due k runs
// later than its first, so that other requests may run in between.
//
// What throws, for there is no memory, has changed nothing. Nothing that ends a run or a request throws.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <new>
#include <vector>

#include "requests/request.h"
#include "scheduling/batch_assembly.h"
#include "scheduling/batching_policy.h"
#include "scheduling/deadlines.h"
#include "scheduling/demand.h"
#include "scheduling/predicted_runs.h"
#include "scheduling/request_queue.h"
#include "scheduling/scheduler_types.h"
#include "scheduling/shedding.h"

namespace paddleinfer {

class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options) : options_(options) { status_.merging = options.merging; }
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  void set_instances(std::int64_t count) {
    predicted_runs_.make_room_for(count);
    status_.instances = count;
  }

  // What most results take from the end of their run to their callers: runs have to end that much sooner.
  void set_delivery_latency(double ns) noexcept { deadlines_.delivery_latency_ns = ns; }

  Admission admit(const RequestPtr& request, Nanos now) {
    if (!queue_.fits(*request)) return Admission::bytes_over_limit;
    request->arrival = now;
    request->has_reader = request->completion_queue != nullptr;
    Bucket& bucket = queue_.buckets.of(*request);
    const Admission admission = admit(request, bucket, now);
    // What cannot be in time at all would not be with more instances either.
    if (admission != Admission::infeasible) demand_.came(*request, bucket, deadlines_.run_by(*request) - double(now));
    return admission;
  }

  // A request that was accepted before, and has not needed the queue until now; it has had room of its own.
  void enqueue_accepted(const RequestPtr& request, Nanos now) { queue_.enqueue_accepted(request, now); }

  // Whether the request could wait at all.
  bool fits(const Request& request) const noexcept { return queue_.fits(request); }

  // What is in the way of a request.
  QueueSnapshot snapshot() const noexcept {
    return {queue_.rows(), queue_.bytes(), status_.running, predicted_drain_ns()};
  }

  Plan plan(Nanos now) {
    Plan plan;
    if (status_.idle() < 1) return plan;
    Bucket* bucket = nullptr;
    DispatchReason reason{};
    plan.wake_at = select_bucket(now, bucket, reason);
    if (queue_.is_stuck()) plan.wake_at = std::min(plan.wake_at, now + kMemoryPause);
    if (bucket == nullptr) return plan;
    const std::int64_t wanted = std::max(policy_.batches(*bucket), std::int64_t(queue_.buckets.heads().size()));
    plan.served_soon = wanted == 1 && may_wait_for_short_run(*bucket, now);
    plan.instances = std::min(status_.idle(), std::max<std::int64_t>(1, wanted));
    return plan;
  }

  Decision next(Nanos now) {
    Decision decision;
    Bucket* bucket = nullptr;
    do {
      queue_.admit_waiting(now);
      bucket = nullptr;
      decision.wake_at = select_bucket(now, bucket, decision.reason);
      if (queue_.is_stuck()) decision.wake_at = std::min(decision.wake_at, now + kMemoryPause);
      if (bucket == nullptr) return decision;
      decision.delayed_since = bucket->delayed_since;  // taking its last request ends the delay
      decision.delayed_until = std::min(now, bucket->delayed_until);
      try {
        assembly_.fill(decision, *bucket, now);
      } catch (const std::bad_alloc&) {
        if (decision.expired.empty() && decision.shed.empty()) throw;
        decision.wake_at = now;  // these are out of the queue
        return decision;
      }
    } while (decision.batch.empty());
    bucket->end_delay();
    ++bucket->running;
    ++status_.running;
    if (status_.idle() < 1) interrupt_delays(now);
    decision.predicted_ns = Nanos(bucket->times.predict_ns(rows_of(decision.batch)));
    predicted_runs_.add(now + decision.predicted_ns);
    latest_is_short_ =
        decision.batch.front().request->has_reader && decision.predicted_ns > 0 && decision.predicted_ns <= kShortRun;
    decision.sole_caller_run_ns = decision.batch.front().request->sole_caller_run_ns;
    queue_.admit_waiting(now);
    return decision;
  }

  // `runs` are the runs of the model that this took: one, as a rule.
  void done(const Batch& batch, const std::vector<RunRecord>& runs, Nanos now) noexcept {
    if (batch.empty()) return;
    --status_.running;
    predicted_runs_.remove_first();
    Bucket& bucket = queue_.buckets.of(*batch.front().request);
    --bucket.running;
    bucket.last_ended = now;
    const bool traffic = !batch.front().request->outside_queue;
    const bool on_trial =
        std::any_of(batch.begin(), batch.end(), [](const Slice& slice) { return slice.request->on_trial; });
    for (const RunRecord& run : runs) {
      if (traffic && !run.internal) count_batch(run.rows);
      if (!run.failed) bucket.note_doubt(run, on_trial);
      if (!run.failed) bucket.times.note(run.rows, run.usual_ns(), run.is_unusual(), run.size_changed);
      bucket.note_memory(run);
    }
    if (!traffic) return;
    std::int64_t over = 0;
    for (const Slice& slice : batch) {
      slice.request->rows_unfinished -= slice.rows;
      if (slice.request->rows_unfinished == 0) ++over;
    }
    bucket.arrivals.departed(over, rows_of(batch), now);
  }

  // A request that runs on its caller's thread, if nothing else is queued or running and this caller is alone.
  // `limit_ns` is how long it may be predicted to take.
  bool begin_inline(Request& request, Nanos limit_ns, Nanos now) {
    if (queue_.requests() > 0 || status_.running > 0 || queue_.admission_queue.waiting() > 0 || !queue_.fits(request))
      return false;
    if (status_.merging == Merging::yes && request.rows > options_.max_batch_size) return false;
    Bucket& bucket = queue_.buckets.of(request);
    const double expected_ns = bucket.times.predict_ns(request.rows);
    if (expected_ns <= 0 || expected_ns > double(limit_ns) || bucket.arrivals.callers() > 1) return false;
    request.sole_caller_run_ns = Nanos(expected_ns);
    request.arrival = now;
    demand_.came(request, bucket, deadlines_.run_by(request) - double(now));
    begin(request, bucket);
    predicted_runs_.add(now + request.sole_caller_run_ns);
    bucket.arrivals.arrived(request.rows, now);
    return true;
  }

  // A request of the engine's own that one instance is to run by itself.
  void begin_outside_queue(Request& request) { begin(request, queue_.buckets.of(request)); }

  // True when the request's hold on its inputs has become the caller's to let go of.
  bool forget(Request& request, Nanos now) noexcept { return queue_.forget(request, now); }

  // Takes requests out of the queue, in the order in which they would have run, and then from the admission queue,
  // until there are no more or no more places. How many.
  template <std::size_t kPlaces>
  std::size_t drain(std::array<RequestPtr, kPlaces>& taken, Nanos now) noexcept {
    return queue_.drain(taken, now);
  }

  // A request of more rows than a batch that was handed out whole, to be probed: it waits again, to run in parts.
  void requeue(const RequestPtr& request) {
    Bucket& bucket = queue_.buckets.of(*request);
    queue_.insert(request, bucket);
    request->next_row = 0;
    --status_.running;
    predicted_runs_.remove_first();
    --bucket.running;
  }

  // A request in parts that cannot be joined: it waits again, to run whole, whatever of it has run or runs.
  void requeue_whole(const RequestPtr& request) { queue_.requeue_whole(request); }

  // Whether as many instances as short runs keep busy are in such a run.
  bool runs_are_short() const noexcept { return latest_is_short_ && status_.running >= options_.short_run_instances; }

  // No more requests will come.
  void close() noexcept { status_.closing = true; }

  Merging merging() const noexcept { return status_.merging; }
  void set_merging(Merging merging) noexcept { status_.merging = merging; }
  // A batch was probed, and its rows were together what they are alone.
  void note_probed() noexcept { assembly_.note_probed(); }

  // Of the bucket of this request.
  LatencyModel& times_of(const Request& request) { return queue_.buckets.of(request).times; }

  // Nanoseconds until what waits has run, by the best rate measured. 0 when nothing has been measured.
  double predicted_drain_ns() const noexcept {
    return queue_.work_ns() / double(std::max<std::int64_t>(1, status_.instances));
  }

  // Nanoseconds until a request that came now would start, behind all that waits, as far as that is known.
  double predicted_delay_ns(Nanos now) const noexcept {
    return predicted_runs_.start_after(0, 0, now) - double(now) + predicted_drain_ns();
  }

  // Nanoseconds that one instance would take for all that has come, refused or not, in runs as good as its deadlines
  // allow.
  double offered_work_ns() const noexcept { return demand_.work_ns(); }

  std::int64_t queued_requests() const noexcept { return queue_.requests(); }
  std::int64_t queued_rows() const noexcept { return queue_.rows(); }
  std::size_t queued_bytes() const noexcept { return queue_.bytes(); }
  std::int64_t running_batches() const noexcept { return status_.running; }
  std::int64_t waiting_for_room() const noexcept { return queue_.admission_queue.waiting(); }
  // Rows of a batch -> how many such batches of traffic have ended.
  const std::map<std::int64_t, std::int64_t>& batch_rows() const noexcept { return batch_rows_; }

 private:
  static constexpr int kBucketsToLookAt = 8;
  static constexpr Nanos kNotUrgent = 10 * kShortRun;
  static constexpr Nanos kMemoryPause = 1'000'000;  // before what found no memory is tried again

  Admission admit(const RequestPtr& request, Bucket& bucket, Nanos now) {
    const bool room = queue_.has_room(*request);
    if (request->waits_for_room && (!room || queue_.admission_queue.waiting() > 0)) {
      queue_.admission_queue.push(request);
      return Admission::waits_for_room;
    }
    if (!room) {
      return queue_.has_room_for_rows(*request) ? Admission::too_many_bytes : Admission::too_many_rows;
    }
    request->key = RequestQueue::key_of(*request, now);
    const Admission admission = deadlines_.admission_of(*request, bucket, now);
    if (admission == Admission::accepted) queue_.enqueue(request, bucket, now);
    return admission;
  }

  void begin(Request& request, Bucket& bucket) noexcept {
    request.rows_unfinished = request.rows;
    request.next_row = request.rows;
    ++bucket.running;
    ++status_.running;
  }

  // Whether what waits of it may be left to an instance that is about to be free.
  bool may_wait_for_short_run(Bucket& bucket, Nanos now) const noexcept {
    return options_.policy == Policy::adaptive && options_.max_delay != 0 &&
           status_.running >= options_.short_run_instances && bucket.first()->deadline - now > kNotUrgent &&
           policy_.is_short(bucket, bucket.queued_rows) && predicted_runs_.frees_one_soon(now);
  }

  // The bucket that should go now, none if there is none; then until when the first one is held back.
  Nanos select_bucket(Nanos now, Bucket*& bucket, DispatchReason& reason) {
    Nanos wake_at = kNever;
    int looked_at = 0;
    for (const Head& head : queue_.buckets.heads()) {
      const Nanos until = policy_.delay_until(*head.bucket, now, reason);
      if (until <= now) {
        bucket = head.bucket;
        return kNever;
      }
      wake_at = std::min(wake_at, until);
      if (++looked_at == kBucketsToLookAt) break;
    }
    return wake_at;
  }

  void interrupt_delays(Nanos now) noexcept {
    int looked_at = 0;
    for (const Head& head : queue_.buckets.heads()) {
      head.bucket->interrupt_delay(now);
      if (++looked_at == kBucketsToLookAt) break;
    }
  }

  void count_batch(std::int64_t rows) noexcept {
    try {
      ++batch_rows_[rows];
    } catch (const std::bad_alloc&) {  // it goes uncounted: this is for information only
    }
  }

  const SchedulerOptions options_;
  EngineStatus status_;
  bool latest_is_short_ = false;  // the batch handed out last
  BatchingPolicy policy_{options_, status_};
  Demand demand_{status_, policy_};
  RequestQueue queue_{options_};
  PredictedRuns predicted_runs_{status_};
  Deadlines deadlines_{options_, status_, policy_, queue_, predicted_runs_};
  Shedding shedding_{status_, policy_, deadlines_, queue_};
  BatchAssembly assembly_{options_, status_, policy_, deadlines_, shedding_, queue_};
  std::map<std::int64_t, std::int64_t> batch_rows_;
};

}  // namespace paddleinfer
