// One engine's core: the lock, the scheduler behind it, the instances, and every request's one end.
//
// Lock order: mu_ alone, or the process-wide predictor lock alone; nothing is woken while mu_ is held, and
// nobody who holds it waits for the GIL.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "backend.h"
#include "batch_run.h"
#include "completion.h"
#include "counters.h"
#include "ends.h"
#include "hand_over.h"
#include "instance_pool.h"
#include "look_out.h"
#include "request.h"
#include "scheduler.h"
#include "trace.h"

namespace paddleinfer {

struct DispatcherOptions {
  SchedulerOptions scheduler;
  bool inline_allowed = false;
  std::vector<std::string> outputs;       // their names
  std::vector<std::int64_t> batch_sizes;  // rows that the model may see at once, rising; empty: any
  std::shared_ptr<Trace> trace = std::make_shared<Trace>(0);
};

struct CloseReport {
  std::size_t abandoned_instances = 0;  // still running when the time was up; left to themselves
  std::size_t ended_requests = 0;       // got Outcome::closed
};

class Dispatcher : public std::enable_shared_from_this<Dispatcher> {
 public:
  using BackendFactory = std::function<std::unique_ptr<Backend>()>;

  // A run longer than this is never done on a caller's thread: it could not be interrupted there.
  static constexpr Nanos kInlineRunLimit = 2'000'000;

  explicit Dispatcher(const DispatcherOptions& options) : options_(options), scheduler_(options.scheduler) {}

  // Makes the backend on a new thread of its own and waits until it is there. Throws what the factory threw.
  // A root is what others are cloned from: it goes when they are gone.
  void start_instance(bool root, BackendFactory factory) {
    auto start = std::make_shared<Start>();
    Instance* instance = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      if (closing_) throw std::runtime_error("the engine was closed while it started");
      instance = &pool_.add(root);
      scheduler_.set_instances(pool_.alive());
    }
    pool_.launch(*instance, [self = shared_from_this(), instance, start, factory = std::move(factory)] {
      self->thread_main(*instance, *start, factory);
    });
    for (;;) {
      const std::uint32_t seen = start->parker.epoch();
      if (start->finished.load(std::memory_order_acquire)) break;
      start->parker.wait(seen, kNever);
    }
    if (start->failure) std::rethrow_exception(start->failure);
  }

  // Queues requests of one reader, or of callers who wait themselves; `admissions` says what became of each.
  // False when the engine is closing: none was queued.
  bool admit(const std::vector<RequestPtr>& requests, std::vector<Admission>& admissions) {
    admissions.assign(requests.size(), Admission::accepted);
    return requests.empty() || admit(requests.data(), admissions.data(), requests.size());
  }
  bool admit(const RequestPtr& request, Admission& admission) {
    admission = Admission::accepted;
    return admit(&request, &admission, 1);
  }

  static bool is_in(Admission admission) noexcept {
    return admission == Admission::accepted || admission == Admission::waits_for_room;
  }

  // Until the request has room in the queue, has ended, or `until`.
  Woken wait_for_room(const Request& request, Nanos until) {
    for (;;) {
      const std::uint32_t seen = room_.epoch();
      {
        const std::lock_guard<std::mutex> lock(mu_);
        if (!request.at_door) return Woken::changed;
      }
      const Woken woken = room_.wait(seen, until);
      if (woken != Woken::changed) return woken;
    }
  }

  // Runs the request on the calling thread if its caller is the only one of late. False: use admit().
  bool run_inline(const RequestPtr& request) {
    if (!options_.inline_allowed) return false;
    Instance* instance = nullptr;
    Decision decision;
    decision.batch = {{request, 0, request->rows}};
    decision.reason = DispatchReason::on_caller;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      const Nanos now = monotonic_now();
      if (closing_ || !pool_.any_idle()) return false;
      if (!scheduler_.begin_inline(*request, kInlineRunLimit, now)) return false;
      instance = pool_.take_idle();
      occupy(*instance, decision, now);
    }
    decision.predicted_ns = request->lone_run_ns;
    add(counters_.requests);
    add(counters_.rows, request->rows);
    add(counters_.inline_executions);
    if (run(*instance, decision)) instance->parker.wake();
    return true;
  }

  // Has one instance run a request by itself, as it is, before anything else. False when the engine is closing.
  bool warmup(const RequestPtr& request, std::size_t instance) {
    Instance* ordered = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      if (closing_) return false;
      ordered = pool_.all().at(instance).get();
      request->arrival = monotonic_now();
      ordered->orders.push_back(request);
    }
    add(counters_.requests);
    add(counters_.rows, request->rows);
    ordered->parker.wake();
    return true;
  }

  // For a caller that is about to wait.
  void look_out_for(const Request& request) noexcept {
    if (request.lone_run_ns > LookOut::kRunLimit) return;
    result_look_out_.until([&] { return request.done(); }, 2 * request.lone_run_ns);
  }

  // Ends a request before its result is there. False when it has ended already, or must be queued and is not.
  bool end_early(const RequestPtr& request, Outcome outcome, bool only_queued = false) {
    const bool queued = request->claim(Request::State::queued);
    if (!queued && (only_queued || !request->claim(Request::State::running))) return false;
    give_up_what_waits({request});
    Ends ends(counters_, /*several=*/false);
    ends.add(request, outcome);
    ends.tell();
    return true;
  }

  // Takes no more requests, lets accepted ones end until `deadline` (with drain), then ends the rest.
  CloseReport close(bool drain, Nanos deadline) {
    const std::size_t ended = begin_close(drain);
    wait_until_left(deadline);
    CloseReport report = finish_close();
    report.ended_requests += ended;
    return report;
  }

  // The three parts of it, for who has to look up from the waiting. Gives the requests ended at once.
  std::size_t begin_close(bool drain) {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      closing_ = true;
      scheduler_.close();
    }
    completions_->stop();  // once all ends are read
    const std::size_t ended = drain ? 0 : end_queued();
    pool_.wake_all();
    return ended;
  }

  // True when all threads have left, or somebody has given up on those that have not.
  bool wait_until_left(Nanos deadline) { return pool_.wait_for_exits(deadline, /*only_vacant=*/false); }

  CloseReport finish_close() {
    CloseReport report;
    if (!pool_.wait_for_exits(0, /*only_vacant=*/false)) {
      report.ended_requests += end_queued() + end_running();
      pool_.abandon();
      pool_.wait_for_exits(monotonic_now() + kNanosPerSecond, /*only_vacant=*/true);
    }
    report.ended_requests += end_queued();  // what no instance was left to run
    report.abandoned_instances = pool_.part_with_threads();
    return report;
  }

  // For a destructor: close without waiting; the threads end by themselves.
  void close_in_background() {
    begin_close(false);
    pool_.let_go_of_threads();
  }

  Load load() {
    const std::lock_guard<std::mutex> lock(mu_);
    const auto& batch_rows = scheduler_.batch_rows();
    return {scheduler_.queued_requests(),          scheduler_.queued_rows(),      scheduler_.queued_bytes(),
            scheduler_.running_batches(),          scheduler_.waiting_for_room(), scheduler_.predicted_drain_ns(),
            {batch_rows.begin(), batch_rows.end()}};
  }

  // Whether rows of several requests share runs, and once, after it has changed, why. Cheap when it has not.
  bool merging_changed() const noexcept { return merging_changed_.load(std::memory_order_acquire); }
  std::pair<Merging, std::string> take_merging_change() {
    const std::lock_guard<std::mutex> lock(mu_);
    merging_changed_.store(false, std::memory_order_release);
    return {scheduler_.merging(), why_unmerged_};
  }

  // What somebody else has found out about merging.
  void settle_merging_as(bool merges, const std::string& why_not) {
    const std::lock_guard<std::mutex> lock(mu_);
    using Kind = ProbeVerdict::Kind;
    settle_merging({merges ? Kind::same : Kind::different, why_not});
  }

  // The predicted time of a run of so many rows like the request's; 0 when nothing is known.
  double predicted_run_ns(const Request& request, std::int64_t rows) {
    const std::lock_guard<std::mutex> lock(mu_);
    return scheduler_.times_of(request).predict_ns(rows);
  }

  // A caller has just been given its result. `due`: result_due() of the request. By one thread at a time.
  void note_hand_over(Nanos due) noexcept {
    if (due != kNever) hand_over_.note(monotonic_now() - due);
  }

  // True on one of this engine's own instance threads: waiting there for the engine would wait forever.
  bool on_instance_thread() const noexcept { return current() == this; }

  const Counters& counters() const noexcept { return counters_; }
  // Of submitted requests, read by a thread.
  const std::shared_ptr<CompletionQueue>& completions() const noexcept { return completions_; }
  const std::shared_ptr<ReleaseList>& releases() const noexcept { return releases_; }

 private:
  struct Start {
    std::atomic<bool> finished{false};
    std::exception_ptr failure;  // written before `finished`
    Parker parker;
  };

  static const Dispatcher*& current() noexcept {
    thread_local const Dispatcher* dispatcher = nullptr;
    return dispatcher;
  }

  static void add(std::atomic<std::int64_t>& counter, std::int64_t amount = 1) noexcept {
    counter.fetch_add(amount, std::memory_order_relaxed);
  }

  bool admit(const RequestPtr* requests, Admission* admissions, std::size_t count) {
    // A request may be gone as soon as the lock is free, and with it its word for the sink.
    const std::shared_ptr<CompletionQueue> sink = requests[0]->sink;
    if (sink) sink->expect(count);
    std::size_t refused = 0;
    std::int64_t rows = 0;
    bool open = false;
    std::vector<Instance*> woken;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      open = !closing_;
      const Nanos now = monotonic_now();
      for (std::size_t place = 0; open && place < count; ++place) {
        admissions[place] = scheduler_.admit(requests[place], now);
        if (is_in(admissions[place])) {
          rows += requests[place]->rows;
        } else {
          ++refused;
        }
      }
      if (open) woken = instances_to_wake(now);
    }
    for (Instance* instance : woken) instance->parker.wake();
    if (!open) {
      if (sink) sink->expect_less(count);
      return false;
    }
    if (sink && refused > 0) sink->expect_less(refused);
    add(counters_.refused, std::int64_t(refused));
    add(counters_.requests, std::int64_t(count - refused));
    add(counters_.rows, rows);
    for (std::size_t place = 0; sink && place < count; ++place) {
      if (is_in(admissions[place])) sink->watch(requests[place]);
    }
    return true;
  }

  void thread_main(Instance& self, Start& start, const BackendFactory& factory) {
    current() = this;
    try {
      self.backend = factory();
    } catch (abi::__forced_unwind&) {
      throw;
    } catch (...) {
      start.failure = std::current_exception();
    }
    const bool failed = start.failure != nullptr;
    start.finished.store(true, std::memory_order_release);
    start.parker.wake();
    if (!failed) loop(self);
    leave(self);
  }

  void loop(Instance& self) {
    bool ran_for_lone_caller = false;
    for (;;) {
      Decision decision;
      bool stop = false;
      std::uint32_t seen = 0;
      std::vector<Instance*> woken;
      {
        const std::lock_guard<std::mutex> lock(mu_);
        seen = self.parker.epoch();
        if (std::exchange(self.coming, false)) --coming_;
        if (watcher_ == &self) watcher_ = nullptr;
        if (!self.occupied) {
          const Nanos now = monotonic_now();
          decision = self.orders.empty() ? scheduler_.next(now) : next_order(self);
          if (!decision.batch.empty()) {
            pool_.unlist(self);
            occupy(self, decision, now);
            woken = instances_to_wake(now);
          } else if (closing_) {
            pool_.unlist(self);
            stop = true;
          } else {
            pool_.list_idle(self);
            if (decision.wake_at != kNever) {
              watcher_ = &self;
              watched_until_ = decision.wake_at;
            }
          }
        }
      }
      for (Instance* instance : woken) instance->parker.wake();
      room_.wake();
      end_all(decision.expired, Outcome::expired);
      end_all(decision.shed, Outcome::shed);
      if (stop) return;
      if (decision.batch.empty()) {
        // The lone caller may come straight back.
        if (std::exchange(ran_for_lone_caller, false)) {
          work_look_out_.until([&] { return self.parker.epoch() != seen; });
        }
        self.parker.wait(seen, decision.wake_at);
        continue;
      }
      run(self, decision);
      ran_for_lone_caller = decision.lone_run_ns <= LookOut::kRunLimit;
    }
  }

  // Under mu_.
  Decision next_order(Instance& self) {
    Decision decision;
    const RequestPtr request = std::move(self.orders.front());
    self.orders.pop_front();
    decision.batch = {{request, 0, request->rows}};
    decision.reason = DispatchReason::warmup;
    scheduler_.begin_outside_queue(*request);
    return decision;
  }

  // Clones go before roots; where a clone is left running, the roots stay.
  void leave(Instance& self) {
    if (self.root && !pool_.wait_for_clones()) static_cast<void>(self.backend.release());
    self.backend.reset();
    pool_.note_exit(self);
    const std::lock_guard<std::mutex> lock(mu_);
    scheduler_.set_instances(pool_.alive());
  }

  // Lets go of the instance before it tells anybody of the end: a caller who comes straight back finds it
  // free. True when there is more for the instance's own thread to do.
  bool run(Instance& instance, const Decision& decision) {
    BatchRun batch(instance, decision, options_.outputs, options_.scheduler.max_batch_size, *releases_,
                   options_.batch_sizes);
    batch.run();
    for (const Ran& ran : batch.runs()) {
      add(counters_.executions);
      add(counters_.executed_rows, ran.rows);
      add(counters_.gather_ns, ran.gather_ns);
      add(counters_.run_ns, ran.run_ns);
      add(counters_.scatter_ns, ran.scatter_ns);
    }
    bool more = false;
    std::int64_t queued_requests = 0;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      if (batch.has_verdict()) settle_merging(batch.verdict());
      if (const RequestPtr request = batch.put_back()) {
        scheduler_.put_back(request);
      } else {
        scheduler_.done(instance.running, batch.runs(), monotonic_now());
        scheduler_.set_hand_over(hand_over_.bound_ns());
      }
      instance.occupied = false;
      instance.running.clear();
      queued_requests = scheduler_.queued_requests();
      more = closing_ || queued_requests > 0 || !instance.orders.empty();
      pool_.list_idle(instance);
    }
    batch.record(*options_.trace, queued_requests);
    give_up_what_waits(batch.failed_in_part());
    batch.tell(counters_);
    return more;
  }

  // Under mu_.
  void settle_merging(const ProbeVerdict& verdict) {
    using Kind = ProbeVerdict::Kind;
    const Merging before = scheduler_.merging();
    if (verdict.kind == Kind::unclear) {
      if (before == Merging::probing) scheduler_.set_merging(Merging::probe);
      return;
    }
    if (before == Merging::no || (before == Merging::yes && verdict.kind == Kind::same)) return;
    scheduler_.set_merging(verdict.kind == Kind::same ? Merging::yes : Merging::no);
    why_unmerged_ = verdict.reason;
    merging_changed_.store(true, std::memory_order_release);
  }

  // What still waits of requests that have ended, or are about to.
  void give_up_what_waits(const std::vector<RequestPtr>& requests) {
    if (requests.empty()) return;
    std::vector<RequestPtr> held;
    std::vector<Instance*> woken;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      const Nanos now = monotonic_now();
      for (const RequestPtr& request : requests) {
        if (scheduler_.forget(*request, now)) held.push_back(request);
      }
      woken = instances_to_wake(now);  // others may have come in from the door
    }
    for (Instance* instance : woken) instance->parker.wake();
    room_.wake();
    for (const RequestPtr& request : held) request->let_go_of_inputs(*releases_);
  }

  // Requests that the scheduler has given back.
  std::size_t end_all(const std::vector<RequestPtr>& requests, Outcome outcome) {
    if (requests.empty()) return 0;
    std::size_t count = 0;
    Ends ends(counters_, /*several=*/requests.size() > 2);
    for (const RequestPtr& request : requests) {
      request->let_go_of_inputs(*releases_);
      if (!request->claim(Request::State::queued) && !request->claim(Request::State::running)) continue;
      ends.add(request, outcome);
      ++count;
    }
    ends.tell();
    return count;
  }

  std::size_t end_queued() {
    std::vector<RequestPtr> queued;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      queued = scheduler_.take_all(monotonic_now());
      for (const auto& instance : pool_.all()) {
        queued.insert(queued.end(), instance->orders.begin(), instance->orders.end());
        instance->orders.clear();
      }
    }
    room_.wake();
    return end_all(queued, Outcome::closed);
  }

  std::size_t end_running() {
    std::vector<RequestPtr> running;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      for (const auto& instance : pool_.all()) {
        for (const Slice& slice : instance->running) running.push_back(slice.request);
      }
    }
    std::size_t count = 0;
    // A batch may start just now: first as queued, then as running, never the other way round.
    for (const RequestPtr& request : running) {
      count += end_early(request, Outcome::closed) ? 1 : 0;
    }
    return count;
  }

  // The idle instances to wake: those that have something to do now, or one to watch how long a batch is held.
  // Those that are on their way already count. Under mu_.
  std::vector<Instance*> instances_to_wake(Nanos now) {
    std::vector<Instance*> woken;
    if (!pool_.any_idle()) return woken;
    const Plan plan = scheduler_.plan(now);
    const bool unwatched = plan.wake_at != kNever && (watcher_ == nullptr || watched_until_ > plan.wake_at);
    const std::int64_t wanted = std::max<std::int64_t>(plan.instances, unwatched ? 1 : 0);
    while (coming_ < wanted) {
      Instance* instance = pool_.take_idle();
      if (instance == nullptr) break;
      instance->coming = true;
      ++coming_;
      woken.push_back(instance);
    }
    return woken;
  }

  // Under mu_.
  void occupy(Instance& instance, const Decision& decision, Nanos now) {
    instance.occupied = true;
    instance.running = decision.batch;
    for (const Slice& slice : decision.batch) {
      if (slice.first_row > 0) continue;
      Request& request = *slice.request;
      request.first_started = now;
      if (decision.held_since != kNever) {
        const Nanos since = std::max(decision.held_since, request.arrival);
        request.hold_ns = std::max<Nanos>(0, decision.held_until - since);
      }
      add(counters_.queue_ns, now - request.arrival);
    }
  }

  const DispatcherOptions options_;
  const std::shared_ptr<ReleaseList> releases_ = std::make_shared<ReleaseList>();
  const std::shared_ptr<CompletionQueue> completions_ =
      std::make_shared<CompletionQueue>(CompletionQueue::Reader::thread, releases_);
  Counters counters_;
  HandOver hand_over_;
  LookOut result_look_out_;  // callers
  LookOut work_look_out_;    // instances
  Parker room_;              // woken when requests may have come in from the door
  std::atomic<bool> merging_changed_{false};

  std::mutex mu_;
  Scheduler scheduler_;           // guarded by mu_
  InstancePool pool_{mu_};        // its lists are guarded by mu_
  std::int64_t coming_ = 0;       // guarded by mu_; instances that were woken and have not looked yet
  Instance* watcher_ = nullptr;   // guarded by mu_; sleeps until a batch has been held long enough
  Nanos watched_until_ = kNever;  // guarded by mu_
  std::string why_unmerged_;      // guarded by mu_
  bool closing_ = false;          // guarded by mu_
};

}  // namespace paddleinfer
