// What an instance's thread does: it makes its backend, takes batches, sleeps, and leaves.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <utility>

#include "requests/parker.h"
#include "requests/request.h"
#include "requests/thread_safety.h"
#include "running/backend.h"
#include "running/batch_runner.h"
#include "running/core_state.h"
#include "running/native_threads.h"
#include "running/request_ender.h"

namespace paddleinfer {

class InstanceLoop {
 public:
  InstanceLoop(CoreState& state, RequestEnder& ender, BatchRunner& runner)
      : state_(state), ender_(ender), runner_(runner) {}

  // Makes the backend on a new thread of its own and waits until it is there. Throws what the factory threw, or
  // NoThread. A root is what others are cloned from: it goes when they are gone. The thread holds the `core`.
  void start(bool root, BackendFactory factory, std::shared_ptr<const void> core) {
    auto start = std::make_shared<Start>();
    const std::function<void(Instance&)> main = [this, core = std::move(core), start, factory = std::move(factory)](
                                                    Instance& instance) { thread_main(instance, *start, factory); };
    Instance* instance = nullptr;
    {
      const MutexLock lock(state_.mu);
      if (state_.closing) throw std::runtime_error("the engine was closed while it started");
      state_.scheduler.set_instances(state_.instances.alive() + 1);
      try {
        instance = &state_.instances.add(root);
      } catch (...) {
        state_.scheduler.set_instances(state_.instances.alive());
        throw;
      }
    }
    try {
      state_.threads.launch(*instance, main);
    } catch (...) {
      state_.count_instances();
      throw;
    }
    for (;;) {
      const std::uint32_t seen = start->parker.epoch();
      if (start->finished.load(std::memory_order_acquire)) break;
      start->parker.wait(seen, kNever);
    }
    if (start->failure) std::rethrow_exception(start->failure);
  }

  // True on one of this engine's own instance threads: waiting there for the engine would wait forever.
  bool on_instance_thread() const noexcept { return current() == &state_; }

 private:
  // How long an instance that found no memory for a batch sleeps before it looks again.
  static constexpr Nanos kMemoryPause = 1'000'000;

  struct Start {
    std::atomic<bool> finished{false};
    std::exception_ptr failure;  // written before `finished`
    Parker parker;
  };

  static const CoreState*& current() noexcept {
    thread_local const CoreState* state = nullptr;
    return state;
  }

  void thread_main(Instance& self, Start& start, const BackendFactory& factory) {
    const NativeThread counted;
    current() = &state_;
    try {
      self.backend = factory();
    } catch (...) {
      start.failure = std::current_exception();
    }
    const bool failed = start.failure != nullptr;
    start.finished.store(true, std::memory_order_release);
    start.parker.wake();
    if (!failed) loop(self);
    leave(self);
  }

  // What an instance's thread does next.
  struct Step {
    Decision decision;
    std::unique_ptr<Verification> verification;
    Nanos verify_at = kNever;
    bool stop = false;
    std::uint32_t seen = 0;
    WokenInstances woken;
  };

  void loop(Instance& self) {
    bool ran_for_lone_caller = false;
    for (;;) {
      Step step;
      {
        const MutexLock lock(state_.mu);
        take_step(self, step);
      }
      const Decision& decision = step.decision;
      step.woken.wake();
      state_.room.wake();
      ender_.end_all(decision.expired.data(), decision.expired.size(), Outcome::expired);
      ender_.end_all(decision.shed.data(), decision.shed.size(), Outcome::shed);
      if (step.stop) return state_.threads.wake_all();
      if (step.verification) {
        runner_.verify(self, *step.verification);
        continue;
      }
      if (decision.batch.empty()) {
        // The sole caller may come straight back.
        if (std::exchange(ran_for_lone_caller, false)) {
          state_.work_spin.spin_until([&] { return self.parker.epoch() != step.seen; });
        }
        self.parker.wait(step.seen, std::min(decision.wake_at, step.verify_at));
        continue;
      }
      runner_.run(self, decision);
      ran_for_lone_caller = decision.sole_caller_run_ns <= AdaptiveSpin::kRunLimit;
    }
  }

  // Where there is no memory, all is as before, and the instance looks again soon.
  void take_step(Instance& self, Step& step) noexcept REQUIRES(state_.mu) {
    step.seen = self.parker.epoch();
    if (std::exchange(self.wake_pending, false)) --state_.wake_pending;
    if (state_.watcher == &self) state_.watcher = nullptr;
    if (self.occupied) return;
    const Nanos now = monotonic_now();
    Decision& decision = step.decision;
    try {
      decision = self.pinned_requests.empty() ? state_.scheduler.next(now) : next_pinned(self);
      if (decision.batch.empty() && !state_.closing) step.verification = take_verification(self, now);
    } catch (const std::bad_alloc&) {
      decision.wake_at = now + kMemoryPause;
      return;
    }
    if (!decision.batch.empty()) {
      decision.verify = shares_a_run(decision) && wants_verification(decision.batch);
      state_.instances.unlist(self);
      state_.occupy(self, decision, now);
      step.woken = state_.instances_to_wake(now);
    } else if (step.verification) {
      state_.instances.unlist(self);
      self.occupied = true;
    } else if (state_.may_leave() && decision.wake_at == kNever) {
      state_.instances.unlist(self);
      self.takes_no_more = true;
      step.stop = true;
    } else {
      state_.instances.list_idle(self);
      if (state_.scheduler.queued_requests() == 0) step.verify_at = state_.verifications.due(self.idle_since);
      if (state_.scheduler.runs_are_short() && state_.watcher == nullptr) {
        decision.wake_at = std::min(decision.wake_at, now + CoreState::kLookInterval);
      }
      if (decision.wake_at != kNever) {
        state_.watcher = &self;
        state_.watched_until = decision.wake_at;
      }
    }
  }

  // Where there is no memory it is another batch's turn.
  bool wants_verification(const Batch& batch) noexcept REQUIRES(state_.mu) {
    try {
      return state_.verifications.wants(batch);
    } catch (const std::bad_alloc&) {
      return false;
    }
  }

  Decision next_pinned(Instance& self) REQUIRES(state_.mu) {
    Decision decision;
    const RequestPtr& request = self.pinned_requests.front();
    decision.batch = {{request, 0, request->rows}};
    decision.reason = DispatchReason::warmup;
    state_.scheduler.begin_outside_queue(*request);
    self.pinned_requests.pop_front();
    return decision;
  }

  // Whether what it gives may depend on other rows, unless that is compared before.
  static bool shares_a_run(const Decision& decision) noexcept {
    return !decision.probe && (decision.batch.size() > 1 || !decision.batch.front().whole());
  }

  // Only if no request is queued, so that no batch is held back either.
  std::unique_ptr<Verification> take_verification(const Instance& self, Nanos now) REQUIRES(state_.mu) {
    if (state_.scheduler.queued_requests() > 0) return nullptr;
    std::unique_ptr<Verification> verification = state_.verifications.take(self.idle_since, now);
    if (verification) state_.scheduler.begin_outside_queue(*verification->request);
    return verification;
  }

  // Clones go before roots.
  void leave(Instance& self) {
    if (self.root) state_.threads.wait_for_clones(self);
    self.backend.reset();
    state_.threads.note_exit(self);
    state_.count_instances();
  }

  CoreState& state_;
  RequestEnder& ender_;
  BatchRunner& runner_;
};

}  // namespace paddleinfer
