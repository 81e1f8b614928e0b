// The scheduler alone: time is a number that the test passes in.
#include "fakes.h"
#include "scheduler.h"

using namespace paddleinfer;

namespace {

RequestPtr request_of(std::uint64_t signature, std::int64_t rows = 1, std::size_t bytes = 8, Nanos deadline = kNever) {
  auto request = std::make_shared<Request>();
  request->signature = signature;
  request->rows = rows;
  request->bytes = bytes;
  request->deadline = deadline;
  return request;
}

// Requests that count how many of them live.
struct Counted {
  std::int64_t alive = 0;
  std::int64_t most = 0;

  RequestPtr make(std::uint64_t signature) {
    most = std::max(most, ++alive);
    RequestPtr request(new Request, [this](Request* gone) {
      --alive;
      delete gone;
    });
    request->signature = signature;
    return request;
  }
};

RequestPtr only(const Decision& decision) {
  CHECK_EQ(decision.batch.size(), 1u);
  return decision.batch.empty() ? nullptr : decision.batch.front();
}

void check_empty(const Scheduler& scheduler) {
  CHECK_EQ(scheduler.queued_requests(), 0);
  CHECK_EQ(scheduler.queued_rows(), 0);
  CHECK_EQ(scheduler.queued_bytes(), 0u);
}

}  // namespace

TEST("an empty scheduler has nothing to do, ever") {
  Scheduler scheduler({});
  const Decision decision = scheduler.next(5);
  CHECK(decision.batch.empty() && decision.expired.empty());
  CHECK_EQ(decision.wake_at, kNever);
  CHECK_EQ(scheduler.running_batches(), 0);
}

TEST("requests of one signature go in the order they came") {
  Scheduler scheduler({});
  std::vector<RequestPtr> requests;
  for (int place = 0; place < 100; ++place) {
    requests.push_back(request_of(7));
    CHECK_EQ(scheduler.admit(requests.back(), place), Admission::accepted);
    CHECK_EQ(requests.back()->arrival, place);
  }
  for (const RequestPtr& request : requests) CHECK(only(scheduler.next(1000)) == request);
  check_empty(scheduler);
  CHECK_EQ(scheduler.running_batches(), 100);
}

TEST("the bucket whose head came first goes first") {
  Scheduler scheduler({});
  const RequestPtr a1 = request_of(9);
  const RequestPtr b1 = request_of(1);
  const RequestPtr a2 = request_of(9);
  const RequestPtr c1 = request_of(5);
  for (const RequestPtr& request : {a1, b1, a2, c1}) scheduler.admit(request, 0);
  CHECK(only(scheduler.next(0)) == a1);
  CHECK(only(scheduler.next(0)) == b1);
  const RequestPtr b2 = request_of(1);
  scheduler.admit(b2, 0);
  CHECK(only(scheduler.next(0)) == a2);
  CHECK(only(scheduler.next(0)) == c1);
  CHECK(only(scheduler.next(0)) == b2);
}

TEST("a dead head does not hold its bucket back, nor push it ahead") {
  Scheduler scheduler({});
  const RequestPtr a1 = request_of(1);
  const RequestPtr b1 = request_of(2);
  const RequestPtr a2 = request_of(1);
  for (const RequestPtr& request : {a1, b1, a2}) scheduler.admit(request, 0);
  scheduler.forget(*a1);
  CHECK(only(scheduler.next(0)) == b1);
  CHECK(only(scheduler.next(0)) == a2);
  CHECK(scheduler.next(0).batch.empty());
}

TEST("the limit of rows holds, and running gives rows back") {
  SchedulerOptions options;
  options.max_queue_rows = 10;
  Scheduler scheduler(options);
  CHECK_EQ(scheduler.admit(request_of(1, 11), 0), Admission::rows_over_limit);
  CHECK_EQ(scheduler.admit(request_of(1, 6), 0), Admission::accepted);
  CHECK_EQ(scheduler.admit(request_of(1, 5), 0), Admission::too_many_rows);
  CHECK_EQ(scheduler.admit(request_of(2, 4), 0), Admission::accepted);
  CHECK_EQ(scheduler.admit(request_of(3, 1), 0), Admission::too_many_rows);
  CHECK(scheduler.fits(*request_of(1, 10)));
  CHECK(!scheduler.fits(*request_of(1, 11)));
  CHECK_EQ(scheduler.queued_rows(), 10);
  CHECK_EQ(scheduler.queued_requests(), 2);
  scheduler.next(0);
  CHECK_EQ(scheduler.queued_rows(), 4);
  CHECK_EQ(scheduler.admit(request_of(1, 6), 0), Admission::accepted);
}

TEST("the limit of bytes holds, and running gives bytes back") {
  SchedulerOptions options;
  options.max_queue_bytes = 100;
  Scheduler scheduler(options);
  CHECK_EQ(scheduler.admit(request_of(1, 1, 101), 0), Admission::bytes_over_limit);
  CHECK(scheduler.fits(*request_of(1, 1, 100)));
  CHECK(!scheduler.fits(*request_of(1, 1, 101)));
  CHECK_EQ(scheduler.admit(request_of(1, 1, 100), 0), Admission::accepted);
  CHECK_EQ(scheduler.admit(request_of(1, 1, 1), 0), Admission::too_many_bytes);
  CHECK_EQ(scheduler.admit(request_of(1, 1, 0), 0), Admission::accepted);
  scheduler.next(0);
  CHECK_EQ(scheduler.queued_bytes(), 0u);
  CHECK_EQ(scheduler.admit(request_of(1, 1, 100), 0), Admission::accepted);
}

TEST("a refused request leaves no trace") {
  SchedulerOptions options;
  options.max_queue_rows = 1;
  Scheduler scheduler(options);
  const RequestPtr refused = request_of(1, 2);
  scheduler.admit(refused, 5);
  CHECK(!refused->in_queue);
  CHECK_EQ(refused.use_count(), 1);
  check_empty(scheduler);
  scheduler.forget(*refused);  // as harmless
  check_empty(scheduler);
}

TEST("forgetting gives rows and bytes back at once, and only once") {
  Scheduler scheduler({});
  const RequestPtr forgotten = request_of(1, 3, 30);
  const RequestPtr kept = request_of(1, 4, 40);
  scheduler.admit(forgotten, 0);
  scheduler.admit(kept, 0);
  scheduler.forget(*forgotten);
  CHECK_EQ(scheduler.queued_rows(), 4);
  CHECK_EQ(scheduler.queued_bytes(), 40u);
  CHECK_EQ(scheduler.queued_requests(), 1);
  scheduler.forget(*forgotten);
  CHECK_EQ(scheduler.queued_rows(), 4);
  CHECK(only(scheduler.next(0)) == kept);
  scheduler.forget(*kept);  // it has left the queue
  check_empty(scheduler);
}

TEST("what has expired comes out apart, and gives its rows back") {
  Scheduler scheduler({});
  const RequestPtr late = request_of(1, 2, 20, /*deadline=*/100);
  const RequestPtr later = request_of(2, 2, 20, /*deadline=*/150);
  const RequestPtr fine = request_of(1, 2, 20, /*deadline=*/201);
  const RequestPtr behind = request_of(2, 2, 20, /*deadline=*/120);
  for (const RequestPtr& request : {late, later, fine, behind}) scheduler.admit(request, 0);
  const Decision decision = scheduler.next(200);
  CHECK(only(decision) == fine);
  REQUIRE(decision.expired.size() == 2);
  CHECK(decision.expired[0] == late && decision.expired[1] == later);
  CHECK_EQ(scheduler.queued_rows(), 2);
  const Decision rest = scheduler.next(200);
  CHECK(rest.batch.empty());
  REQUIRE(rest.expired.size() == 1);
  CHECK(rest.expired[0] == behind);
  check_empty(scheduler);
}

TEST("a deadline is missed at its very instant, and not one before") {
  Scheduler scheduler({});
  scheduler.admit(request_of(1, 1, 1, 100), 0);
  scheduler.admit(request_of(1, 1, 1, 100), 0);
  CHECK_EQ(scheduler.next(99).batch.size(), 1u);
  CHECK_EQ(scheduler.next(100).expired.size(), 1u);
}

TEST("what was forgotten neither runs nor expires") {
  Scheduler scheduler({});
  const RequestPtr forgotten = request_of(1, 1, 1, 10);
  scheduler.admit(forgotten, 0);
  scheduler.forget(*forgotten);
  const Decision decision = scheduler.next(100);
  CHECK(decision.batch.empty() && decision.expired.empty());
  CHECK_EQ(forgotten.use_count(), 1);
}

TEST("take_all empties the queue, oldest first, without the dead") {
  Scheduler scheduler({});
  std::vector<RequestPtr> expected;
  for (int place = 0; place < 50; ++place) {
    const RequestPtr request = request_of(std::uint64_t(place * 7 % 5), 2, 10, /*deadline=*/1);
    scheduler.admit(request, 0);
    if (place % 3 == 0) {
      scheduler.forget(*request);
    } else {
      expected.push_back(request);
    }
  }
  CHECK(scheduler.take_all() == expected);
  for (const RequestPtr& request : expected) CHECK(!request->in_queue);
  check_empty(scheduler);
  CHECK(scheduler.next(5).batch.empty());
  CHECK_EQ(scheduler.admit(request_of(1), 5), Admission::accepted);
  CHECK_EQ(scheduler.next(5).batch.size(), 1u);
}

TEST("running batches are counted, those on a caller's thread too") {
  Scheduler scheduler({});
  scheduler.admit(request_of(1), 0);
  const Decision decision = scheduler.next(0);
  scheduler.begin_inline();
  CHECK_EQ(scheduler.running_batches(), 2);
  scheduler.done(decision.batch);
  scheduler.done({request_of(1)});
  scheduler.done({});
  CHECK_EQ(scheduler.running_batches(), 0);
}

TEST("a million forgotten behind a live head take no memory") {
  Counted counted;
  Scheduler scheduler({});
  const RequestPtr head = counted.make(1);
  scheduler.admit(head, 0);
  for (int place = 0; place < 1'000'000; ++place) {
    const RequestPtr request = counted.make(std::uint64_t(place % 3));
    if (scheduler.admit(request, 0) != Admission::accepted) CHECK(false);
    scheduler.forget(*request);
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
  for (int place = 0; place < 1000; ++place) {
    living.push_back(counted.make(std::uint64_t(place % 7)));
    scheduler.admit(living.back(), 0);
  }
  for (int place = 0; place < 100'000; ++place) {
    const RequestPtr request = counted.make(std::uint64_t(place % 11));
    scheduler.admit(request, 0);
    scheduler.forget(*request);
  }
  CHECK(counted.most < 2200);
  for (const RequestPtr& request : living) CHECK(only(scheduler.next(0)) == request);
  check_empty(scheduler);
}
