// Which rows share a batch, and how many.
#include <random>

#include "scheduling.h"

using namespace fakes;

namespace {

// A run costs so much by itself that ever larger batches pay.
constexpr Nanos kFixed = 1'000'000;

void teach_merging(Scheduler& scheduler, std::int64_t width = 1, std::int64_t up_to = 4096) {
  teach(scheduler, width, kFixed, 10, up_to);
}

std::vector<std::int64_t> rows_in(const Batch& batch) {
  std::vector<std::int64_t> rows;
  for (const Slice& slice : batch) rows.push_back(slice.rows);
  return rows;
}

}  // namespace

TEST("requests that wait together run together, in order") {
  Scheduler scheduler({});
  teach_merging(scheduler);
  const std::vector<RequestPtr> requests = admit(scheduler, 10, 1, 5);
  const Decision decision = scheduler.next(5);
  CHECK(requests_in(decision.batch) == requests);
  for (const Slice& slice : decision.batch) CHECK(slice.whole() && slice.first_row == 0);
  CHECK_EQ(rows_of(decision.batch), 10);
  check_empty(scheduler);
  CHECK_EQ(scheduler.running_batches(), 1);
  CHECK(!decision.probe);
}

TEST("a batch holds no more than max_batch_size rows") {
  SchedulerOptions options;
  options.max_batch_size = 8;
  Scheduler scheduler(options);
  teach_merging(scheduler);
  admit(scheduler, 21, 1, 0);
  CHECK_EQ(rows_of(scheduler.next(0).batch), 8);
  CHECK_EQ(rows_of(scheduler.next(0).batch), 8);
  CHECK_EQ(rows_of(scheduler.next(0).batch), 5);
}

TEST("where max_batch_size is 1 nothing shares a run") {
  SchedulerOptions options;
  options.max_batch_size = 1;
  Scheduler scheduler(options);
  teach_merging(scheduler);
  const std::vector<RequestPtr> requests = admit(scheduler, 5, 1, 0);
  for (const RequestPtr& request : requests) CHECK(only(scheduler.next(0)) == request);
}

TEST("a request that does not fit waits for the next batch, and nobody of its kind passes it") {
  Scheduler scheduler({});
  teach_merging(scheduler);
  for (const std::int64_t rows : {20, 11, 20, 1, 9, 30}) scheduler.admit(request_of(1, rows), 0);
  CHECK((rows_in(scheduler.next(0).batch) == std::vector<std::int64_t>{20, 11}));
  CHECK((rows_in(scheduler.next(0).batch) == std::vector<std::int64_t>{20, 1, 9}));
  CHECK((rows_in(scheduler.next(0).batch) == std::vector<std::int64_t>{30}));
}

TEST("requests of different shapes or dtypes never share a batch") {
  Scheduler scheduler({});
  for (const std::int64_t width : {1, 2, 3}) teach_merging(scheduler, width);
  for (int place = 0; place < 30; ++place) {
    const RequestPtr request = request_of(1 + place % 3);
    if (place % 2 == 0) {
      request->inputs[0].dtype = DType::int32;
      request->signature = signature_of(request->inputs, false);
    }
    scheduler.admit(request, 0);
  }
  int count = 0;
  for (Decision decision = scheduler.next(0); !decision.batch.empty(); decision = scheduler.next(0)) {
    for (const Slice& slice : decision.batch) {
      CHECK(same_beyond_rows(slice.request->inputs, decision.batch[0].request->inputs));
      ++count;
    }
  }
  CHECK_EQ(count, 30);
}

TEST("requests whose signatures collide by chance do not share a batch either") {
  Scheduler scheduler({});
  const auto colliding = [](std::int64_t width) {
    RequestPtr request = request_of(width);
    request->signature = 42;
    return request;
  };
  std::vector<RunRecord> runs;
  for (const std::int64_t rows : {1, 2, 4, 8, 16}) {
    for (int run = 0; run < 3; ++run) runs.push_back(ran(rows, 1'000 + rows));
  }
  for (const std::int64_t width : {1, 2, 3}) {
    scheduler.admit(colliding(width), 0);
    scheduler.done(scheduler.next(0).batch, runs, 0);
  }
  for (int place = 0; place < 12; ++place) scheduler.admit(colliding(1 + place % 3), 0);
  for (std::int64_t width = 1; width <= 3; ++width) {
    const Decision decision = scheduler.next(0);
    CHECK_EQ(decision.batch.size(), 4u);
    for (const Slice& slice : decision.batch) CHECK_EQ(slice.request->inputs[0].shape.dims[1], width);
    end(scheduler, decision.batch, 1'000, 0);
  }
  check_empty(scheduler);
}

TEST("the bucket whose head is due first goes first, and takes its own along") {
  Scheduler scheduler(eager());
  for (const std::int64_t width : {1, 2}) teach_merging(scheduler, width);
  const RequestPtr early = request_of(1, 1, 5'000);
  const RequestPtr other = request_of(2, 1, 4'000);
  const RequestPtr late = request_of(1, 1, 9'000);
  for (const RequestPtr& request : {early, other, late}) scheduler.admit(request, 0);
  CHECK(requests_in(scheduler.next(0).batch) == std::vector<RequestPtr>{other});
  CHECK((requests_in(scheduler.next(0).batch) == std::vector<RequestPtr>{early, late}));
}

TEST("what waits is shared out over the idle instances") {
  for (const std::int64_t instances : {1, 2, 3, 4, 7}) {
    Scheduler scheduler({});
    scheduler.set_instances(instances);
    teach_merging(scheduler);
    admit(scheduler, 22, 1, 0);
    std::int64_t most = 0;
    std::int64_t least = 100;
    for (std::int64_t instance = 0; instance < instances; ++instance) {
      const std::int64_t rows = rows_of(scheduler.next(0).batch);
      most = std::max(most, rows);
      least = std::min(least, rows);
    }
    check_empty(scheduler);
    CHECK_EQ(most, (22 + instances - 1) / instances);
    CHECK(least >= most - 1);
  }
}

TEST("fewer requests than idle instances run one by one") {
  Scheduler scheduler({});
  scheduler.set_instances(8);
  teach_merging(scheduler);
  admit(scheduler, 5, 1, 0);
  CHECK_EQ(scheduler.plan(0).instances, 5);
  for (int place = 0; place < 5; ++place) CHECK_EQ(scheduler.next(0).batch.size(), 1u);
}

TEST("a batch holds no more than the callers' rows over the instances, so that all stay busy") {
  Scheduler scheduler({});
  scheduler.set_instances(2);
  teach_merging(scheduler);
  Nanos now = 100;
  admit(scheduler, 12, 1, now);
  Batch first = scheduler.next(now).batch;
  Batch second = scheduler.next(now).batch;
  CHECK_EQ(rows_of(first), 6);
  CHECK_EQ(rows_of(second), 6);
  // The first six come back while the other instance runs: they are six of twelve callers.
  end(scheduler, first, kFixed, now += 10);
  admit(scheduler, 6, 1, now);
  first = scheduler.next(now).batch;
  CHECK_EQ(rows_of(first), 6);
  // All twelve wait for one instance, while the other runs something long: half of them go, not all.
  end(scheduler, first, kFixed, now += 10);
  end(scheduler, second, kFixed, now);
  scheduler.admit(request_of(2), now);
  CHECK_EQ(scheduler.next(now).batch.size(), 1u);
  admit(scheduler, 12, 1, now += 10);
  CHECK_EQ(rows_of(scheduler.next(now).batch), 6);
  CHECK_EQ(scheduler.queued_rows(), 6);
}

TEST("a batch is no larger than the size at which rows per second peak") {
  Scheduler scheduler({});
  scheduler.admit(request_of(1), 0);
  std::vector<RunRecord> runs;
  for (int run = 0; run < 5; ++run) {
    for (const RunRecord& one : {ran(1, 1'000), ran(2, 1'100), ran(4, 1'200), ran(8, 9'000)}) runs.push_back(one);
  }
  scheduler.done(scheduler.next(0).batch, runs, 0);
  admit(scheduler, 30, 1, 0);
  for (int place = 0; place < 7; ++place) CHECK_EQ(rows_of(scheduler.next(0).batch), 4);
  CHECK_EQ(rows_of(scheduler.next(0).batch), 2);
}

TEST("batches grow while larger ones are faster, one size after the other") {
  Scheduler scheduler({});
  admit(scheduler, 200, 1, 0);
  std::vector<std::int64_t> sizes;
  for (int batch = 0; batch < 8; ++batch) {
    const Decision decision = scheduler.next(0);
    const std::int64_t rows = rows_of(decision.batch);
    if (sizes.empty() || sizes.back() != rows) sizes.push_back(rows);
    end(scheduler, decision.batch, 1'000'000 + rows, 0);
  }
  CHECK((sizes == std::vector<std::int64_t>{1, 2, 4, 8, 16, 32}));
}

TEST("what is learned of one shape is not taken for another's") {
  Scheduler scheduler({});
  teach_merging(scheduler, 1);
  admit(scheduler, 6, 2, 0);
  CHECK_EQ(scheduler.next(0).batch.size(), 1u);
}

TEST("the plan is as many instances as have something to do, and no more than are idle") {
  SchedulerOptions options;
  options.max_batch_size = 4;
  Scheduler scheduler(options);
  teach_merging(scheduler);
  admit(scheduler, 18, 1, 0);
  CHECK_EQ(scheduler.plan(0).instances, 1);
  scheduler.set_instances(3);
  CHECK_EQ(scheduler.plan(0).instances, 3);
  scheduler.set_instances(50);
  const std::int64_t planned = scheduler.plan(0).instances;
  CHECK_EQ(planned, 18);  // each gets a share of one
  scheduler.set_instances(0);
  CHECK_EQ(scheduler.plan(0).instances, 0);
  scheduler.set_instances(8);
  // As instances are taken the rest get their share; the plan is asked again after each.
  std::int64_t batches = 0;
  for (; scheduler.queued_rows() > 0; ++batches) {
    const Plan plan = scheduler.plan(0);
    CHECK(plan.instances >= 1 && plan.instances <= 8 - batches);
    CHECK_EQ(plan.wake_at, kNever);
    CHECK(!scheduler.next(0).batch.empty());
  }
  CHECK_EQ(batches, 8);
  CHECK_EQ(scheduler.plan(0).instances, 0);
}

TEST("the plan counts batches of all shapes that wait") {
  Scheduler scheduler({});
  scheduler.set_instances(10);
  for (std::int64_t width = 1; width <= 4; ++width) scheduler.admit(request_of(width), 0);
  CHECK(scheduler.plan(0).instances >= 4);
}

TEST("expired requests make room in the batch for those behind them") {
  Scheduler scheduler(eager());
  teach_merging(scheduler);
  std::vector<RequestPtr> fine;
  std::vector<RequestPtr> late;
  for (int place = 0; place < 20; ++place) {
    (place % 2 == 0 ? fine : late).push_back(request_of(1, 1, place % 2 == 0 ? 10'000 : 100));
  }
  for (std::size_t place = 0; place < 10; ++place) {
    scheduler.admit(fine[place], 0);
    scheduler.admit(late[place], 0);
  }
  const Decision decision = scheduler.next(200);
  CHECK(decision.expired == late);
  CHECK(requests_in(decision.batch) == fine);
}

TEST("a prediction for a lone caller is made for the only one who calls, once a run was measured") {
  Scheduler scheduler({});
  const RequestPtr first = request_of(1);
  scheduler.admit(first, 0);
  CHECK_EQ(first->sole_caller_run_ns, kNever);
  Decision decision = scheduler.next(0);
  CHECK_EQ(decision.sole_caller_run_ns, kNever);
  end(scheduler, decision.batch, 7'000, 10);
  const RequestPtr second = request_of(1);
  scheduler.admit(second, 20);
  CHECK_EQ(second->sole_caller_run_ns, 7'000);
  const RequestPtr third = request_of(1);
  scheduler.admit(third, 21);
  CHECK_EQ(third->sole_caller_run_ns, kNever);
  decision = scheduler.next(30);
  CHECK_EQ(decision.sole_caller_run_ns, 7'000);
}

TEST("shapes that nobody uses any more are forgotten, those in use are not") {
  Scheduler scheduler({});
  scheduler.set_instances(2);
  teach_merging(scheduler, 1);
  teach_merging(scheduler, 2);
  scheduler.admit(request_of(1), 0);
  const Decision running = scheduler.next(0);
  for (std::int64_t width = 3; width < 3'000; ++width) {
    scheduler.admit(request_of(width), 0);
    end(scheduler, scheduler.next(0).batch, 10, 0);
  }
  scheduler.done(running.batch, {}, 0);
  scheduler.admit(request_of(2), 0);
  CHECK_EQ(scheduler.predicted_drain_ns(), 0.0);
  scheduler.admit(request_of(1), 0);
  CHECK(scheduler.predicted_drain_ns() > 0.0);
}

TEST("random rows go into batches within the limit, each once, in order within their bucket") {
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    SchedulerOptions options;
    options.max_batch_size = 1 + random() % 40;
    Scheduler scheduler(options);
    scheduler.set_instances(1 + random() % 3);
    for (std::int64_t width = 1; width <= 3; ++width) teach_merging(scheduler, width);
    std::vector<RequestPtr> waiting;
    for (int place = 0; place < 100; ++place) {
      const std::int64_t rows = 1 + random() % options.max_batch_size;
      waiting.push_back(request_of(1 + random() % 3, rows));
      scheduler.admit(waiting.back(), place);
    }
    while (!waiting.empty()) {
      const Decision decision = scheduler.next(1'000);
      REQUIRE(!decision.batch.empty());
      CHECK(rows_of(decision.batch) <= options.max_batch_size);
      for (const Slice& slice : decision.batch) {
        const auto like = [&](const RequestPtr& other) { return other->signature == slice.request->signature; };
        const auto found = std::find_if(waiting.begin(), waiting.end(), like);
        REQUIRE(found != waiting.end());
        CHECK(*found == slice.request);
        waiting.erase(found);
      }
      end(scheduler, decision.batch, kFixed, 1'000);
    }
    check_empty(scheduler);
  }
}
