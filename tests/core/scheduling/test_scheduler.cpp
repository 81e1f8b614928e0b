// The scheduler's queue: who goes first, what is refused, what ends early. Nothing is merged here.
#include "scheduling.h"

using namespace fakes;

namespace {

Scheduler unmerging() { return Scheduler(with_merging(Merging::no)); }

}  // namespace

TEST("an empty scheduler has nothing to do, ever") {
  Scheduler scheduler({});
  const Decision decision = scheduler.next(5);
  CHECK(decision.batch.empty() && decision.expired.empty());
  CHECK_EQ(decision.wake_at, kNever);
  CHECK_EQ(scheduler.plan(5).instances, 0);
  CHECK_EQ(scheduler.plan(5).wake_at, kNever);
  CHECK_EQ(scheduler.running_batches(), 0);
}

TEST("requests without deadlines go in the order they came") {
  Scheduler scheduler = unmerging();
  std::vector<RequestPtr> requests;
  for (int place = 0; place < 100; ++place) {
    requests.push_back(request_of(1 + place % 3));
    CHECK_EQ(scheduler.admit(requests.back(), place / 7), Admission::accepted);
    CHECK_EQ(requests.back()->arrival, place / 7);
  }
  for (const RequestPtr& request : requests) CHECK(only(scheduler.next(1'000)) == request);
  check_empty(scheduler);
  CHECK_EQ(scheduler.running_batches(), 100);
}

TEST("the sooner deadline goes first, whatever its shape") {
  Scheduler scheduler = unmerging();
  const std::vector<Nanos> deadlines = {900, 300, 500, 300, 100, 700};
  std::vector<RequestPtr> requests;
  for (const Nanos deadline : deadlines) {
    requests.push_back(request_of(1 + std::int64_t(requests.size()) % 2, 1, deadline));
    scheduler.admit(requests.back(), 0);
  }
  for (const std::size_t place : {4, 1, 3, 2, 5, 0}) CHECK(only(scheduler.next(50)) == requests[place]);
}

TEST("a request without a deadline is due a second after it came, so that nothing starves") {
  Scheduler scheduler = unmerging();
  const Nanos second = RequestQueue::kSlack[1];
  CHECK_EQ(second, kNanosPerSecond);
  const RequestPtr patient = request_of(1);
  const RequestPtr far = request_of(1, 1, 2 * second + 10);
  const RequestPtr sooner = request_of(1, 1, second - 1);
  const RequestPtr later = request_of(1, 1, second + 1);
  for (const RequestPtr& request : {far, later, patient, sooner}) scheduler.admit(request, 0);
  CHECK(only(scheduler.next(0)) == sooner);
  // A far deadline counts as much as none: these three are due a second after they came.
  CHECK(only(scheduler.next(0)) == far);
  CHECK(only(scheduler.next(0)) == later);
  CHECK(only(scheduler.next(0)) == patient);
  const RequestPtr old = request_of(1);
  scheduler.admit(old, second);
  const RequestPtr urgent = request_of(1, 1, 2 * second + 5);
  scheduler.admit(urgent, second + 10);
  CHECK(only(scheduler.next(second + 20)) == old);
  CHECK(only(scheduler.next(second + 20)) == urgent);
}

TEST("a dead head does not hold its bucket back, nor push it ahead") {
  Scheduler scheduler = unmerging();
  const RequestPtr a1 = request_of(1);
  const RequestPtr b1 = request_of(2);
  const RequestPtr a2 = request_of(1);
  for (const RequestPtr& request : {a1, b1, a2}) scheduler.admit(request, 0);
  CHECK(scheduler.forget(*a1, 0));
  CHECK(only(scheduler.next(0)) == b1);
  CHECK(only(scheduler.next(0)) == a2);
  CHECK(scheduler.next(0).batch.empty());
}

TEST("the limit of rows holds, and running gives rows back") {
  SchedulerOptions options = with_merging(Merging::no);
  options.max_queue_rows = 10;
  Scheduler scheduler(options);
  CHECK_EQ(scheduler.admit(request_of(1, 6), 0), Admission::accepted);
  CHECK_EQ(scheduler.admit(request_of(1, 5), 0), Admission::too_many_rows);
  CHECK_EQ(scheduler.admit(request_of(2, 4), 0), Admission::accepted);
  CHECK_EQ(scheduler.admit(request_of(3, 1), 0), Admission::too_many_rows);
  CHECK_EQ(scheduler.queued_rows(), 10);
  CHECK_EQ(scheduler.queued_requests(), 2);
  scheduler.next(0);
  CHECK_EQ(scheduler.queued_rows(), 4);
  CHECK_EQ(scheduler.admit(request_of(1, 6), 0), Admission::accepted);
}

TEST("a request of more rows than may wait is taken where nothing else waits, and is all that is taken") {
  SchedulerOptions options = with_merging(Merging::no);
  options.max_queue_rows = 10;
  Scheduler scheduler(options);
  CHECK_EQ(scheduler.admit(request_of(1, 1), 0), Admission::accepted);
  CHECK_EQ(scheduler.admit(request_of(1, 11), 0), Admission::too_many_rows);
  scheduler.next(0);
  const RequestPtr large = request_of(1, 11);
  CHECK_EQ(scheduler.admit(large, 0), Admission::accepted);
  CHECK_EQ(scheduler.queued_rows(), 11);
  CHECK_EQ(scheduler.admit(request_of(1, 1), 0), Admission::too_many_rows);
  CHECK_EQ(scheduler.admit(request_of(1, 11), 0), Admission::too_many_rows);
  CHECK(only(scheduler.next(0)) == large);
  CHECK_EQ(scheduler.admit(request_of(1, 11), 0), Admission::accepted);
}

TEST("the limit of bytes holds, and running gives bytes back") {
  SchedulerOptions options = with_merging(Merging::no);
  options.max_queue_bytes = 100;
  Scheduler scheduler(options);
  const auto of_bytes = [](std::size_t bytes) {
    RequestPtr request = request_of(1);
    request->bytes = bytes;
    return request;
  };
  CHECK_EQ(scheduler.admit(of_bytes(101), 0), Admission::bytes_over_limit);
  CHECK(scheduler.fits(*of_bytes(100)));
  CHECK(!scheduler.fits(*of_bytes(101)));
  CHECK_EQ(scheduler.admit(of_bytes(100), 0), Admission::accepted);
  CHECK_EQ(scheduler.admit(of_bytes(1), 0), Admission::too_many_bytes);
  CHECK_EQ(scheduler.admit(of_bytes(0), 0), Admission::accepted);
  scheduler.next(0);
  CHECK_EQ(scheduler.queued_bytes(), 0u);
  CHECK_EQ(scheduler.admit(of_bytes(100), 0), Admission::accepted);
}

TEST("a refused request leaves no trace") {
  SchedulerOptions options;
  options.max_queue_bytes = 1;
  Scheduler scheduler(options);
  const RequestPtr refused = request_of(1, 2);
  refused->bytes = 2;
  scheduler.admit(refused, 5);
  CHECK(!refused->in_queue && !refused->awaiting_admission);
  CHECK_EQ(refused.use_count(), 1);
  check_empty(scheduler);
  CHECK(!scheduler.forget(*refused, 5));  // as harmless
  check_empty(scheduler);
}

TEST("forgetting gives rows and bytes back at once, and only once") {
  Scheduler scheduler = unmerging();
  const RequestPtr forgotten = request_of(1, 3);
  const RequestPtr kept = request_of(1, 4);
  scheduler.admit(forgotten, 0);
  scheduler.admit(kept, 0);
  CHECK(scheduler.forget(*forgotten, 1));  // its inputs are the caller's to let go of
  CHECK_EQ(scheduler.queued_rows(), 4);
  CHECK_EQ(scheduler.queued_bytes(), kept->bytes);
  CHECK_EQ(scheduler.queued_requests(), 1);
  CHECK_EQ(forgotten->rows_unfinished, 0);
  CHECK(!scheduler.forget(*forgotten, 2));
  CHECK_EQ(scheduler.queued_rows(), 4);
  CHECK(only(scheduler.next(3)) == kept);
  CHECK(!scheduler.forget(*kept, 4));  // it has left the queue
  check_empty(scheduler);
}

TEST("what has expired comes out apart, and gives its rows back") {
  Scheduler scheduler = unmerging();
  const RequestPtr late = request_of(1, 2, /*deadline=*/100);
  const RequestPtr later = request_of(1, 2, /*deadline=*/150);
  const RequestPtr fine = request_of(1, 2, /*deadline=*/201);
  const RequestPtr behind = request_of(2, 2, /*deadline=*/300);
  for (const RequestPtr& request : {late, later, fine, behind}) scheduler.admit(request, 0);
  const Decision decision = scheduler.next(200);
  CHECK(only(decision) == fine);
  CHECK((decision.expired == std::vector<RequestPtr>{late, later}));
  CHECK_EQ(scheduler.queued_rows(), 2);
  const Decision rest = scheduler.next(300);
  CHECK(rest.batch.empty());
  CHECK(rest.expired == std::vector<RequestPtr>{behind});
  check_empty(scheduler);
}

TEST("a deadline is missed at its very instant, and not one before") {
  Scheduler scheduler = unmerging();
  scheduler.admit(request_of(1, 1, 100), 0);
  scheduler.admit(request_of(1, 1, 100), 0);
  CHECK_EQ(scheduler.next(99).batch.size(), 1u);
  CHECK_EQ(scheduler.next(100).expired.size(), 1u);
}

TEST("what was forgotten neither runs nor expires") {
  Scheduler scheduler({});
  const RequestPtr forgotten = request_of(1, 1, 10);
  scheduler.admit(forgotten, 0);
  scheduler.forget(*forgotten, 0);
  const Decision decision = scheduler.next(100);
  CHECK(decision.batch.empty() && decision.expired.empty());
  CHECK_EQ(forgotten.use_count(), 1);
}

TEST("taking all empties the queue, in the order it would have run, without the dead") {
  Scheduler scheduler({});
  std::vector<RequestPtr> expected;
  for (int place = 0; place < 50; ++place) {
    const RequestPtr request = request_of(1 + place * 7 % 5, 2, /*deadline=*/1);
    scheduler.admit(request, 0);
    if (place % 3 == 0) {
      scheduler.forget(*request, 0);
    } else {
      expected.push_back(request);
    }
  }
  const RequestPtr sooner = request_of(3, 1, /*deadline=*/0);
  scheduler.admit(sooner, 0);
  expected.insert(expected.begin(), sooner);
  CHECK(take_all(scheduler, 0) == expected);
  for (const RequestPtr& request : expected) CHECK(!request->in_queue);
  check_empty(scheduler);
  CHECK(scheduler.next(5).batch.empty());
  CHECK_EQ(scheduler.admit(request_of(1), 5), Admission::accepted);
  CHECK_EQ(scheduler.next(5).batch.size(), 1u);
}

TEST("running batches are counted until they are done") {
  Scheduler scheduler = unmerging();
  scheduler.set_instances(2);
  scheduler.admit(request_of(1), 0);
  scheduler.admit(request_of(2), 0);
  const Decision first = scheduler.next(0);
  const Decision second = scheduler.next(0);
  CHECK_EQ(scheduler.running_batches(), 2);
  end(scheduler, first.batch, 10, 5);
  CHECK_EQ(scheduler.running_batches(), 1);
  scheduler.done({}, {}, 5);
  CHECK_EQ(scheduler.running_batches(), 1);
  scheduler.done(second.batch, {}, 5);  // all had ended before it could run
  CHECK_EQ(scheduler.running_batches(), 0);
  CHECK_EQ(second.batch[0].request->rows_unfinished, 0);
}

TEST("the batches that ended are counted by their rows, well or badly") {
  Scheduler scheduler = unmerging();
  for (const std::int64_t rows : {1, 3, 1}) {
    scheduler.admit(request_of(1, rows), 0);
    end(scheduler, scheduler.next(0).batch, 10, 0);
  }
  scheduler.admit(request_of(1, 3), 0);
  RunRecord failed;
  failed.rows = 3;
  failed.failed = true;
  scheduler.done(scheduler.next(0).batch, {failed}, 0);
  CHECK((scheduler.batch_rows() == std::map<std::int64_t, std::int64_t>{{1, 2}, {3, 2}}));
}

TEST("what waits is predicted to take its rows at the best rate measured, over all instances") {
  Scheduler scheduler({});
  CHECK_EQ(scheduler.predicted_drain_ns(), 0.0);
  teach(scheduler, 1, 0, 100, 8);
  teach(scheduler, 2, 0, 1'000, 8);
  CHECK_EQ(scheduler.predicted_drain_ns(), 0.0);
  scheduler.admit(request_of(1, 10), 0);
  scheduler.admit(request_of(2, 3), 0);
  scheduler.admit(request_of(3, 50), 0);  // of which nothing is known
  CHECK_EQ(scheduler.predicted_drain_ns(), 4'000.0);
  scheduler.set_instances(4);
  CHECK_EQ(scheduler.predicted_drain_ns(), 1'000.0);
  scheduler.set_instances(0);  // all have left
  CHECK_EQ(scheduler.predicted_drain_ns(), 4'000.0);
}

TEST("failed runs teach nothing about time") {
  Scheduler scheduler({});
  scheduler.admit(request_of(1), 0);
  RunRecord failed;
  failed.rows = 1;
  failed.run_ns = 7;
  failed.failed = true;
  scheduler.done(scheduler.next(0).batch, {failed}, 0);
  scheduler.admit(request_of(1), 0);
  CHECK_EQ(scheduler.predicted_drain_ns(), 0.0);
}

TEST("a million forgotten behind a live head take no memory") {
  Counted counted;
  Scheduler scheduler({});
  const RequestPtr head = counted.make(1);
  scheduler.admit(head, 0);
  for (int place = 0; place < 1'000'000; ++place) {
    const RequestPtr request = counted.make(1 + place % 3);
    if (scheduler.admit(request, 0) != Admission::accepted) CHECK(false);
    scheduler.forget(*request, 0);
  }
  CHECK(counted.most < 100);
  CHECK_EQ(scheduler.queued_requests(), 1);
  CHECK(only(scheduler.next(0)) == head);
  CHECK(scheduler.next(0).batch.empty());
  CHECK_EQ(counted.alive, 1);
}

TEST("the dead never outnumber the living by much") {
  Counted counted;
  Scheduler scheduler({});
  std::vector<RequestPtr> living;
  for (int place = 0; place < 1'000; ++place) {
    living.push_back(counted.make(1 + place % 7));
    scheduler.admit(living.back(), 0);
  }
  for (int place = 0; place < 100'000; ++place) {
    const RequestPtr request = counted.make(1 + place % 11);
    scheduler.admit(request, 0);
    scheduler.forget(*request, 0);
  }
  CHECK(counted.most < 2'200);
  for (const RequestPtr& request : living) CHECK(only(scheduler.next(0)) == request);
  check_empty(scheduler);
}
