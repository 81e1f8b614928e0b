// Holds what the parts of one engine's core share: the lock, the scheduler behind it, the instances, the counters.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "requests/completion.h"
#include "requests/release_list.h"
#include "requests/request.h"
#include "requests/thread_safety.h"
#include "running/adaptive_spin.h"
#include "running/batch_probe.h"
#include "running/completion_notifier.h"
#include "running/counters.h"
#include "running/delivery_latency.h"
#include "running/equal_requests.h"
#include "running/inline_runs.h"
#include "running/instance_list.h"
#include "running/instance_threads.h"
#include "running/output_record.h"
#include "running/result_cache.h"
#include "running/trace.h"
#include "running/verification.h"
#include "scheduling/scheduler.h"

namespace paddleinfer {

struct DispatcherOptions {
  SchedulerOptions scheduler;
  bool inline_allowed = false;
  std::vector<std::string> outputs;       // their names
  std::vector<std::int64_t> batch_sizes;  // rows that the model may see at once, rising; empty: any
  std::shared_ptr<Trace> trace = std::make_shared<Trace>(0);
  std::int64_t verify_every = 1'000;  // requests; 0: never. What was said to merge is not verified
  std::size_t cache_bytes = 0;        // of results that may be kept; 0: none
};

// Lock order: `mu` alone, or the process-wide predictor lock alone; nothing is woken while `mu` is held, and nobody who
// holds it waits for the GIL.
struct CoreState {
  // How often an idle instance looks at the queue while others run short batches.
  static constexpr Nanos kLookInterval = 1'000'000;

  explicit CoreState(const DispatcherOptions& given)
      : options(given),
        unbatchable(given.scheduler.merging == Merging::no),
        scheduler(given.scheduler),
        verifications(given.scheduler.merging == Merging::probe ? given.verify_every : 0),
        cache(given.cache_bytes),
        equal_requests(given.scheduler.max_queue_rows, given.scheduler.max_queue_bytes) {}
  CoreState(const CoreState&) = delete;
  CoreState& operator=(const CoreState&) = delete;

  // The idle instances to wake: those that have something to do now, or one to watch how long a batch is held.
  // Those that are on their way already count. What an instance that runs is about to take wakes nobody, as long as an
  // idle one looks in case it does not.
  WokenInstances instances_to_wake(Nanos now) noexcept REQUIRES(mu) {
    WokenInstances woken;
    if (!instances.any_idle()) return woken;
    const Plan plan = scheduler.plan(now);
    const bool unwatched = plan.wake_at != kNever && (watcher == nullptr || watched_until > plan.wake_at);
    const bool is_watched = watcher != nullptr && watched_until <= now + kLookInterval;
    const std::int64_t with_work = plan.served_soon && is_watched ? 0 : plan.instances;
    const std::int64_t wanted = std::max<std::int64_t>(with_work, unwatched || may_leave() ? 1 : 0);
    while (wake_pending < wanted && !woken.full()) {
      Instance* instance = instances.take_idle();
      if (instance == nullptr) break;
      instance->wake_pending = true;
      ++wake_pending;
      woken.add(instance);
    }
    return woken;
  }

  // Whether an instance that finds the queue empty is needed no more. The first that leaves wakes the others.
  bool may_leave() const noexcept REQUIRES(mu) {
    return closing && (instances.given_up || !equal_requests.any_follows());
  }

  void occupy(Instance& instance, const Decision& decision, Nanos now) noexcept REQUIRES(mu) {
    instance.occupied = true;
    instance.running = &decision.batch;
    for (const Slice& slice : decision.batch) {
      Request& request = *slice.request;
      if (slice.first_row > 0 || request.first_started > 0) continue;
      request.first_started = now;
      if (decision.delayed_since != kNever) {
        const Nanos since = std::max(decision.delayed_since, request.arrival);
        request.hold_ns = std::max<Nanos>(0, decision.delayed_until - since);
      }
      if (!request.outside_queue) {
        Counters::add(counters.queue_ns, now - request.arrival);
        counters.queue_durations.add(now - request.arrival);
      }
    }
  }

  void settle_merging(const ProbeVerdict& verdict) noexcept REQUIRES(mu) {
    using Kind = ProbeVerdict::Kind;
    const Merging before = scheduler.merging();
    if (verdict.kind == Kind::unclear) {
      if (before == Merging::probing) scheduler.set_merging(Merging::probe);
      return;
    }
    if (verdict.kind == Kind::same) scheduler.note_probed();
    if (before == Merging::no || (before == Merging::yes && verdict.kind == Kind::same)) return;
    scheduler.set_merging(verdict.kind == Kind::same ? Merging::yes : Merging::no);
    if (verdict.kind == Kind::different) {
      unbatchable.store(true, std::memory_order_release);
      verifications.clear();
      cache.clear();  // what came out of shared runs may be a neighbour's
    }
    try {
      why_unmerged = verdict.reason;
    } catch (const std::bad_alloc&) {
      why_unmerged = "rows differ";
    }
    merging_changed.store(true, std::memory_order_release);
  }

  void count_instances() EXCLUDES(mu) {
    const MutexLock lock(mu);
    scheduler.set_instances(instances.alive());
  }

  const DispatcherOptions options;
  const std::shared_ptr<ReleaseList> releases = std::make_shared<ReleaseList>();
  // Of submitted requests, read by a thread.
  const std::shared_ptr<CompletionQueue> completions =
      std::make_shared<CompletionQueue>(CompletionQueue::Reader::thread);
  Counters counters;
  DeliveryLatency delivery_latency;
  AdaptiveSpin result_spin;  // callers
  AdaptiveSpin work_spin;    // instances
  Parker room;               // woken when requests may have come in from the admission queue
  std::atomic<bool> merging_changed{false};
  std::atomic<bool> unbatchable;  // set under mu
  OutputRecord outputs;
  EndObserver* end_observer = nullptr;            // set before anything is admitted
  std::shared_ptr<const InlineRuns> inline_runs;  // likewise; null: all

  Mutex mu;
  Scheduler scheduler GUARDED_BY(mu);
  InstanceList instances GUARDED_BY(mu);
  std::int64_t wake_pending GUARDED_BY(mu) = 0;  // instances that were woken and have not looked yet
  Instance* watcher GUARDED_BY(mu) = nullptr;    // sleeps until a batch has been held long enough
  Nanos watched_until GUARDED_BY(mu) = kNever;
  std::string why_unmerged GUARDED_BY(mu);
  Verifications verifications GUARDED_BY(mu);
  ResultCache cache GUARDED_BY(mu);
  EqualRequests equal_requests GUARDED_BY(mu);
  bool closing GUARDED_BY(mu) = false;

  InstanceThreads threads{mu, instances};
};

}  // namespace paddleinfer
