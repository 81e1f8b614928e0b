// Deadlines and overload: who is refused, who is shed, and how small batches become.
#include "served.h"

using namespace fakes;
using namespace harness;

namespace {

SchedulerOptions policy(Policy policy) {
  SchedulerOptions options;
  options.policy = policy;
  options.max_delay = 0;
  return options;
}

}  // namespace

TEST("a request whose own run would already be late is too short for any, on an idle engine and on a busy one") {
  Served served;
  CHECK_EQ(served.come(kFixed + kPerRow - 1'000), Admission::infeasible);
  CHECK(std::abs(served.last->needs_ns - (kFixed + kPerRow)) < 1'000);
  served.scheduler.set_delivery_latency(kMillisecond);
  CHECK_EQ(served.come(2 * kFixed), Admission::infeasible);
  CHECK(std::abs(served.last->needs_ns - (2 * kFixed + kPerRow)) < 1'000);
  served.scheduler.set_delivery_latency(0);
  CHECK(!served.last->in_queue);
  CHECK_EQ(served.last.use_count(), 1);
  check_empty(served.scheduler);
  CHECK_EQ(served.come(kFixed + kPerRow + 1'000), Admission::accepted);
  REQUIRE(served.run().batch.size() == 1);
  served.occupy();
  CHECK_EQ(served.come(kFixed), Admission::infeasible);  // it may come back as late as it likes
  CHECK_EQ(served.come(2 * kFixed), Admission::would_be_late);
}

TEST("a request is refused when what runs takes too long for it") {
  Served served;
  served.occupy();
  CHECK_EQ(served.come(kFullRun), Admission::would_be_late);
  CHECK_EQ(served.come(kFullRun + kFixed), Admission::would_be_late);
  CHECK_EQ(served.come(kFullRun + 2 * kFixed), Admission::accepted);
  served.now += kFullRun;  // it is about to be over
  CHECK_EQ(served.come(2 * kFixed), Admission::accepted);
}

TEST("a request is refused when what waits ahead of it takes too long for it, and who is accepted is in time") {
  Served served;
  Batch running = served.occupy();
  const Nanos begun = served.now;
  constexpr Nanos kWithin = 50 * kMillisecond;
  std::int64_t accepted = 0;
  while (accepted < 1'000 && served.come(kWithin) == Admission::accepted) ++accepted;
  const double possible = double(kWithin) / double(kFullRun) * 32 - 32;
  CHECK(double(accepted) > 0.8 * possible && double(accepted) <= possible);
  CHECK_EQ(served.scheduler.queued_rows(), accepted);
  // It is ahead of all that wait, and need not wait for them.
  CHECK_EQ(served.come(kFullRun + 2 * kFixed), Admission::accepted);
  CHECK_EQ(served.come(kNever), Admission::accepted);
  end(served.scheduler, running, kFullRun, served.now += kFullRun);
  std::int64_t ran = 0;
  while (served.scheduler.queued_requests() > 0) {
    const Decision decision = served.run();
    CHECK(decision.expired.empty() && decision.shed.empty());
    for (const Slice& slice : decision.batch) CHECK(served.now <= slice.request->deadline);
    ran += rows_of(decision.batch);
  }
  CHECK_EQ(ran, accepted + 2);
  CHECK(served.now < begun + kWithin + kFullRun);
}

TEST("nobody is refused for a time of which nothing is known") {
  Scheduler scheduler({});
  for (int place = 0; place < 5; ++place) {
    CHECK_EQ(scheduler.admit(request_of(1, 1, 10), 0), Admission::accepted);
  }
  Served served;
  CHECK_EQ(served.scheduler.admit(request_of(2, 1, served.now + 10), served.now), Admission::accepted);  // its shape
}

TEST("when nothing has run recently one request is let through as a trial, and no second") {
  Served served;
  served.now += kNanosPerSecond;
  CHECK_EQ(served.come(1'000), Admission::accepted);
  const RequestPtr first = served.last;
  CHECK_EQ(served.come(1'000), Admission::infeasible);
  const Decision decision = served.scheduler.next(served.now);
  CHECK(only(decision) == first);  // it is not shed either
  CHECK_EQ(served.come(1'000), Admission::infeasible);
}

TEST("what no run can meet is tried again soon, and each time that it is found true more rarely") {
  Served served;
  int tried = 0;
  std::vector<int> by_quarter;
  for (int quarter = 0; quarter < 4; ++quarter) {
    const int before = tried;
    for (const Nanos until = served.now + 25 * kFixed; served.now < until; served.now += kFixed / 32) {
      if (served.come(kFixed / 2) != Admission::accepted) continue;
      ++tried;
      served.run();
    }
    by_quarter.push_back(tried - before);
  }
  CHECK(by_quarter[0] >= 12 && by_quarter[0] <= 18);
  CHECK(by_quarter[3] >= 10 && by_quarter[3] <= 13);  // no more than half of the time goes to it
}

TEST("after a spell in which every run was slow an idle engine soon serves what it can again") {
  for (const Nanos slow : {20 * kFixed, 300 * kFixed, 5'000 * kFixed}) {
    Served served;
    for (int run = 0; run < 200; ++run) {
      served.accepted(kNever);
      served.run_for(slow);
    }
    CHECK(served.scheduler.times_of(*served.last).predict_ns(1) > 0.9 * double(slow));
    int refused = 0;
    for (int call = 0; call < 100; ++call, served.now += slow / 60) {  // runs are quick again
      if (served.come(5 * kFixed) == Admission::accepted) {
        served.run();
      } else {
        ++refused;
      }
    }
    CHECK(refused <= 5);
    check_empty(served.scheduler);
  }
}

TEST("a cold first run makes nobody late") {
  Scheduler scheduler({});
  Nanos now = 1;
  const auto serve = [&](Nanos run_ns, bool first) {
    RunRecord cold = ran(1, run_ns);
    cold.first_of_its_size = first;
    const Batch batch = scheduler.next(now).batch;
    scheduler.done(batch, {cold}, now += run_ns);
  };
  REQUIRE(scheduler.admit(request_of(1), now) == Admission::accepted);
  serve(kNanosPerSecond, true);
  for (int call = 0; call < 100; ++call) {
    CHECK_EQ(scheduler.admit(request_of(1, 1, now + 20 * kFixed), now), Admission::accepted);
    CHECK_EQ(scheduler.admit(request_of(1, 1, now + 20 * kFixed), now), Admission::accepted);
    serve(kFixed, call == 0);
    while (scheduler.queued_requests() > 0) serve(kFixed, false);
  }
}

TEST("where nothing is ahead a request may try to be quicker than nineteen of twenty runs") {
  Served served;
  for (int run = 0; run < 64; ++run) {
    served.accepted(kNever);
    const Nanos run_ns = (kFixed + kPerRow) * (run % 4 == 0 ? 2 : 1);
    served.run_for(run_ns);
  }
  CHECK(served.scheduler.times_of(*served.last).predict_p95_ns(1) > double(2 * kFixed));
  CHECK_EQ(served.come(kFixed + 4 * kPerRow), Admission::accepted);
  const Batch running = served.scheduler.next(served.now).batch;
  CHECK_EQ(served.come(3 * kFixed), Admission::would_be_late);  // behind that one
}

TEST("only the adaptive policy refuses or sheds, and only who has a deadline") {
  for (const Policy other : {Policy::eager, Policy::fixed_delay}) {
    Served served(policy(other));
    const Batch running = served.occupy();
    const RequestPtr hopeless = served.accepted(kFullRun + 1'000);
    const RequestPtr another = served.accepted(kFullRun + 1'000);
    end(served.scheduler, running, kFullRun, served.now += kFullRun);
    const Decision decision = served.scheduler.next(served.now);
    CHECK((requests_in(decision.batch) == std::vector<RequestPtr>{hopeless, another}));
  }
  Served served;
  served.occupy();
  for (int place = 0; place < 500; ++place) CHECK_EQ(served.come(kNever), Admission::accepted);
}

TEST("a request of many rows counts with the runs that it takes itself") {
  Served served;
  CHECK_EQ(served.come(3 * kFullRun - 1'000, 96), Admission::infeasible);
  CHECK_EQ(served.come(3 * kFullRun + 1'000, 96), Admission::accepted);
}

TEST("a request of more rows than anybody has sent so far is not taken for many small runs") {
  Scheduler scheduler({});
  teach(scheduler, 1, kFixed, kPerRow, 32);  // by one caller of one row
  scheduler.admit(request_of(1), 0);
  REQUIRE(scheduler.next(0).batch.size() == 1);
  CHECK_EQ(scheduler.admit(request_of(1, 32, kFixed + kPerRow + kFullRun + 1'000), 0), Admission::accepted);
}

TEST("who can no longer be in time is shed, who is too late already has expired") {
  Served served;
  const Batch running = served.occupy();
  const Nanos begin = served.now;
  const RequestPtr late = served.accepted(10 * kMillisecond);
  const RequestPtr hopeless = served.accepted(12 * kMillisecond);
  const RequestPtr fine = served.accepted(40 * kMillisecond);
  // The run took longer than anybody could know.
  served.now = begin + 12 * kMillisecond - kFixed;
  end(served.scheduler, running, kFullRun, served.now);
  const Decision decision = served.scheduler.next(served.now);
  CHECK(only(decision) == fine);
  CHECK(decision.expired == std::vector<RequestPtr>{late});
  CHECK(decision.shed == std::vector<RequestPtr>{hopeless});
  CHECK(std::abs(hopeless->needs_ns - (kFixed + kPerRow)) < 1'000);
  CHECK(!hopeless->in_queue);
  CHECK_EQ(hopeless->rows_unfinished, 0);
  check_empty(served.scheduler);
}

TEST("the only one that waits is not shed while nothing runs: it may find out whether it is late") {
  Served served;
  const RequestPtr only_one = served.accepted(5 * kMillisecond);
  served.now += 5 * kMillisecond - 1'000;
  CHECK(only(served.scheduler.next(served.now)) == only_one);
}

TEST("a batch is no larger than its most urgent request allows") {
  Served served;
  const RequestPtr urgent = served.accepted(kFixed + 10 * kPerRow + 5'000);
  for (int place = 0; place < 20; ++place) served.accepted(kNever);
  const Decision decision = served.scheduler.next(served.now);
  CHECK(decision.batch.at(0).request == urgent);
  CHECK_EQ(rows_of(decision.batch), 10);
  CHECK(decision.reason == DispatchReason::deadline);
  CHECK(std::abs(decision.predicted_ns - (kFixed + 10 * kPerRow)) < 1'000);
  CHECK_EQ(served.scheduler.queued_rows(), 11);
  CHECK(decision.shed.empty());
}

TEST(
    "a large request is shed when not even its next part can be in time; by itself, that part is as small as it must "
    "be") {
  for (const bool by_itself : {false, true}) {
    Served served;
    const RequestPtr large = served.accepted(2 * kFullRun + 1'000, 64);
    RequestPtr other;
    if (!by_itself) other = served.accepted(kNever);
    served.now += 2 * kFullRun - kFixed - 8 * kPerRow;
    const Decision decision = served.scheduler.next(served.now);
    REQUIRE(decision.batch.size() == 1);
    CHECK(decision.shed == (by_itself ? std::vector<RequestPtr>{} : std::vector<RequestPtr>{large}));
    CHECK(decision.batch[0].request == (by_itself ? large : other));
    if (by_itself) CHECK_EQ(decision.batch[0].rows, 8);
  }
}

TEST("in overload the heads that keep batches small are shed, and no more than those") {
  Served served;
  std::vector<RequestPtr> urgent;
  for (int place = 0; place < 5; ++place) urgent.push_back(served.accepted(5 * kMillisecond));
  std::vector<RequestPtr> others;
  for (int place = 0; place < 60; ++place) others.push_back(served.accepted(80 * kMillisecond));
  served.now += 5 * kMillisecond - kFixed - 3 * kPerRow - kPerRow / 2;  // now they allow three rows
  const Decision decision = served.scheduler.next(served.now);
  CHECK(decision.shed == urgent);
  CHECK(decision.expired.empty());
  CHECK((requests_in(decision.batch) == std::vector<RequestPtr>(others.begin(), others.begin() + 32)));
  CHECK_EQ(served.scheduler.queued_rows(), 28);
}

TEST("one urgent head does not cost it its turn: the batch behind it is full again") {
  Served served;
  const RequestPtr urgent = served.accepted(5 * kMillisecond);
  for (int place = 0; place < 60; ++place) served.accepted(80 * kMillisecond);
  served.now += 5 * kMillisecond - kFixed - 3 * kPerRow - kPerRow / 2;
  const Decision decision = served.scheduler.next(served.now);
  CHECK(decision.shed.empty());
  CHECK(decision.batch.at(0).request == urgent);
  CHECK_EQ(rows_of(decision.batch), 3);
  CHECK_EQ(rows_of(served.scheduler.next(served.now).batch), 32);
}

TEST("nobody is shed for others where no more than a full batch waits") {
  Served served;
  for (int place = 0; place < 5; ++place) served.accepted(5 * kMillisecond);
  for (int place = 0; place < 27; ++place) served.accepted(80 * kMillisecond);
  served.now += 5 * kMillisecond - kFixed - 3 * kPerRow - kPerRow / 2;
  const Decision decision = served.scheduler.next(served.now);
  CHECK(decision.shed.empty());
  CHECK_EQ(rows_of(decision.batch), 3);
}

TEST("the dead among the urgent heads are not shed, and not lost count of") {
  Served served;
  std::vector<RequestPtr> urgent;
  for (int place = 0; place < 8; ++place) urgent.push_back(served.accepted(5 * kMillisecond));
  for (int place = 0; place < 60; ++place) served.accepted(80 * kMillisecond);
  for (const std::size_t place : {0, 2, 7}) CHECK(served.scheduler.forget(*urgent[place], served.now));
  served.now += 5 * kMillisecond - kFixed - 3 * kPerRow - kPerRow / 2;
  const Decision decision = served.scheduler.next(served.now);
  CHECK((decision.shed == std::vector<RequestPtr>{urgent[1], urgent[3], urgent[4], urgent[5], urgent[6]}));
  CHECK_EQ(rows_of(decision.batch), 32);
  CHECK_EQ(served.scheduler.queued_requests(), 28);
}

TEST("the more urgent priority class goes first") {
  Scheduler scheduler(with_merging(Merging::no));
  std::vector<RequestPtr> by_class;
  for (const int priority : {2, 1, 0}) {
    by_class.push_back(request_of(1 + priority));
    by_class.back()->priority = priority;
    scheduler.admit(by_class.back(), 0);
    CHECK_EQ(by_class.back()->key, RequestQueue::kSlack[priority]);
  }
  const RequestPtr sooner = request_of(1, 1, RequestQueue::kSlack[0] - 1);  // a deadline counts in any class
  sooner->priority = 2;
  scheduler.admit(sooner, 0);
  CHECK(only(scheduler.next(1)) == sooner);
  for (const int place : {2, 1, 0}) CHECK(only(scheduler.next(1)) == by_class[std::size_t(place)]);
}

TEST("the least urgent class does not starve, however many come in the others") {
  Scheduler scheduler(with_merging(Merging::no));
  const RequestPtr patient = request_of(1);
  patient->priority = 2;
  scheduler.admit(patient, 0);
  Nanos now = 0;
  while (patient->in_queue && now < 20 * kNanosPerSecond) {
    now += 10 * kMillisecond;
    for (int more = 0; more < 2; ++more) {  // twice as many as run
      const RequestPtr urgent = request_of(1);
      urgent->priority = 0;
      scheduler.admit(urgent, now);
    }
    const Decision decision = scheduler.next(now);
    end(scheduler, decision.batch, kMillisecond, now);
  }
  // Half of what came waits, a second's worth for each second: those that came in the first ten come first.
  CHECK(now > 5 * kNanosPerSecond && now <= 20 * kNanosPerSecond);
  CHECK(!patient->in_queue);
}
