// Short runs leave a core to the callers: they keep no more instances busy than the options say.
#include <memory>
#include <tuple>

#include "requests/completion.h"
#include "scheduling.h"

using namespace fakes;

namespace {

constexpr Nanos kShort = 50'000;

SchedulerOptions with_short_runs_on(std::int64_t instances) {
  SchedulerOptions options;
  options.short_run_instances = instances;
  return options;
}

// A request of an event loop's.
RequestPtr asked_by_loop(std::int64_t width = 1, Nanos deadline = kNever) {
  const RequestPtr request = request_of(width, 1, deadline);
  request->completion_queue = std::make_shared<CompletionQueue>(CompletionQueue::Reader::thread);
  return request;
}

void ask(Scheduler& scheduler, int count, Nanos now, std::int64_t width = 1) {
  for (int place = 0; place < count; ++place) CHECK_EQ(scheduler.admit(asked_by_loop(width), now), Admission::accepted);
}

// Two idle instances of a model whose runs take `run_ns`, and 1 us a row.
struct Taught {
  explicit Taught(Nanos run_ns, std::int64_t short_run_instances = 1)
      : scheduler(with_short_runs_on(short_run_instances)) {
    scheduler.set_instances(2);
    teach(scheduler, 1, run_ns, 1'000, 32);
  }
  Scheduler scheduler;
};

}  // namespace

TEST("rows of a short run are divided over no more instances than these runs keep busy") {
  for (const auto& [run_ns, instances, rows] :
       {std::tuple(kShort, 1, 16), std::tuple(kShort, 2, 8), std::tuple(20 * kShort, 1, 8)}) {
    Taught taught(run_ns, instances);
    ask(taught.scheduler, 16, 0);
    CHECK_EQ(taught.scheduler.plan(0).instances, 16 / rows);
    CHECK_EQ(rows_of(taught.scheduler.next(0).batch), rows);
  }
}

TEST("what an instance in a short run can take next is served soon, until that run is overdue") {
  Taught taught(kShort);
  Scheduler& scheduler = taught.scheduler;
  ask(scheduler, 1, 0);
  CHECK(!scheduler.plan(0).served_soon);
  const Batch batch = scheduler.next(0).batch;
  CHECK(scheduler.runs_are_short());
  ask(scheduler, 4, 10);
  CHECK(scheduler.plan(10).served_soon);
  CHECK_EQ(scheduler.plan(10).instances, 1);
  CHECK(scheduler.plan(4 * kShort).served_soon);
  CHECK(!scheduler.plan(10 * kShort).served_soon);
  end(scheduler, batch, kShort, 10 * kShort);
  CHECK(!scheduler.plan(10 * kShort).served_soon);
  CHECK(!scheduler.runs_are_short());
}

TEST("longer runs, further shapes, and a core to spare have another instance take it") {
  for (const auto& [run_ns, instances, width] :
       {std::tuple(20 * kShort, 1, 1), std::tuple(kShort, 2, 1), std::tuple(kShort, 1, 2)}) {
    Taught taught(run_ns, instances);
    ask(taught.scheduler, 1, 0);
    CHECK_EQ(taught.scheduler.next(0).batch.size(), 1u);
    CHECK_EQ(taught.scheduler.runs_are_short(), width == 2);
    ask(taught.scheduler, 1, 10, width);
    if (width == 2) ask(taught.scheduler, 1, 10);
    CHECK(!taught.scheduler.plan(10).served_soon);
    CHECK_EQ(taught.scheduler.plan(10).instances, 1);
  }
}

TEST("a deadline that is near, no delay allowed, and other policies have another instance take it") {
  SchedulerOptions undelayed = with_short_runs_on(1);
  undelayed.max_delay = 0;
  SchedulerOptions eager = with_short_runs_on(1);
  eager.policy = Policy::eager;
  for (const auto& [options, deadline, soon] :
       {std::tuple(with_short_runs_on(1), 100 * kShort, true), std::tuple(with_short_runs_on(1), 20 * kShort, false),
        std::tuple(undelayed, kNever, false), std::tuple(eager, kNever, false)}) {
    Scheduler scheduler(options);
    scheduler.set_instances(2);
    teach(scheduler, 1, kShort, 1'000, 32);
    ask(scheduler, 1, 0);
    CHECK_EQ(scheduler.next(0).batch.size(), 1u);
    CHECK_EQ(scheduler.admit(asked_by_loop(1, deadline), 10), Admission::accepted);
    CHECK_EQ(scheduler.plan(10).served_soon, soon);
  }
}

TEST("threads that wait for their own results have both instances") {
  Taught taught(kShort);
  admit(taught.scheduler, 16, 1, 0);
  CHECK_EQ(taught.scheduler.plan(0).instances, 2);
  CHECK_EQ(rows_of(taught.scheduler.next(0).batch), 8);
  CHECK(!taught.scheduler.plan(10).served_soon);
  CHECK(!taught.scheduler.runs_are_short());  // so that no idle instance looks again and again
}
