// When an idle instance waits for others to batch with, and until when.
#include "scheduling.h"

using namespace fakes;

namespace {

constexpr Nanos kFixed = 100'000;
constexpr Nanos kGap = 1'000;
constexpr std::int64_t kCallers = 8;

// So many callers in step on a model that costs kFixed a run, by whatever number of instances; then all their
// requests are over, and they come back one by one.
struct Callers {
  explicit Callers(std::int64_t instances = 1, SchedulerOptions options = {}) : scheduler(options) {
    scheduler.set_instances(1);
    teach(scheduler, 1, kFixed, 1, 64);
    for (int round = 0; round < 5; ++round) {
      for (std::int64_t caller = 0; caller < kCallers; ++caller) come(now += kGap);
      serve_all();
    }
    scheduler.set_instances(instances);
  }

  RequestPtr come(Nanos when, Nanos deadline = kNever) {
    RequestPtr request = request_of(1, 1, deadline);
    CHECK_EQ(scheduler.admit(request, when), Admission::accepted);
    return request;
  }
  void serve_all() {
    while (scheduler.queued_requests() > 0) {
      const Decision decision = scheduler.next(now);
      if (decision.batch.empty()) {
        REQUIRE(decision.wake_at != kNever);
        now = decision.wake_at;
        continue;
      }
      end(scheduler, decision.batch, kFixed + rows_of(decision.batch), now += kFixed);
    }
  }

  Scheduler scheduler;
  Nanos now = 0;
};

}  // namespace

TEST("the last idle instance waits for callers who were there a moment ago, and takes them along") {
  Callers callers;
  Scheduler& scheduler = callers.scheduler;
  Nanos now = callers.now;
  for (std::int64_t caller = 1; caller < kCallers; ++caller) {
    callers.come(now += kGap);
    const Decision decision = scheduler.next(now);
    CHECK(decision.batch.empty());
    CHECK(decision.wake_at > now + kGap && decision.wake_at < now + 3 * kGap);
    CHECK_EQ(scheduler.plan(now).instances, 0);
    CHECK_EQ(scheduler.plan(now).wake_at, decision.wake_at);
  }
  callers.come(now += kGap);
  CHECK_EQ(scheduler.plan(now).instances, 1);
  CHECK_EQ(rows_of(scheduler.next(now).batch), kCallers);  // all are there: nobody else will come
}

TEST("a delay ends by itself, and what came goes") {
  for (std::int64_t come = 1; come < kCallers; ++come) {
    Callers callers;
    Nanos now = callers.now;
    for (std::int64_t caller = 0; caller < come; ++caller) callers.come(now += kGap);
    const Decision held = callers.scheduler.next(now);
    REQUIRE(held.batch.empty());
    CHECK(callers.scheduler.next(held.wake_at - 1).batch.empty());
    CHECK_EQ(rows_of(callers.scheduler.next(held.wake_at).batch), come);
  }
}

TEST("the plan and the next decision agree that a delay has ended, whoever looks first, and how often") {
  for (const int plans : {0, 1, 2, 5}) {
    Callers callers;
    callers.come(callers.now += kGap);
    const Decision held = callers.scheduler.next(callers.now);
    REQUIRE(held.batch.empty());
    for (int plan = 0; plan < plans; ++plan) CHECK_EQ(callers.scheduler.plan(held.wake_at).instances, 1);
    CHECK_EQ(rows_of(callers.scheduler.next(held.wake_at + plans).batch), 1);
  }
}

TEST("a lone caller is never held back") {
  Scheduler scheduler({});
  teach(scheduler, 1, kFixed, 1, 64);
  Nanos now = 0;
  for (int call = 0; call < 200; ++call) {
    now += 10 + call % 7;
    CHECK_EQ(scheduler.admit(request_of(1), now), Admission::accepted);
    const Decision decision = scheduler.next(now);
    REQUIRE(decision.batch.size() == 1);
    end(scheduler, decision.batch, kFixed, now += kFixed);
  }
}

TEST("nothing is held while another instance is idle") {
  Callers callers(/*instances=*/3);
  callers.come(callers.now += kGap);
  CHECK_EQ(callers.scheduler.next(callers.now).batch.size(), 1u);
  callers.come(callers.now += kGap);
  CHECK_EQ(callers.scheduler.next(callers.now).batch.size(), 1u);
  callers.come(callers.now += kGap);  // for the last one
  CHECK(callers.scheduler.next(callers.now).batch.empty());
  CHECK(callers.scheduler.plan(callers.now).wake_at != kNever);
}

TEST("a full batch is not held") {
  SchedulerOptions options;
  options.max_batch_size = 4;
  Callers callers(1, options);
  for (int caller = 0; caller < 3; ++caller) {
    callers.come(callers.now += kGap);
    CHECK(callers.scheduler.next(callers.now).batch.empty());
  }
  callers.come(callers.now += kGap);
  CHECK_EQ(rows_of(callers.scheduler.next(callers.now).batch), 4);
}

TEST("a batch of as many rows as the callers are likely to bring for one instance is not held") {
  Callers callers(/*instances=*/2);
  callers.scheduler.admit(request_of(2), callers.now);
  REQUIRE(callers.scheduler.next(callers.now).batch.size() == 1);  // something else keeps the other instance busy
  for (std::int64_t caller = 1; caller < kCallers / 2; ++caller) {
    callers.come(callers.now += kGap);
    CHECK(callers.scheduler.next(callers.now).batch.empty());
  }
  callers.come(callers.now += kGap);
  CHECK_EQ(rows_of(callers.scheduler.next(callers.now).batch), kCallers / 2);
}

TEST("nothing is held where the gaps cost more than a run") {
  Scheduler scheduler({});
  teach(scheduler, 1, /*fixed=*/1'000, 1, 64);
  Nanos now = 0;
  for (int round = 0; round < 5; ++round) {
    std::vector<Batch> batches;
    for (int caller = 0; caller < 4; ++caller) scheduler.admit(request_of(1), now += 2'000);
    while (scheduler.queued_requests() > 0) {
      const Decision decision = scheduler.next(now);
      REQUIRE(!decision.batch.empty());
      batches.push_back(decision.batch);
      end(scheduler, decision.batch, 1'000, now += 1'000);
    }
  }
}

TEST("max_delay caps the wait of a request, 0 forbids it") {
  SchedulerOptions options;
  options.max_delay = 300;
  Callers capped(1, options);
  capped.come(capped.now += kGap);
  CHECK_EQ(capped.scheduler.next(capped.now).wake_at, capped.now + 300);
  capped.come(capped.now + 200);
  CHECK_EQ(capped.scheduler.next(capped.now + 200).wake_at, capped.now + 300);
  CHECK_EQ(rows_of(capped.scheduler.next(capped.now + 300).batch), 2);
  options.max_delay = 0;
  Callers never(1, options);
  never.come(never.now += kGap);
  CHECK_EQ(never.scheduler.next(never.now).batch.size(), 1u);
}

TEST("nothing is held past the time at which it must start to be in time") {
  Callers callers;
  const Nanos now = callers.now += kGap;
  const RequestPtr urgent = callers.come(now, now + kFixed + 500);
  const Decision held = callers.scheduler.next(now);
  REQUIRE(held.batch.empty());
  CHECK(held.wake_at > now && held.wake_at < now + 500);
  CHECK(only(callers.scheduler.next(held.wake_at)) == urgent);
}

TEST("nothing is held where nothing may be merged, nor once no more will come") {
  for (const Merging merging : {Merging::no, Merging::probe, Merging::probing}) {
    Callers callers;
    callers.scheduler.set_merging(merging);
    callers.come(callers.now += kGap);
    CHECK_EQ(callers.scheduler.next(callers.now).batch.size(), 1u);
  }
  Callers closing;
  closing.come(closing.now += kGap);
  CHECK(closing.scheduler.next(closing.now).batch.empty());
  closing.scheduler.close();
  CHECK_EQ(closing.scheduler.next(closing.now).batch.size(), 1u);
}

TEST("one bucket that is held does not hold up another") {
  Callers callers;
  const RequestPtr held = callers.come(callers.now += kGap);
  const RequestPtr other = request_of(2);
  callers.scheduler.admit(other, callers.now);
  CHECK_EQ(callers.scheduler.plan(callers.now).instances, 1);
  CHECK(only(callers.scheduler.next(callers.now)) == other);
  CHECK(held->in_queue);
}

TEST("of two buckets that are held, the sooner end counts") {
  Callers callers;
  teach(callers.scheduler, 2, kFixed, 1, 64, callers.now);
  for (int round = 0; round < 8; ++round) {
    for (int caller = 0; caller < 8; ++caller) callers.scheduler.admit(request_of(2), callers.now += kGap / 4);
    for (int caller = 0; caller < 8; ++caller) callers.come(callers.now += kGap);
    callers.serve_all();
  }
  callers.come(callers.now += kGap);
  const Nanos first = callers.scheduler.next(callers.now).wake_at;
  REQUIRE(first != kNever);
  callers.scheduler.admit(request_of(2, 1, callers.now + kFixed + 500), callers.now);
  const Decision both = callers.scheduler.next(callers.now);
  CHECK(both.batch.empty());
  CHECK(both.wake_at < first);
}

TEST("who is held and forgotten is waited for no longer") {
  Callers callers;
  const RequestPtr request = callers.come(callers.now += kGap);
  CHECK(callers.scheduler.next(callers.now).batch.empty());
  CHECK(callers.scheduler.forget(*request, callers.now));
  const Decision decision = callers.scheduler.next(callers.now);
  CHECK(decision.batch.empty());
  CHECK_EQ(decision.wake_at, kNever);
}

TEST("a request whose deadline passes while it is held expires, and does not run") {
  Callers callers;
  callers.now += kGap;
  const RequestPtr request = callers.come(callers.now, callers.now + kFixed + 900);
  REQUIRE(callers.scheduler.next(callers.now).batch.empty());
  const Decision late = callers.scheduler.next(callers.now + 2 * kFixed);
  CHECK(late.batch.empty());
  CHECK(late.expired == std::vector<RequestPtr>{request});
}

TEST("callers who have gone are waited for ever less, and then no more") {
  Callers callers;
  int holds = 0;
  Nanos held_ns = 0;
  for (int call = 0; call < 400; ++call) {
    callers.come(callers.now += kGap);
    for (;;) {
      const Decision decision = callers.scheduler.next(callers.now);
      if (!decision.batch.empty()) {
        end(callers.scheduler, decision.batch, kFixed, callers.now += kFixed);
        break;
      }
      ++holds;
      held_ns += decision.wake_at - callers.now;
      callers.now = decision.wake_at;
    }
  }
  CHECK(holds >= 1);
  CHECK(holds < 10);
  CHECK(held_ns < 30 * kGap);
}

TEST("a batch says since when it was held, and why it went in the end") {
  Callers callers;
  const Nanos came = callers.now += kGap;
  callers.come(came);
  const Decision held = callers.scheduler.next(came);
  REQUIRE(held.batch.empty());
  const Decision over = callers.scheduler.next(held.wake_at);
  CHECK_EQ(over.batch.size(), 1u);
  CHECK_EQ(over.delayed_since, came);
  CHECK_EQ(over.delayed_until, held.wake_at);
  CHECK(over.reason == DispatchReason::delay_expired);
  CHECK(over.predicted_ns >= kFixed);

  Callers all;
  for (std::int64_t caller = 0; caller < kCallers; ++caller) {
    all.come(all.now += kGap);
    const Decision decision = all.scheduler.next(all.now);
    CHECK_EQ(decision.batch.empty(), caller + 1 < kCallers);
    if (decision.batch.empty()) continue;
    CHECK_EQ(decision.delayed_since, all.now - (kCallers - 1) * kGap);
    CHECK(decision.reason == DispatchReason::all_callers_queued);
  }

  Callers urgent;
  const Nanos now = urgent.now += kGap;
  urgent.come(now, now + kFixed + 500);
  const Decision waits = urgent.scheduler.next(now);
  REQUIRE(waits.batch.empty());
  CHECK(urgent.scheduler.next(waits.wake_at).reason == DispatchReason::deadline);
}

TEST("a delay is over when another bucket has taken the last idle instance") {
  Callers callers;
  const Nanos came = callers.now += kGap;
  const RequestPtr held = callers.come(came);
  REQUIRE(callers.scheduler.next(came).batch.empty());
  CHECK_EQ(callers.scheduler.admit(request_of(2), came + 10), Admission::accepted);
  const Decision other = callers.scheduler.next(came + 10);
  REQUIRE(only(other) != held);
  CHECK_EQ(other.delayed_since, kNever);
  end(callers.scheduler, other.batch, kFixed, came + kFixed);
  const Decision decision = callers.scheduler.next(came + kFixed);
  CHECK(only(decision) == held);
  CHECK_EQ(decision.delayed_since, came);
  CHECK_EQ(decision.delayed_until, came + 10);  // from then on it waited like any
  CHECK(decision.reason == DispatchReason::delay_expired);
}

TEST("what was never held says so") {
  Scheduler scheduler({});
  scheduler.admit(request_of(1), 5);
  const Decision decision = scheduler.next(7);
  CHECK_EQ(decision.delayed_since, kNever);
  CHECK_EQ(decision.predicted_ns, 0);  // nothing was known
}
