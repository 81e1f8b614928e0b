// The work that came, whatever has become of it.
#include "check.h"
#include "scheduling.h"
#include "scheduling/scheduler.h"

using namespace paddleinfer;
using namespace fakes;

namespace {

// Runs of n rows take 1000 + 100 * n: 131.25 a row in the best one.
constexpr double kBestRow = 4'200.0 / 32;

double added(Scheduler& scheduler, const RequestPtr& request, Admission expected) {
  const double before = scheduler.offered_work_ns();
  CHECK_EQ(scheduler.admit(request, 0), expected);
  return scheduler.offered_work_ns() - before;
}

bool about(double a, double b) { return a > 0.99 * b && a < 1.01 * b; }

}  // namespace

TEST("nothing is known of work before the first run") {
  Scheduler scheduler({});
  CHECK_EQ(added(scheduler, request_of(1, 5), Admission::accepted), 0.0);
}

TEST("a row is worth what it takes in the best run") {
  Scheduler scheduler({});
  teach(scheduler, 1, 1'000, 100, 32);
  CHECK(about(added(scheduler, request_of(1), Admission::accepted), kBestRow));
  CHECK(about(added(scheduler, request_of(1, 64), Admission::accepted), 64 * kBestRow));
}

TEST("a deadline that leaves time for small runs only makes a row dearer") {
  Scheduler scheduler({});
  teach(scheduler, 1, 1'000, 100, 32);
  CHECK(about(added(scheduler, request_of(1, 1, 3'600), Admission::accepted), 1'800.0 / 8));
  CHECK(about(added(scheduler, request_of(1, 1, 1'000'000), Admission::accepted), kBestRow));
}

TEST("what is refused for what waits is work, and what could never be in time is none") {
  SchedulerOptions options;
  options.max_queue_rows = 1;
  Scheduler scheduler(options);
  teach(scheduler, 1, 1'000, 100, 32);
  scheduler.admit(request_of(1), 0);
  CHECK(about(added(scheduler, request_of(1), Admission::too_many_rows), kBestRow));
  Scheduler busy({});
  teach(busy, 1, 1'000, 100, 32);
  busy.admit(request_of(1), 0);
  CHECK(!busy.next(0).batch.empty());
  busy.admit(request_of(1), 0);
  CHECK_EQ(added(busy, request_of(1, 1, 500), Admission::infeasible), 0.0);
  CHECK(added(busy, request_of(1, 1, 1'500), Admission::would_be_late) > 0.0);
}

TEST("rows that may not share a run are worth a run of their own") {
  Scheduler scheduler(with_merging(Merging::no));
  teach(scheduler, 1, 1'000, 100, 32);
  CHECK(about(added(scheduler, request_of(1, 4), Admission::accepted), 1'400.0));
}
