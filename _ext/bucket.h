// The waiting requests of one kind, whose rows may share a batch, and what is known about such batches.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "arrivals.h"
#include "latency_model.h"
#include "request.h"

namespace paddleinfer {

// Smallest key first; equal keys in the order they came.
struct Place {
  Nanos key = 0;
  std::uint64_t order = 0;

  bool operator<(const Place& other) const noexcept { return key != other.key ? key < other.key : order < other.order; }
};

class Bucket {
 public:
  explicit Bucket(const std::vector<TensorView>& example) {
    for (const TensorView& view : example) example_.push_back({view.dtype, view.shape, nullptr});
  }

  Arrivals arrivals;
  LatencyModel times;
  std::int64_t queued_requests = 0;  // without the dead
  std::int64_t queued_rows = 0;

  bool takes(const Request& request) const noexcept { return same_beyond_rows(example_, request.inputs); }

  void push(const Place& place, RequestPtr request) {
    heap_.push_back({place, std::move(request)});
    std::push_heap(heap_.begin(), heap_.end(), later);
  }
  RequestPtr pop() {
    std::pop_heap(heap_.begin(), heap_.end(), later);
    RequestPtr request = std::move(heap_.back().request);
    heap_.pop_back();
    return request;
  }
  bool empty() const noexcept { return heap_.empty(); }
  const Place& first_place() const noexcept { return heap_.front().place; }
  const RequestPtr& first() const noexcept { return heap_.front().request; }

  // Lets go of entries that have ended.
  void drop_dead() {
    const auto dead = [](const Entry& entry) { return !entry.request->in_queue; };
    heap_.erase(std::remove_if(heap_.begin(), heap_.end(), dead), heap_.end());
    std::make_heap(heap_.begin(), heap_.end(), later);
  }

  // Until when what waits here, fewer rows than a batch, should wait for more; `now`: it should go.
  //
  // With n rows waiting, a run time of a + b * n, and m more rows expected after a gap g: run together, the n are
  // done g + b * m later and the m are done a - g sooner than if the n went now. That pays in sum while
  // (n / m + 1) * g + n * b < a. A step ends after two gaps, all of them after a, or after `max_hold` of the first
  // request, or when that one could no longer be in time.
  Nanos hold_until(Nanos now, Nanos max_hold) noexcept {
    const Nanos until = hold_over_ ? now : wanted_hold(now, max_hold);
    if (until > now) return until;
    hold_over_ = true;  // who plans a batch and who takes it must find the same
    return now;
  }
  // It has gone.
  void end_hold() noexcept {
    hold_began_ = step_end_ = kNever;
    hold_over_ = false;
  }

 private:
  struct Entry {
    Place place;
    RequestPtr request;
  };
  static bool later(const Entry& a, const Entry& b) noexcept { return b.place < a.place; }

  Nanos wanted_hold(Nanos now, Nanos max_hold) noexcept {
    if (arrivals.outstanding() >= arrivals.callers() || !arrivals.knows_gap() || !times.knows_line()) {
      return now;
    }
    const LatencyModel::Line line = times.line();
    const double rows = double(queued_rows);
    const double gap = arrivals.gap_ns();
    if ((rows / arrivals.rows_at_once() + 1) * gap + rows * line.per_row_ns >= line.fixed_ns) return now;
    if (hold_began_ == kNever) {
      hold_began_ = now;
      step_requests_ = 0;
    }
    const Request& head = *first();
    Nanos end = hold_began_ + Nanos(line.fixed_ns);
    if (max_hold != kNever) end = std::min(end, head.arrival + max_hold);
    if (head.deadline != kNever) end = std::min(end, head.deadline - Nanos(times.predict_ns(queued_rows)));
    if (step_requests_ != queued_requests) {
      step_requests_ = queued_requests;
      step_end_ = now + std::max<Nanos>(1, Nanos(2 * gap));
    }
    if (now >= step_end_) arrivals.nobody_came();
    return std::min(end, step_end_);
  }

  std::vector<TensorView> example_;  // dtypes and shapes; no data
  std::vector<Entry> heap_;
  // While the head is held back for company.
  Nanos hold_began_ = kNever;
  Nanos step_end_ = kNever;
  std::int64_t step_requests_ = 0;
  bool hold_over_ = false;
};

}  // namespace paddleinfer
