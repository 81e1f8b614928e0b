// One engine's core: the lock, the scheduler behind it, the instances, and every request's one end.
//
// Lock order: mu_ alone, or the process-wide predictor lock alone; nothing is woken while mu_ is held.
#pragma once

#include <pthread.h>

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "backend.h"
#include "completion.h"
#include "counters.h"
#include "instance.h"
#include "request.h"
#include "run_time.h"
#include "scheduler.h"

namespace paddleinfer {

struct CloseReport {
  std::size_t abandoned_instances = 0;  // still running when the time was up; left to themselves
  std::size_t ended_requests = 0;       // got Outcome::closed
};

class Dispatcher : public std::enable_shared_from_this<Dispatcher> {
 public:
  using BackendFactory = std::function<std::unique_ptr<Backend>()>;

  // A run longer than this is never done on a caller's thread: it could not be interrupted there.
  static constexpr Nanos kInlineRunLimit = 2'000'000;

  Dispatcher(const SchedulerOptions& options, bool inline_allowed)
      : inline_allowed_(inline_allowed), scheduler_(options) {}

  // Makes the backend on a new thread of its own and waits until it is there. Throws what the factory threw.
  // A root is what others are cloned from: it goes when they are gone.
  void start_instance(bool root, BackendFactory factory) {
    auto start = std::make_shared<Start>();
    Instance* instance = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      if (closing_) throw std::runtime_error("the engine was closed while it started");
      instances_.push_back(std::make_unique<Instance>(instances_.size(), root));
      instance = instances_.back().get();
      if (!root) ++clones_alive_;
    }
    try {
      std::thread thread([self = shared_from_this(), instance, start, factory = std::move(factory)] {
        self->thread_main(*instance, *start, factory);
      });
      pthread_setname_np(thread.native_handle(), ("paddleinfer-" + std::to_string(instance->index)).c_str());
      const std::lock_guard<std::mutex> lock(mu_);
      if (parted_) {
        thread.detach();
      } else {
        instance->thread = std::move(thread);
      }
    } catch (...) {  // no thread: nobody will ever leave
      note_exit(*instance);
      throw;
    }
    for (;;) {
      const std::uint32_t seen = start->parker.epoch();
      if (start->finished.load(std::memory_order_acquire)) break;
      start->parker.wait(seen, kNever);
    }
    if (start->failure) std::rethrow_exception(start->failure);
  }

  // Queues a request. False when the engine is closing.
  bool admit(const RequestPtr& request, Admission& admission) {
    Instance* woken = nullptr;
    bool open = false;
    admission = Admission::accepted;
    if (request->sink != nullptr) request->sink->expect();
    {
      const std::lock_guard<std::mutex> lock(mu_);
      open = !closing_;
      if (open) admission = scheduler_.admit(request, monotonic_now());
      if (open && admission == Admission::accepted) woken = take_idle();
    }
    if (!open || admission != Admission::accepted) {
      if (request->sink != nullptr) request->sink->expect_one_less();
      if (open) add(counters_.refused);
      return open;
    }
    add(counters_.requests);
    add(counters_.rows, request->rows);
    if (woken != nullptr) woken->parker.wake();
    if (request->sink != nullptr) request->sink->watch(request);
    return true;
  }

  // Runs the request on the calling thread if nothing else is queued or running. False: use admit().
  bool run_inline(const RequestPtr& request) {
    if (!inline_allowed_ || !run_time_.known_below(kInlineRunLimit) || !scheduler_.fits(*request)) return false;
    Instance* instance = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      if (closing_ || scheduler_.queued_requests() > 0 || scheduler_.running_batches() > 0) return false;
      instance = take_idle();
      if (instance == nullptr) return false;
      request->arrival = monotonic_now();
      occupy(*instance, {request});
      scheduler_.begin_inline();
    }
    add(counters_.requests);
    add(counters_.rows, request->rows);
    add(counters_.inline_executions);
    if (run(*instance, {request})) instance->parker.wake();
    return true;
  }

  // For a caller that is about to wait.
  void look_out_for(const Request& request) noexcept {
    if (!run_time_.known_below(LookOut::kRunLimit)) return;
    result_look_out_.until([&] { return request.done(); }, 2 * run_time_.mean());
  }

  // Ends a request before its result is there. False when it has ended already, or must be queued and is not.
  bool end_early(const RequestPtr& request, Outcome outcome, bool only_queued = false) {
    if (request->claim(Request::State::queued)) {
      {
        const std::lock_guard<std::mutex> lock(mu_);
        scheduler_.forget(*request);
      }
      releases_->push(std::exchange(request->input_owner, nullptr));
    } else if (only_queued || !request->claim(Request::State::running)) {
      return false;
    }
    std::vector<RequestPtr> ended;
    finish(request, outcome, ended);
    completions_.push(std::move(ended));
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
    }
    completions_.stop();  // once all ends are read
    const std::size_t ended = drain ? 0 : end_queued();
    wake_all();
    return ended;
  }

  // True when all threads have left, or somebody has given up on those that have not.
  bool wait_until_left(Nanos deadline) { return wait_for_exits(deadline, /*only_vacant=*/false); }

  CloseReport finish_close() {
    CloseReport report;
    if (!wait_for_exits(0, /*only_vacant=*/false)) {
      report.ended_requests += end_queued() + end_running();
      {
        const std::lock_guard<std::mutex> lock(mu_);
        abandoned_ = true;
      }
      exits_.wake();
      wake_all();
      wait_for_exits(monotonic_now() + kNanosPerSecond, /*only_vacant=*/true);
    }
    report.ended_requests += end_queued();  // what no instance was left to run
    report.abandoned_instances = part_with_threads();
    return report;
  }

  // For a destructor: close without waiting; the threads end by themselves.
  void close_in_background() {
    begin_close(false);
    const std::lock_guard<std::mutex> lock(mu_);
    parted_ = true;
    for (const auto& instance : instances_) {
      if (instance->thread.joinable()) instance->thread.detach();
    }
  }

  Load load() {
    const std::lock_guard<std::mutex> lock(mu_);
    return {scheduler_.queued_requests(), scheduler_.queued_rows(), scheduler_.queued_bytes(),
            scheduler_.running_batches()};
  }

  // True on one of this engine's own instance threads: waiting there for the engine would wait forever.
  bool on_instance_thread() const noexcept { return current() == this; }

  const Counters& counters() const noexcept { return counters_; }
  CompletionQueue& completions() noexcept { return completions_; }
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
    bool ran = false;
    for (;;) {
      Decision decision;
      bool stop = false;
      std::uint32_t seen = 0;
      {
        const std::lock_guard<std::mutex> lock(mu_);
        seen = self.parker.epoch();
        if (!self.occupied) {
          decision = scheduler_.next(monotonic_now());
          if (!decision.batch.empty()) {
            unlist(self);
            occupy(self, decision.batch);
          } else if (closing_) {
            unlist(self);
            stop = true;
          } else {
            list_idle(self);
          }
        }
      }
      end_all(decision.expired, Outcome::expired);
      if (stop) return;
      if (decision.batch.empty()) {
        // The last caller may come straight back.
        if (std::exchange(ran, false) && run_time_.known_below(LookOut::kRunLimit)) {
          work_look_out_.until([&] { return self.parker.epoch() != seen; });
        }
        self.parker.wait(seen, decision.wake_at);
        continue;
      }
      run(self, decision.batch);
      ran = true;
    }
  }

  // Clones go before roots; where a clone is left running, the roots stay.
  void leave(Instance& self) {
    if (self.root && !wait_for_clones()) static_cast<void>(self.backend.release());
    self.backend.reset();
    note_exit(self);
  }

  void note_exit(Instance& instance) {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      instance.exited = true;
      if (!instance.root) --clones_alive_;
    }
    exits_.wake();
  }

  // False when some will never go.
  bool wait_for_clones() {
    for (;;) {
      const std::uint32_t seen = exits_.epoch();
      {
        const std::lock_guard<std::mutex> lock(mu_);
        if (clones_alive_ == 0) return true;
        if (abandoned_) return false;
      }
      exits_.wait(seen, kNever);
    }
  }

  // Lets go of the instance before it tells anybody of the end: a caller who comes straight back finds it
  // free. True when there is more for the instance's own thread to do.
  bool run(Instance& instance, Batch batch) {
    const Nanos begin = monotonic_now();
    Batch started;
    started.reserve(batch.size());
    for (RequestPtr& request : batch) {
      add(counters_.queue_ns, begin - request->arrival);
      if (request->start()) started.push_back(std::move(request));
    }
    Execution execution;
    if (!started.empty()) {
      execution = execute(*instance.backend, started, *releases_);
      add(counters_.executions);
      add(counters_.run_ns, execution.run_ns);
      if (!execution.failed) run_time_.note(execution.run_ns);
    }
    bool more = false;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      vacate(instance);
      more = closing_ || scheduler_.queued_requests() > 0;
      if (!more) list_idle(instance);
    }
    std::vector<RequestPtr> ended;
    for (std::size_t place = 0; place < started.size(); ++place) {
      const RequestPtr& request = started[place];
      if (!request->claim(Request::State::running)) continue;
      if (execution.failed) {
        // The last one takes it: its reader must find itself the only holder of the exception.
        const bool last = place + 1 == started.size();
        request->failure = last ? std::move(execution.failure) : execution.failure;
        finish(request, Outcome::error, ended);
      } else {
        request->outputs = std::move(execution.outputs[place]);
        finish(request, Outcome::result, ended);
      }
    }
    completions_.push(std::move(ended));
    return more;
  }

  // The one end of a claimed request.
  void finish(const RequestPtr& request, Outcome outcome, std::vector<RequestPtr>& for_sink) {
    request->outcome = outcome;
    switch (outcome) {
      case Outcome::result:
        add(counters_.results);
        break;
      case Outcome::error:
        add(counters_.errors);
        break;
      case Outcome::cancelled:
        add(counters_.cancelled);
        break;
      case Outcome::expired:
        add(counters_.expired);
        break;
      default:
        add(counters_.closed);
        break;
    }
    if (request->sink != nullptr) for_sink.push_back(request);
    request->publish();
  }

  // Requests that are out of the queue and not started.
  std::size_t end_all(const std::vector<RequestPtr>& requests, Outcome outcome) {
    std::size_t count = 0;
    std::vector<RequestPtr> ended;
    for (const RequestPtr& request : requests) {
      if (!request->claim(Request::State::queued)) continue;
      releases_->push(std::exchange(request->input_owner, nullptr));
      finish(request, outcome, ended);
      ++count;
    }
    completions_.push(std::move(ended));
    return count;
  }

  std::size_t end_queued() {
    std::vector<RequestPtr> queued;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      queued = scheduler_.take_all();
    }
    return end_all(queued, Outcome::closed);
  }

  std::size_t end_running() {
    std::vector<RequestPtr> running;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      for (const auto& instance : instances_) {
        running.insert(running.end(), instance->running.begin(), instance->running.end());
      }
    }
    std::size_t count = 0;
    // A batch may start just now: first as queued, then as running, never the other way round.
    for (const RequestPtr& request : running) {
      count += end_early(request, Outcome::closed) ? 1 : 0;
    }
    return count;
  }

  void wake_all() {
    std::vector<Instance*> all;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      for (const auto& instance : instances_) all.push_back(instance.get());
    }
    for (Instance* instance : all) instance->parker.wake();
  }

  // True when every thread (or every one without a batch) has left in time, or was given up on.
  bool wait_for_exits(Nanos deadline, bool only_vacant) {
    for (;;) {
      const std::uint32_t seen = exits_.epoch();
      bool all = true;
      {
        const std::lock_guard<std::mutex> lock(mu_);
        for (const auto& instance : instances_) {
          all = all && (instance->exited || (only_vacant && instance->occupied));
        }
        all = all || (!only_vacant && abandoned_);
      }
      if (all) return true;
      if (exits_.wait(seen, deadline) == Woken::timed_out) return false;
    }
  }

  std::size_t part_with_threads() {
    std::vector<std::thread> finished;
    std::size_t abandoned = 0;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      parted_ = true;
      for (const auto& instance : instances_) {
        if (!instance->thread.joinable()) continue;  // parted with by an earlier close()
        if (instance->exited) {
          finished.push_back(std::move(instance->thread));
        } else {
          ++abandoned;
          instance->thread.detach();
        }
      }
    }
    for (std::thread& thread : finished) thread.join();
    return abandoned;
  }

  // The most recently used instance: its caches are warm. Under mu_.
  Instance* take_idle() {
    if (idle_.empty()) return nullptr;
    Instance* instance = idle_.back();
    idle_.pop_back();
    instance->idle = false;
    return instance;
  }

  // Under mu_.
  void list_idle(Instance& instance) {
    if (instance.idle) return;
    instance.idle = true;
    idle_.push_back(&instance);
  }

  // Under mu_.
  void unlist(Instance& instance) {
    if (!instance.idle) return;
    instance.idle = false;
    for (auto place = idle_.begin(); place != idle_.end(); ++place) {
      if (*place == &instance) {
        idle_.erase(place);
        return;
      }
    }
  }

  // Under mu_.
  void occupy(Instance& instance, const Batch& batch) {
    instance.occupied = true;
    instance.running = batch;
  }

  // Under mu_.
  void vacate(Instance& instance) {
    scheduler_.done(instance.running);
    instance.occupied = false;
    instance.running.clear();
  }

  const bool inline_allowed_;
  const std::shared_ptr<ReleaseList> releases_ = std::make_shared<ReleaseList>();
  CompletionQueue completions_;
  Counters counters_;
  RunTime run_time_;
  LookOut result_look_out_;  // callers
  LookOut work_look_out_;    // instances
  Parker exits_;             // woken when an instance thread leaves

  std::mutex mu_;
  Scheduler scheduler_;                               // guarded by mu_
  std::vector<std::unique_ptr<Instance>> instances_;  // guarded by mu_; only grows
  std::vector<Instance*> idle_;                       // guarded by mu_
  std::size_t clones_alive_ = 0;                      // guarded by mu_; instances that are no root
  bool closing_ = false;                              // guarded by mu_
  bool parted_ = false;                               // guarded by mu_; threads are no longer joined
  bool abandoned_ = false;                            // guarded by mu_
};

}  // namespace paddleinfer
