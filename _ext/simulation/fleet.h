// Replicas behind a router, on a simulated clock.
//
// Each replica is driven by a scheduler as an engine's is. Calls come as they were drawn, the router sends each to a
// replica, and a run takes as long as the table and the next deviation say. All that happens at one instant happens
// before the schedulers of the replicas that it concerns are asked.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "requests/request.h"
#include "simulation/events.h"
#include "simulation/replica.h"
#include "simulation/reports.h"
#include "simulation/router.h"

namespace paddleinfer {

struct RequestClass {
  std::int64_t rows = 1;
  Nanos allowed_ns = kNever;  // from the call to the deadline
  int priority = 1;
  std::int64_t bucket = 0;
};

struct FleetOptions {
  SchedulerOptions scheduler;
  std::int64_t instances = 1;
  Routing routing = Routing::round_robin;
  std::uint64_t seed = 1;
  Nanos stale_ns = 0;          // how old the router's figures are
  Nanos network_ns = 0;        // between router and replica, each way
  bool drains = true;          // else it is over with the last call
  bool warm = false;           // schedulers know the mean of each size
  std::vector<double> run_ns;  // by rows: the mean
  std::vector<double> scales;  // by rows: of a run without deviation
  std::vector<double> spreads;
  std::vector<RequestClass> classes;
};

// The calls, and what becomes of each: the memory is the caller's.
struct Calls {
  const std::int64_t* offsets_ns = nullptr;  // when it comes; with callers how long one thinks before it
  const std::int32_t* class_of = nullptr;
  std::int64_t* called = nullptr;
  std::int64_t* ended = nullptr;  // when it ended, or one of the codes
  std::size_t count = 0;
  std::size_t callers = 0;  // who wait for answers; 0: nobody does
};

class Fleet {
 public:
  static constexpr std::int64_t kNotCome = -1, kLeft = -2, kRefused = -3, kShed = -4, kExpired = -5;
  enum class Pause : std::uint8_t { over, time, deviations, steps };

  Fleet(FleetOptions options, const Calls& calls)
      : options_(std::move(options)),
        calls_(calls),
        router_(options_.routing, options_.seed),
        reports_(options_.stale_ns) {
    std::fill(calls_.ended, calls_.ended + calls_.count, kNotCome);
    const std::size_t first = std::min(std::max<std::size_t>(1, calls_.callers), calls_.count);
    while (drawn_ < first) call_at(calls_.offsets_ns[drawn_], drawn_);
  }

  // -- replicas

  // Its runs take `run_factor` times as long as the table says.
  void add_replica(Nanos opens_at, double run_factor) {
    const std::size_t place = replicas_.size();
    replicas_.push_back(std::make_unique<Replica>(options_.scheduler, options_.instances, run_factor, now_));
    reports_.add_replica();
    if (options_.warm) warm_up(*replicas_.back());
    ++starting_;
    if (opens_at <= now_) {
      open(place);
    } else {
      events_.add({opens_at, Event::Kind::opens, 0, place, 0});
    }
  }

  // Those that are still starting go first, then the newest; at least one stays open.
  void remove_replica() {
    for (std::size_t place = replicas_.size(); place-- > 0;) {
      Replica& replica = *replicas_[place];
      if (replica.state != Replica::State::starting) continue;
      --starting_;
      leave(replica);
      return;
    }
    if (open_.size() < 2) return;
    const std::size_t place = open_.back();
    open_.pop_back();
    replicas_[place]->state = Replica::State::draining;
    if (replicas_[place]->is_empty()) leave(*replicas_[place]);
  }

  // -- time

  void feed(const double* deviations, std::size_t count) {
    deviations_.erase(deviations_.begin(), deviations_.begin() + std::ptrdiff_t(next_deviation_));
    next_deviation_ = 0;
    deviations_.insert(deviations_.end(), deviations, deviations + count);
  }

  // Until nothing is left to happen, that time, so many instants, or until deviations are wanted.
  Pause run(Nanos until, std::int64_t steps) {
    for (; steps > 0; --steps) {
      if (offered_ == calls_.count && (!options_.drains || under_way_ == 0)) return Pause::over;
      drop_superseded();
      if (events_.empty()) return Pause::over;
      if (events_.first().time > until) {
        now_ = until;
        return Pause::time;
      }
      if (deviations_.size() - next_deviation_ < replicas_.size() * std::size_t(options_.instances)) {
        return Pause::deviations;
      }
      now_ = events_.first().time;
      while (!events_.empty() && events_.first().time == now_) {
        if (!is_superseded(events_.first())) {
          happen(events_.take());
        } else {
          events_.take();
        }
      }
      for (std::size_t place = 0; place < touched_.size(); ++place) decide(touched_[place]);
      touched_.clear();
    }
    return Pause::steps;
  }

  // -- what has happened

  Nanos now() const noexcept { return now_; }
  std::size_t offered() const noexcept { return offered_; }
  std::size_t open_replicas() const noexcept { return open_.size(); }
  std::size_t starting_replicas() const noexcept { return starting_; }
  std::int64_t rows_accepted() const noexcept { return rows_accepted_; }
  std::int64_t rows_run() const noexcept { return rows_run_; }
  std::int64_t reason_count(std::size_t reason) const noexcept { return reasons_[reason]; }

  // Of all instances so far.
  Nanos busy_ns() const noexcept {
    Nanos total = run_ns_;
    for (const auto& replica : replicas_) total -= replica->still_to_run(now_);
    return total;
  }
  // For which there were replicas, from their start to their end.
  Nanos replica_ns() const noexcept {
    Nanos total = 0;
    for (const auto& replica : replicas_) total += std::min(now_, replica->gone_at) - replica->made_at;
    return total;
  }
  double offered_work_ns() const noexcept {
    double total = 0;
    for (const auto& replica : replicas_) total += replica->scheduler.offered_work_ns();
    return total;
  }
  // That one instance would take for what waits.
  double waiting_work_ns() const noexcept {
    double total = 0;
    for (const auto& replica : replicas_) {
      total += replica->scheduler.predicted_drain_ns() * double(options_.instances);
    }
    return total;
  }

 private:
  static constexpr Nanos kShortestRetry = 1'000'000;  // of a caller who was refused: else time might stand still

  static std::size_t number_of(const Request& request) noexcept { return std::size_t(request.waiter); }

  void call_at(Nanos time, std::size_t number) {
    drawn_ = std::max(drawn_, number + 1);
    events_.add({time, Event::Kind::call, 0, 0, number});
  }
  // Has the caller of an ended request think, and call again.
  void call_again(Nanos at_least_ns = 0) {
    if (calls_.callers == 0 || drawn_ == calls_.count) return;
    call_at(now_ + options_.network_ns + std::max(at_least_ns, calls_.offsets_ns[drawn_]), drawn_);
  }

  bool is_superseded(const Event& event) const noexcept {
    const Replica* replica = replicas_[event.replica].get();
    if (event.kind == Event::Kind::wake) return replica->wake_at != event.time;
    return event.kind == Event::Kind::opens && replica->state != Replica::State::starting;
  }
  void drop_superseded() noexcept {
    while (!events_.empty() && is_superseded(events_.first())) events_.take();
  }

  void happen(const Event& event) {
    switch (event.kind) {
      case Event::Kind::opens:
        return open(event.replica);
      case Event::Kind::run_ends:
        return end_run(event.replica, event.number);
      case Event::Kind::call:
        return route(event.number);
      case Event::Kind::delivery:
        return deliver(event.replica, event.number);
      case Event::Kind::wake:
        return touch(event.replica);
    }
  }

  void touch(std::size_t place) {
    if (replicas_[place]->is_touched) return;
    replicas_[place]->is_touched = true;
    touched_.push_back(place);
  }

  void open(std::size_t place) {
    --starting_;
    replicas_[place]->state = Replica::State::open;
    open_.push_back(place);
  }
  void leave(Replica& replica) noexcept {
    replica.state = Replica::State::gone;
    replica.gone_at = now_;
  }

  void route(std::size_t number) {
    if (calls_.callers == 0 && number + 1 < calls_.count) call_at(calls_.offsets_ns[number + 1], number + 1);
    ++offered_;
    ++under_way_;
    calls_.called[number] = now_;
    calls_.ended[number] = kLeft;
    const std::size_t place = router_.choose(open_, reports_.known(now_), now_);
    ++replicas_[place]->on_the_way;
    if (options_.network_ns == 0) return deliver(place, number);
    events_.add({now_ + options_.network_ns, Event::Kind::delivery, 0, place, number});
  }

  void deliver(std::size_t place, std::size_t number) {
    Replica& replica = *replicas_[place];
    const RequestClass& about = options_.classes[std::size_t(calls_.class_of[number])];
    const RequestPtr request = made(about);
    request->waiter = reinterpret_cast<void*>(number);
    // The answer, too, has to travel.
    if (about.allowed_ns != kNever) request->deadline = calls_.called[number] + about.allowed_ns - options_.network_ns;
    --replica.on_the_way;
    touch(place);
    const Admission admission = replica.scheduler.admit(request, now_);
    if (admission != Admission::accepted) {
      over(number, admission == Admission::infeasible ? kShed : kRefused);
      return call_again(kShortestRetry);
    }
    rows_accepted_ += about.rows;
    ++replica.under_way;
    replica.rows_under_way += about.rows;
    report(place);
  }

  void decide(std::size_t place) {
    Replica& replica = *replicas_[place];
    replica.is_touched = false;
    replica.wake_at = kNever;
    while (replica.has_idle()) {
      Decision decision = replica.scheduler.next(now_);
      for (const RequestPtr& request : decision.expired) end(replica, *request, kExpired);
      for (const RequestPtr& request : decision.shed) end(replica, *request, kShed);
      if (decision.batch.empty()) {
        if (decision.wake_at != kNever) wake_at(place, std::max(decision.wake_at, now_ + 1));
        break;
      }
      begin_run(place, std::move(decision));
    }
    report(place);
    if (replica.state == Replica::State::draining && replica.is_empty()) leave(replica);
  }
  void wake_at(std::size_t place, Nanos time) {
    replicas_[place]->wake_at = time;
    events_.add({time, Event::Kind::wake, 0, place, 0});
  }

  void begin_run(std::size_t place, Decision decision) {
    const std::int64_t rows = rows_of(decision.batch);
    const auto size = std::size_t(rows);
    const double deviation = deviations_[next_deviation_++];
    const double drawn_ns = options_.scales[size] * std::exp(options_.spreads[size] * deviation);
    const Nanos run_ns = std::max<Nanos>(1, Nanos(std::nearbyint(drawn_ns * replicas_[place]->run_factor)));
    ++reasons_[std::size_t(decision.reason)];
    rows_run_ += rows;
    run_ns_ += run_ns;
    const Nanos end = now_ + run_ns;
    const std::size_t instance = replicas_[place]->start({std::move(decision.batch), rows, run_ns, end});
    events_.add({end, Event::Kind::run_ends, 0, place, instance});
  }

  void end_run(std::size_t place, std::size_t instance) {
    Replica& replica = *replicas_[place];
    touch(place);
    const Replica::Run run = replica.end(instance);
    records_.assign(1, {});
    records_.front().rows = run.rows;
    records_.front().run_ns = run.run_ns;
    replica.scheduler.done(run.batch, records_, now_);
    for (const Slice& slice : run.batch) {
      const Request& request = *slice.request;
      // One in parts may have been given up before.
      if (request.rows_unfinished > 0 || calls_.ended[number_of(request)] != kLeft) continue;
      end(replica, request, now_ + options_.network_ns);
    }
  }

  void end(Replica& replica, const Request& request, std::int64_t ended) {
    --replica.under_way;
    replica.rows_under_way -= request.rows;
    over(number_of(request), ended);
    call_again();
  }
  void over(std::size_t number, std::int64_t ended) noexcept {
    calls_.ended[number] = ended;
    --under_way_;
  }

  void report(std::size_t place) {
    if (router_.asks_replicas()) reports_.note(place, replicas_[place]->figures(now_), now_);
  }

  static RequestPtr made(const RequestClass& about) {
    RequestPtr request = std::make_shared<Request>();
    TensorView view;
    view.shape.rank = 2;
    view.shape.dims[0] = about.rows;
    view.shape.dims[1] = about.bucket;
    request->inputs.push_back(view);
    request->signature = signature_of(request->inputs, false);
    request->rows = about.rows;
    request->priority = about.priority;
    return request;
  }

  // As an engine's warm-up does: each size once for the first time, and once more.
  void warm_up(Replica& replica) {
    for (const RequestClass& about : options_.classes) {
      LatencyModel& times = replica.scheduler.times_of(*made(about));
      if (times.knows_anything()) continue;  // another class of this bucket
      for (std::int64_t rows = 1;; rows = std::min(2 * rows, options_.scheduler.max_batch_size)) {
        const auto run_ns = Nanos(replica.run_factor * options_.run_ns[std::size_t(rows)]);
        for (const bool first : {true, false}) times.note(rows, run_ns, first);
        if (rows == options_.scheduler.max_batch_size) break;
      }
    }
  }

  const FleetOptions options_;
  const Calls calls_;
  Router router_;
  Reports reports_;
  Events events_;
  std::vector<std::unique_ptr<Replica>> replicas_;
  std::vector<std::size_t> open_;     // the router's
  std::vector<std::size_t> touched_;  // at this instant
  std::vector<double> deviations_;
  std::size_t next_deviation_ = 0;
  std::vector<RunRecord> records_;
  Nanos now_ = 0;
  std::size_t drawn_ = 0;  // calls that come, or have come
  std::size_t offered_ = 0;
  std::size_t under_way_ = 0;
  std::size_t starting_ = 0;
  std::int64_t rows_accepted_ = 0;
  std::int64_t rows_run_ = 0;
  Nanos run_ns_ = 0;  // of all runs, with what is still to come
  std::array<std::int64_t, kDispatchReasons> reasons_{};
};

}  // namespace paddleinfer
