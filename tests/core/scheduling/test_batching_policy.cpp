// How many rows a batch should hold and until when it is held back, by policy.
#include "batch_rules.h"
#include "scheduling.h"

using namespace fakes;

namespace {

constexpr Nanos kFixed = 100'000;

// A bucket of twelve callers, a microsecond after each other, on a model whose runs cost kFixed by themselves.
struct Ruled {
  explicit Ruled(const SchedulerOptions& given) : options(given) {
    for (std::int64_t rows = 1; rows <= 64; rows *= 2) {
      for (int run = 0; run < 3; ++run) bucket.times.note(rows, kFixed + rows, false);
    }
    for (int round = 0; round < 4; ++round) {
      for (int caller = 0; caller < 12; ++caller) bucket.arrivals.arrived(1, now += 1'000);
      bucket.arrivals.left(12, 12, now += kFixed);
    }
  }
  RequestPtr add(std::int64_t rows = 1) {
    const RequestPtr request = request_of(1, rows);
    request->arrival = now;
    request->in_queue = true;
    bucket.push({now, order++}, request);
    ++bucket.queued_requests;
    bucket.queued_rows += rows;
    bucket.arrivals.arrived(rows, now);
    return request;
  }
  Nanos until() { return rules.hold_until(bucket, now, reason); }

  const SchedulerOptions options;
  BatchRules rules{options};
  Bucket bucket{request_of(1)->inputs};
  DispatchReason reason = DispatchReason::warmup;
  Nanos now = 0;
  std::uint64_t order = 0;
};

SchedulerOptions by(Policy policy, Nanos max_hold = kNever) {
  SchedulerOptions options;
  options.policy = policy;
  options.max_hold = max_hold;
  return options;
}

}  // namespace

TEST("the adaptive policy takes the callers' rows over the instances for a batch, others max_batch_size") {
  for (const std::int64_t instances : {1, 2, 5}) {
    Ruled adaptive(by(Policy::adaptive));
    adaptive.rules.instances = instances;
    CHECK_EQ(adaptive.rules.full_batch(adaptive.bucket), (12 + instances - 1) / instances);
    for (const Policy policy : {Policy::eager, Policy::fixed_delay}) {
      Ruled other(by(policy));
      other.rules.instances = instances;
      for (int place = 0; place < 3; ++place) other.add();
      CHECK_EQ(other.rules.full_batch(other.bucket), 32);
      CHECK_EQ(other.rules.batch_limit(other.bucket), 32);
      CHECK_EQ(other.rules.batches(other.bucket), 1);
    }
  }
}

TEST("the adaptive policy holds for company, the eager one never") {
  Ruled adaptive(by(Policy::adaptive));
  adaptive.add();
  CHECK(adaptive.until() > adaptive.now);
  Ruled eager(by(Policy::eager, 50'000));
  eager.add();
  CHECK_EQ(eager.until(), eager.now);
  CHECK(eager.reason == DispatchReason::idle);
}

TEST("a fixed delay ends when the first request has waited so long, or when the batch is full") {
  Ruled ruled(by(Policy::fixed_delay, 7'000));
  const Nanos came = ruled.now;
  ruled.rules.instances = 3;  // others are idle: that does not matter
  ruled.add();
  CHECK_EQ(ruled.until(), came + 7'000);
  ruled.now += 5'000;
  for (int place = 0; place < 30; ++place) ruled.add();
  CHECK_EQ(ruled.until(), came + 7'000);  // all twelve callers are there, and more: that does not matter either
  CHECK_EQ(ruled.bucket.held_since, came);
  ruled.add();
  CHECK_EQ(ruled.until(), ruled.now);
  CHECK(ruled.reason == DispatchReason::full);

  Ruled over(by(Policy::fixed_delay, 7'000));
  over.add();
  over.now += 7'000;
  CHECK_EQ(over.until(), over.now);
  CHECK(over.reason == DispatchReason::held_over);
}

TEST("a fixed delay of nothing holds nobody") {
  Ruled ruled(by(Policy::fixed_delay, 0));
  ruled.add();
  CHECK_EQ(ruled.until(), ruled.now);
}

TEST("a batch is full at the largest preferred size that fits, where one does") {
  SchedulerOptions options;
  options.preferred_sizes = {4, 8, 16};
  Ruled ruled(options);
  CHECK_EQ(ruled.rules.full_batch(ruled.bucket), 8);  // of twelve
  ruled.rules.instances = 2;
  CHECK_EQ(ruled.rules.full_batch(ruled.bucket), 4);
  ruled.rules.instances = 6;
  CHECK_EQ(ruled.rules.full_batch(ruled.bucket), 2);  // fewer than any
  ruled.rules.instances = 1;
  for (int place = 0; place < 7; ++place) ruled.add();
  CHECK_EQ(ruled.rules.batch_limit(ruled.bucket), 4);  // of what waits
  CHECK(ruled.until() > ruled.now);                    // one more may come
  ruled.add();
  CHECK_EQ(ruled.until(), ruled.now);
  CHECK_EQ(ruled.rules.batch_limit(ruled.bucket), 8);
}

TEST("a batch that goes says whether it is full, all are there, it is alone, or the engine closes") {
  Ruled all(by(Policy::adaptive));
  for (int place = 0; place < 12; ++place) all.add();
  CHECK_EQ(all.until(), all.now);
  CHECK(all.reason == DispatchReason::all_here);
  SchedulerOptions small;
  small.max_batch_size = 8;
  Ruled full(small);
  for (int place = 0; place < 8; ++place) full.add();
  CHECK_EQ(full.until(), full.now);
  CHECK(full.reason == DispatchReason::full);
  Ruled alone(by(Policy::adaptive));
  alone.rules.merging = Merging::no;
  alone.add();
  CHECK_EQ(alone.until(), alone.now);
  CHECK(alone.reason == DispatchReason::alone);
  Ruled closing(by(Policy::fixed_delay, 1'000));
  closing.rules.closing = true;
  closing.add();
  CHECK_EQ(closing.until(), closing.now);
  CHECK(closing.reason == DispatchReason::closing);
}

TEST("while an instance finds out whether rows merge, a request that may have to go in parts waits for it") {
  SchedulerOptions options = with_merging(Merging::probe);
  options.max_batch_size = 4;
  Scheduler scheduler(options);
  scheduler.set_instances(3);
  scheduler.admit(request_of(1, 9), 0);
  const Decision probe = scheduler.next(0);
  REQUIRE(probe.probe);
  CHECK_EQ(scheduler.merging(), Merging::probing);
  const RequestPtr large = request_of(1, 10);
  scheduler.admit(large, 0);
  CHECK_EQ(scheduler.plan(0).instances, 0);
  const Decision waits = scheduler.next(0);
  CHECK(waits.batch.empty());
  CHECK_EQ(waits.wake_at, kNever);
  const RequestPtr other = request_of(2, 4);
  scheduler.admit(other, 0);
  CHECK(only(scheduler.next(0)) == other);
  scheduler.set_merging(Merging::no);
  CHECK(only(scheduler.next(0)) == large);
}
