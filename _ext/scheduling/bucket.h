// The waiting requests of one kind, whose rows may share a batch, and what is known about such batches.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "requests/request.h"
#include "requests/room.h"
#include "scheduling/arrivals.h"
#include "scheduling/latency_model.h"
#include "scheduling/scheduler_types.h"

namespace paddleinfer {

// Smallest key first; equal keys in the order they came.
struct Place {
  Nanos key = 0;
  std::uint64_t order = 0;

  bool operator<(const Place& other) const noexcept { return key != other.key ? key < other.key : order < other.order; }
};

class Bucket;

// A bucket among others, by its first request.
struct Head {
  Place place;
  Bucket* bucket;
  bool operator<(const Head& other) const noexcept { return place < other.place; }
};
using Heads = std::set<Head>;

class Bucket {
 public:
  static constexpr std::int64_t kNoCap = std::numeric_limits<std::int64_t>::max();
  static constexpr std::int64_t kRunsToProbe = 64;
  static constexpr int kMostTrials = 4;

  explicit Bucket(const std::vector<TensorView>& example) {
    for (const TensorView& view : example) example_.push_back({view.dtype, view.shape, nullptr});
    Heads one = {{{}, nullptr}};
    head = one.extract(one.begin());
  }

  Arrivals arrivals;
  LatencyModel times;
  std::int64_t queued_requests = 0;  // without the dead
  std::int64_t queued_rows = 0;
  Heads::node_type head;  // while it is not among the heads

  bool takes(const Request& request) const noexcept { return same_beyond_rows(example_, request.inputs); }

  void make_room_for_one() { make_room(heap_); }
  void push(const Place& place, RequestPtr request) noexcept {
    heap_.push_back({place, std::move(request)});
    std::push_heap(heap_.begin(), heap_.end(), later);
  }
  RequestPtr pop() noexcept {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    RequestPtr request = std::move(heap_.back().request);
    heap_.pop_back();
    return request;
  }
  bool empty() const noexcept { return heap_.empty(); }
  const Place& first_place() const noexcept { return heap_.front().place; }
  const RequestPtr& first() const noexcept { return heap_.front().request; }

  // Lets go of entries that have ended.
  void drop_dead() noexcept {
    const auto dead = [](const Entry& entry) { return !entry.request->in_queue; };
    heap_.erase(std::remove_if(heap_.begin(), heap_.end(), dead), heap_.end());
    std::make_heap(heap_.begin(), heap_.end(), later);
  }

  // Until when what waits here, fewer rows than a full batch, should wait for more; `now` if it should go at once.
  //
  // With n rows waiting, a run time of a + b * n, and m more rows expected after a gap g: run together, the n are
  // done g + b * m later and the m are done a - g sooner than if the n went now. That pays in sum while
  // (n / m + 1) * g + n * b < a. A step ends when hardly anybody will come, all of them after a, or when the first
  // request has waited for `max_delay` or could no longer be in time.
  Nanos delay_until(Nanos now, Nanos max_delay, DispatchReason& reason) noexcept {
    if (!delay_over_) {
      const Nanos until = wanted_delay(now, max_delay, over_because_);
      if (until > now) return until;
      delay_over_ = true;  // who plans a batch and who takes it must find the same
    }
    reason = over_because_;
    return now;
  }

  // The fixed rule: until the first request has waited for `delay`.
  Nanos fixed_delay_until(Nanos now, Nanos delay) noexcept {
    if (delayed_since == kNever) delayed_since = now;
    return first()->arrival + delay;
  }

  // It has gone.
  void end_delay() noexcept {
    delayed_since = delayed_until = step_end_ = kNever;
    delay_over_ = false;
  }

  // Another bucket has taken the last idle instance: from now on it waits like any.
  void interrupt_delay(Nanos now) noexcept {
    if (delayed_since == kNever || delay_over_) return;
    delay_over_ = true;
    over_because_ = DispatchReason::delay_expired;
    delayed_until = now;
  }

  Nanos delayed_since = kNever;  // when the batch that is being held was first held back
  Nanos delayed_until = kNever;  // when it was interrupted

  // A run that was out of memory halves what the next ones are given; every so many good ones double it again.
  void note_memory(const RunRecord& run) noexcept {
    if (run.out_of_memory && run.rows > 1) {
      memory_cap = std::max<std::int64_t>(1, std::min(memory_cap, run.rows) / 2);
      runs_at_cap = 0;
    } else if (!run.failed && memory_cap != kNoCap && ++runs_at_cap >= kRunsToProbe) {
      memory_cap = memory_cap > kNoCap / 2 ? kNoCap : 2 * memory_cap;
      runs_at_cap = 0;
    }
  }

  // Whether an idle engine lets through what could not be in time by what is predicted, to find out: soon after the
  // last run at first, and each time that one finds the prediction true, twice as late, up to the time of a run.
  bool tries_again_after(Nanos idle_ns) const noexcept {
    return double(idle_ns) > times.predict_ns(1) / double(1 << (kMostTrials - trials_));
  }

  // A run was over, on trial or not; before `times` learn from it.
  void note_doubt(const RunRecord& run, bool on_trial) noexcept {
    if (double(run.usual_ns()) < times.predict_ns(run.rows) / 2) {
      trials_ = 0;
    } else if (on_trial && trials_ < kMostTrials) {
      ++trials_;
    }
  }

  std::int64_t memory_cap = kNoCap;
  std::int64_t runs_at_cap = 0;

  std::int64_t running = 0;  // batches
  Nanos last_ended = 0;

 private:
  struct Entry {
    Place place;
    RequestPtr request;
  };
  static bool later(const Entry& a, const Entry& b) noexcept { return b.place < a.place; }

  Nanos wanted_delay(Nanos now, Nanos max_delay, DispatchReason& reason) noexcept {
    reason = DispatchReason::idle;
    if (arrivals.outstanding() >= arrivals.callers()) {
      reason = DispatchReason::all_callers_queued;
      return now;
    }
    if (!arrivals.knows_gap() || !times.knows_line()) return now;
    const LatencyModel::Line line = times.line();
    const double rows = double(queued_rows);
    const double gap = arrivals.gap_ns();
    if ((rows / arrivals.rows_at_once() + 1) * gap + rows * line.per_row_ns >= line.fixed_ns) {
      if (delayed_since != kNever) reason = DispatchReason::delay_expired;
      return now;
    }
    if (delayed_since == kNever) {
      delayed_since = now;
      step_requests_ = 0;
    }
    const Request& head = *first();
    Nanos end = delayed_since + Nanos(line.fixed_ns);
    if (max_delay != kNever) end = std::min(end, head.arrival + max_delay);
    const Nanos latest_start = latest_start_of(head);
    if (step_requests_ != queued_requests) {
      step_requests_ = queued_requests;
      step_end_ = now + std::max<Nanos>(1, Nanos(arrivals.patience_ns()));
    }
    if (now >= step_end_) arrivals.nobody_came();
    end = std::min(end, step_end_);
    reason = latest_start <= now && latest_start < end ? DispatchReason::deadline : DispatchReason::delay_expired;
    return std::min(end, latest_start);
  }

  Nanos latest_start_of(const Request& request) const noexcept {
    if (request.deadline == kNever) return kNever;
    return request.deadline - Nanos(times.predict_p95_ns(queued_rows));
  }

  std::vector<TensorView> example_;  // dtypes and shapes; no data
  std::vector<Entry> heap_;
  Nanos step_end_ = kNever;
  std::int64_t step_requests_ = 0;
  bool delay_over_ = false;
  int trials_ = 0;  // since the last run that was much quicker than predicted
  DispatchReason over_because_ = DispatchReason::idle;
};

}  // namespace paddleinfer
