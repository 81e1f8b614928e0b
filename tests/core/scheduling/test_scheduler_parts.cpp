// A request of more rows than a batch is handed out in parts.
#include "scheduling.h"

using namespace fakes;

namespace {

constexpr Nanos kFixed = 1'000'000;

SchedulerOptions batches_of(std::int64_t rows) {
  SchedulerOptions options;
  options.max_batch_size = rows;
  return options;
}

struct Parts {
  explicit Parts(std::int64_t max_batch_size, std::int64_t instances = 1) : scheduler(batches_of(max_batch_size)) {
    scheduler.set_instances(instances);
    for (const std::int64_t width : {1, 2}) teach(scheduler, width, kFixed, 1'000, 4096);
  }
  RequestPtr come(std::int64_t width, std::int64_t rows, Nanos now = 0, Nanos deadline = kNever) {
    RequestPtr request = request_of(width, rows, deadline);
    CHECK_EQ(scheduler.admit(request, now), Admission::accepted);
    return request;
  }
  Scheduler scheduler;
};

void check_slice(const Slice& slice, const RequestPtr& request, std::int64_t first_row, std::int64_t rows) {
  CHECK(slice.request == request);
  CHECK_EQ(slice.first_row, first_row);
  CHECK_EQ(slice.rows, rows);
}

}  // namespace

TEST("a request of more rows than a batch goes in parts: all rows, once, in order") {
  Parts parts(32);
  const RequestPtr large = parts.come(1, 100);
  std::int64_t next_row = 0;
  for (const std::int64_t rows : {32, 32, 32, 4}) {
    CHECK_EQ(parts.scheduler.queued_rows(), 100 - next_row);
    CHECK_EQ(parts.scheduler.queued_requests(), 1);
    CHECK_EQ(parts.scheduler.queued_bytes(), large->bytes);
    const Decision decision = parts.scheduler.next(0);
    REQUIRE(decision.batch.size() == 1);
    check_slice(decision.batch[0], large, next_row, rows);
    CHECK(!decision.batch[0].whole());
    next_row += rows;
    CHECK(large->partial_result != nullptr);
    CHECK_EQ(large->rows_unfinished, 100 - next_row + rows);
    end(parts.scheduler, decision.batch, kFixed, 0);
    CHECK_EQ(large->rows_unfinished, 100 - next_row);
  }
  check_empty(parts.scheduler);
  CHECK(!large->in_queue);
}

TEST("a request of a batch's rows goes whole, however small the share") {
  Parts parts(32, /*instances=*/8);
  const RequestPtr request = parts.come(1, 32);
  CHECK(only(parts.scheduler.next(0)) == request);
  CHECK(request->partial_result == nullptr);
}

TEST("parts are shared out over the idle instances") {
  Parts parts(32, /*instances=*/4);
  const RequestPtr large = parts.come(1, 100);
  CHECK_EQ(parts.scheduler.plan(0).instances, 4);
  for (std::int64_t part = 0; part < 4; ++part) {
    const Decision decision = parts.scheduler.next(0);
    REQUIRE(decision.batch.size() == 1);
    check_slice(decision.batch[0], large, 25 * part, 25);
  }
  CHECK_EQ(parts.scheduler.running_batches(), 4);
  check_empty(parts.scheduler);
}

TEST("parts are no larger than the size at which rows per second peak") {
  Scheduler scheduler(batches_of(32));
  scheduler.admit(request_of(1), 0);
  std::vector<RunRecord> runs = {ran(1, 1'000), ran(8, 1'100)};
  runs.insert(runs.end(), 5, ran(16, 9'000));
  scheduler.done(scheduler.next(0).batch, runs, 0);
  const RequestPtr request = request_of(1, 20);
  scheduler.admit(request, 0);
  std::int64_t next_row = 0;
  for (const std::int64_t rows : {8, 8, 4}) {
    const Decision decision = scheduler.next(0);
    REQUIRE(decision.batch.size() == 1);
    check_slice(decision.batch[0], request, next_row, rows);
    next_row += rows;
  }
}

TEST("a part that its deadline keeps small is not followed by another in the same batch") {
  Scheduler scheduler(batches_of(16));
  REQUIRE(scheduler.admit(request_of(1), 0) == Admission::accepted);
  RunRecord cold = ran(1, kFixed);
  cold.first_of_its_size = true;
  scheduler.done(scheduler.next(0).batch, {cold}, 0);
  const RequestPtr large = request_of(1, 50, /*deadline=*/3 * kFixed / 2);
  REQUIRE(scheduler.admit(large, 0) == Admission::accepted);
  const Decision decision = scheduler.next(0);
  REQUIRE(decision.batch.size() == 1);
  check_slice(decision.batch[0], large, 0, 1);
}

TEST("the last part leaves room for others, and the first takes what room others leave") {
  Parts parts(32);
  const RequestPtr small = parts.come(1, 10);
  const RequestPtr large = parts.come(1, 60);
  const RequestPtr behind = parts.come(1, 5);
  const Decision first = parts.scheduler.next(0);
  REQUIRE(first.batch.size() == 2);
  check_slice(first.batch[0], small, 0, 10);
  check_slice(first.batch[1], large, 0, 22);
  // Its next part is due a run later: who came meanwhile goes first.
  const Decision second = parts.scheduler.next(0);
  REQUIRE(second.batch.size() == 2);
  check_slice(second.batch[0], behind, 0, 5);
  check_slice(second.batch[1], large, 22, 27);
  const RequestPtr last = parts.come(1, 5, 10);
  const Decision third = parts.scheduler.next(10);
  REQUIRE(third.batch.size() == 2);
  check_slice(third.batch[0], last, 0, 5);
  check_slice(third.batch[1], large, 49, 11);
  check_empty(parts.scheduler);
}

TEST("requests of other shapes run between the parts") {
  Parts parts(32);
  const RequestPtr large = parts.come(1, 96);
  CHECK(parts.scheduler.next(0).batch.at(0).request == large);
  const RequestPtr other = parts.come(2, 1, kFixed / 2);  // due before the second part, which is due a run later
  CHECK(only(parts.scheduler.next(kFixed)) == other);
  CHECK(parts.scheduler.next(kFixed).batch.at(0).request == large);
  const RequestPtr late = parts.come(2, 1, 10 * kFixed);
  CHECK(parts.scheduler.next(10 * kFixed).batch.at(0).request == large);
  CHECK(only(parts.scheduler.next(10 * kFixed)) == late);
}

TEST("several large requests take turns, and each keeps its rows in order") {
  Parts parts(16);
  const std::vector<RequestPtr> requests = {parts.come(1, 50), parts.come(1, 70), parts.come(1, 40)};
  std::map<RequestPtr, std::int64_t> next_row;
  std::vector<RequestPtr> order;
  for (Decision decision = parts.scheduler.next(0); !decision.batch.empty(); decision = parts.scheduler.next(0)) {
    CHECK(rows_of(decision.batch) <= 16);
    for (const Slice& slice : decision.batch) {
      CHECK_EQ(slice.first_row, next_row[slice.request]);
      next_row[slice.request] += slice.rows;
    }
    order.push_back(decision.batch[0].request);
  }
  for (const RequestPtr& request : requests) CHECK_EQ(next_row[request], request->rows);
  CHECK((std::vector<RequestPtr>(order.begin(), order.begin() + 3) == requests));
  check_empty(parts.scheduler);
}

TEST("inputs are held by the queue and by each part under way") {
  Ledger ledger;
  ReleaseList releases;
  Parts parts(16);
  const RequestPtr large = request_for(ledger, 1, 40, kNever, /*width=*/1);
  parts.scheduler.admit(large, 0);
  for (int part = 0; part < 3; ++part) {
    CHECK(!parts.scheduler.next(0).batch.empty());
    CHECK(releases.take().empty());
  }
  for (int part = 0; part < 3; ++part) {
    CHECK(releases.take().empty());
    large->release_inputs(releases);
  }
  CHECK(releases.take().empty());  // it may have to run again whole
  large->release_kept_inputs(releases);
  large->release_kept_inputs(releases);
  ledger.drain(releases);
  CHECK_EQ(ledger.held(), 0u);
}

TEST("forgetting gives back the rows not yet handed out, and what the queue held") {
  Ledger ledger;
  ReleaseList releases;
  Parts parts(16);
  const RequestPtr large = request_for(ledger, 1, 100, kNever, /*width=*/1);
  parts.scheduler.admit(large, 0);
  const Decision first = parts.scheduler.next(0);
  const Decision second = parts.scheduler.next(0);
  CHECK_EQ(parts.scheduler.queued_rows(), 68);
  CHECK(parts.scheduler.forget(*large, 5));
  check_empty(parts.scheduler);
  CHECK_EQ(large->rows_unfinished, 32);
  CHECK(parts.scheduler.next(5).batch.empty());
  large->release_inputs(releases);
  large->release_inputs(releases);
  CHECK(releases.take().empty());
  large->release_inputs(releases);
  large->release_kept_inputs(releases);
  ledger.drain(releases);
  CHECK_EQ(ledger.held(), 0u);
  end(parts.scheduler, first.batch, kFixed, 6);
  CHECK_EQ(large->rows_unfinished, 16);
  end(parts.scheduler, second.batch, kFixed, 6);
  CHECK_EQ(large->rows_unfinished, 0);
  CHECK(!parts.scheduler.forget(*large, 7));
}

TEST("a large request expires once, with what waits of it") {
  Parts parts(16);
  const RequestPtr large = parts.come(1, 100, 0, /*deadline=*/1'000'000'000);
  const Decision first = parts.scheduler.next(0);
  CHECK_EQ(first.batch.size(), 1u);
  const Decision late = parts.scheduler.next(1'000'000'000);
  CHECK(late.batch.empty());
  CHECK(late.expired == std::vector<RequestPtr>{large});
  check_empty(parts.scheduler);
  CHECK(parts.scheduler.next(2'000'000'000).expired.empty());
  end(parts.scheduler, first.batch, kFixed, 2 * kFixed);
  CHECK_EQ(large->rows_unfinished, 0);
}

TEST("taking all takes a large request once, whatever of it runs") {
  Parts parts(16);
  const RequestPtr large = parts.come(1, 100);
  const RequestPtr small = parts.come(1, 1);
  parts.scheduler.next(0);
  const std::vector<RequestPtr> taken = take_all(parts.scheduler, 1);
  CHECK_EQ(taken.size(), 2u);
  CHECK_EQ(std::count(taken.begin(), taken.end(), large), 1);
  CHECK_EQ(std::count(taken.begin(), taken.end(), small), 1);
  check_empty(parts.scheduler);
}

TEST("a large request is one caller until its last part is over") {
  Parts parts(16);
  const RequestPtr large = parts.come(1, 40);
  std::vector<Batch> batches;
  for (int part = 0; part < 3; ++part) batches.push_back(parts.scheduler.next(0).batch);
  end(parts.scheduler, batches[2], kFixed, 10);
  const RequestPtr small = parts.come(1, 1, 15);
  CHECK_EQ(small->sole_caller_run_ns, kNever);  // two of its parts still run
  CHECK(parts.scheduler.forget(*small, 15));
  for (const int part : {0, 1}) end(parts.scheduler, batches[std::size_t(part)], kFixed, 20);
  // From now on two at a time count as several callers, one after the other do not.
  Nanos now = 100;
  for (int call = 0; call < 100; ++call) {
    const RequestPtr lone = parts.come(1, 1, now);
    if (call > 90) CHECK(lone->sole_caller_run_ns != kNever);
    Decision decision = parts.scheduler.next(now);
    while (decision.batch.empty()) decision = parts.scheduler.next(now = decision.wake_at);
    end(parts.scheduler, decision.batch, kFixed, now += 10);
  }
  const RequestPtr first = parts.come(1, 1, now);
  const RequestPtr second = parts.come(1, 1, now);
  CHECK(first->sole_caller_run_ns != kNever);
  CHECK_EQ(second->sole_caller_run_ns, kNever);
}

TEST("a large request leaves no more room than its rows, and gives it back part by part") {
  SchedulerOptions options = batches_of(16);
  options.max_queue_rows = 100;
  Scheduler scheduler(options);
  CHECK_EQ(scheduler.admit(request_of(1, 100), 0), Admission::accepted);
  CHECK_EQ(scheduler.admit(request_of(1, 1), 0), Admission::too_many_rows);
  // With each part handed out there is room for more rows.
  const std::int64_t rows = rows_of(scheduler.next(0).batch);
  CHECK(rows >= 1);
  CHECK_EQ(scheduler.admit(request_of(1, rows), 0), Admission::accepted);
  CHECK_EQ(scheduler.admit(request_of(1, 1), 0), Admission::too_many_rows);
}

TEST("where nothing may be merged, a large request goes whole") {
  for (const Merging merging : {Merging::no, Merging::probe}) {
    Parts parts(16);
    parts.scheduler.set_merging(merging);
    const RequestPtr large = parts.come(1, 100);
    CHECK(only(parts.scheduler.next(0)) == large);
    CHECK(large->partial_result == nullptr);
  }
}

TEST("when merging turns out to be impossible, a large request of which a part runs goes whole") {
  Parts parts(16);
  const RequestPtr large = parts.come(1, 100);
  parts.scheduler.next(0);
  parts.scheduler.set_merging(Merging::no);
  const Decision rest = parts.scheduler.next(0);
  REQUIRE(rest.batch.size() == 1);
  check_slice(rest.batch[0], large, 0, 100);
  check_empty(parts.scheduler);
}

TEST("a large request that was put back waits whole again, and goes in parts") {
  SchedulerOptions options = with_merging(Merging::probe);
  options.max_batch_size = 4;
  Scheduler scheduler(options);
  const RequestPtr large = request_of(1, 6);
  scheduler.admit(large, 5);
  const Decision probe = scheduler.next(5);
  CHECK(probe.probe);
  CHECK(only(probe) == large);
  check_empty(scheduler);
  scheduler.set_merging(Merging::yes);
  scheduler.requeue(large);
  CHECK_EQ(scheduler.running_batches(), 0);
  CHECK_EQ(scheduler.queued_rows(), 6);
  CHECK_EQ(scheduler.queued_bytes(), large->bytes);
  CHECK_EQ(large->rows_unfinished, 6);
  std::int64_t next_row = 0;
  while (large->in_queue) {
    const Decision decision = scheduler.next(10);
    REQUIRE(decision.batch.size() == 1);
    CHECK_EQ(decision.batch[0].first_row, next_row);
    CHECK(decision.batch[0].rows <= 4);
    next_row += decision.batch[0].rows;
    end(scheduler, decision.batch, 10, 10);
  }
  CHECK_EQ(next_row, 6);
  CHECK_EQ(large->rows_unfinished, 0);
  check_empty(scheduler);
}
