// How many rows a batch should hold and until when it is held back, by policy.
#include "scheduling.h"
#include "scheduling/batching_policy.h"

using namespace fakes;

namespace {

constexpr Nanos kFixed = 100'000;

// A bucket of twelve callers, a microsecond after each other, on a model whose runs cost kFixed by themselves.
struct Governed {
  explicit Governed(const SchedulerOptions& given) : options(given) {
    for (std::int64_t rows = 1; rows <= 64; rows *= 2) {
      for (int run = 0; run < 3; ++run) bucket.times.note(rows, kFixed + rows, false);
    }
    for (int round = 0; round < 4; ++round) {
      for (int caller = 0; caller < 12; ++caller) bucket.arrivals.arrived(1, now += 1'000);
      bucket.arrivals.departed(12, 12, now += kFixed);
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
  Nanos until() { return policy.delay_until(bucket, now, reason); }

  const SchedulerOptions options;
  EngineStatus status;
  BatchingPolicy policy{options, status};
  Bucket bucket{request_of(1)->inputs};
  DispatchReason reason = DispatchReason::warmup;
  Nanos now = 0;
  std::uint64_t order = 0;
};

SchedulerOptions by(Policy policy, Nanos max_delay = kNever) {
  SchedulerOptions options;
  options.policy = policy;
  options.max_delay = max_delay;
  return options;
}

}  // namespace

TEST("the adaptive policy takes the callers' rows over the instances for a batch, others max_batch_size") {
  for (const std::int64_t instances : {1, 2, 5}) {
    Governed adaptive(by(Policy::adaptive));
    adaptive.status.instances = instances;
    CHECK_EQ(adaptive.policy.target_rows(adaptive.bucket), (12 + instances - 1) / instances);
    for (const Policy policy : {Policy::eager, Policy::fixed_delay}) {
      Governed other(by(policy));
      other.status.instances = instances;
      for (int place = 0; place < 3; ++place) other.add();
      CHECK_EQ(other.policy.target_rows(other.bucket), 32);
      CHECK_EQ(other.policy.max_rows(other.bucket), 32);
      CHECK_EQ(other.policy.batches(other.bucket), 1);
    }
  }
}

TEST("the adaptive policy delays a batch for others, the eager one never") {
  Governed adaptive(by(Policy::adaptive));
  adaptive.add();
  CHECK(adaptive.until() > adaptive.now);
  Governed eager(by(Policy::eager, 50'000));
  eager.add();
  CHECK_EQ(eager.until(), eager.now);
  CHECK(eager.reason == DispatchReason::idle);
}

TEST("a fixed delay ends when the first request has waited so long, or when the batch is full") {
  Governed governed(by(Policy::fixed_delay, 7'000));
  const Nanos came = governed.now;
  governed.status.instances = 3;  // others are idle: that does not matter
  governed.add();
  CHECK_EQ(governed.until(), came + 7'000);
  governed.now += 5'000;
  for (int place = 0; place < 30; ++place) governed.add();
  CHECK_EQ(governed.until(), came + 7'000);  // all twelve callers are there, and more: that does not matter either
  CHECK_EQ(governed.bucket.delayed_since, came);
  governed.add();
  CHECK_EQ(governed.until(), governed.now);
  CHECK(governed.reason == DispatchReason::full);

  Governed over(by(Policy::fixed_delay, 7'000));
  over.add();
  over.now += 7'000;
  CHECK_EQ(over.until(), over.now);
  CHECK(over.reason == DispatchReason::delay_expired);
}

TEST("a fixed delay of nothing holds nobody") {
  Governed governed(by(Policy::fixed_delay, 0));
  governed.add();
  CHECK_EQ(governed.until(), governed.now);
}

TEST("a batch is full at the largest preferred size that fits, where one does") {
  SchedulerOptions options;
  options.preferred_sizes = {4, 8, 16};
  Governed governed(options);
  CHECK_EQ(governed.policy.target_rows(governed.bucket), 8);  // of twelve
  governed.status.instances = 2;
  CHECK_EQ(governed.policy.target_rows(governed.bucket), 4);
  governed.status.instances = 6;
  CHECK_EQ(governed.policy.target_rows(governed.bucket), 2);  // fewer than any
  governed.status.instances = 1;
  for (int place = 0; place < 7; ++place) governed.add();
  CHECK_EQ(governed.policy.max_rows(governed.bucket), 4);  // of what waits
  CHECK(governed.until() > governed.now);                  // one more may come
  governed.add();
  CHECK_EQ(governed.until(), governed.now);
  CHECK_EQ(governed.policy.max_rows(governed.bucket), 8);
}

TEST("a batch that goes says whether it is full, all are there, nothing may join it, or the engine closes") {
  Governed all(by(Policy::adaptive));
  for (int place = 0; place < 12; ++place) all.add();
  CHECK_EQ(all.until(), all.now);
  CHECK(all.reason == DispatchReason::all_callers_queued);
  SchedulerOptions small;
  small.max_batch_size = 8;
  Governed full(small);
  for (int place = 0; place < 8; ++place) full.add();
  CHECK_EQ(full.until(), full.now);
  CHECK(full.reason == DispatchReason::full);
  Governed unbatchable(by(Policy::adaptive));
  unbatchable.status.merging = Merging::no;
  unbatchable.add();
  CHECK_EQ(unbatchable.until(), unbatchable.now);
  CHECK(unbatchable.reason == DispatchReason::unbatchable);
  Governed closing(by(Policy::fixed_delay, 1'000));
  closing.status.closing = true;
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
