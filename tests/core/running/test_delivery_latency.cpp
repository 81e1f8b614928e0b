// What a result takes besides its run, and what follows for deadlines; with times that the test makes up.
#include <random>

#include "running/delivery_latency.h"
#include "scheduling.h"

using namespace fakes;
using namespace harness;

namespace {

RequestPtr ended(Outcome outcome) {
  RequestPtr request = request_of(1, 1);
  request->arrival = 1'000;
  request->explanation.queue_ns = 200;
  request->explanation.run_ns = 30;
  request->outcome = outcome;
  return request;
}

}  // namespace

TEST("nothing is taken off before anything is known") { CHECK_EQ(DeliveryLatency().bound_ns(), 0.0); }

TEST("49 of 50 exponential times stay within the bound") {
  DeliveryLatency delivery_latency;
  std::mt19937 random(3);
  std::exponential_distribution<double> taken(1.0 / 1'000'000);
  int within = 0;
  for (int time = 0; time < 5'000; ++time) {
    const Nanos ns = Nanos(taken(random));
    within += time >= 1'000 && double(ns) <= delivery_latency.bound_ns() ? 1 : 0;
    delivery_latency.note(ns);
  }
  CHECK(within > 4'000 * 0.95 && within < 4'000 * 0.995);
}

TEST("times that do not vary are the bound") {
  DeliveryLatency delivery_latency;
  for (int time = 0; time < 200; ++time) delivery_latency.note(50'000);
  CHECK(delivery_latency.bound_ns() > 49'000 && delivery_latency.bound_ns() < 52'000);
}

TEST("one pause of the process hardly moves the bound, times that stay long do") {
  DeliveryLatency delivery_latency;
  for (int time = 0; time < 200; ++time) delivery_latency.note(50'000);
  delivery_latency.note(100'000'000);
  CHECK(delivery_latency.bound_ns() < 150'000);
  for (int time = 0; time < 200; ++time) delivery_latency.note(20'000'000);
  CHECK(delivery_latency.bound_ns() > 19'000'000);
}

TEST("a time that the clocks make negative counts as none") {
  DeliveryLatency delivery_latency;
  delivery_latency.note(-5);
  CHECK_EQ(delivery_latency.bound_ns(), 0.0);
}

TEST("a result is due when its run is over, and nothing else is") {
  CHECK_EQ(ideal_delivery_time(*ended(Outcome::result)), 1'230);
  CHECK_EQ(ideal_delivery_time(*ended(Outcome::error)), kNever);
  RequestPtr in_parts = ended(Outcome::result);
  in_parts->partial_result = std::make_unique<PartialResult>(1);
  CHECK_EQ(ideal_delivery_time(*in_parts), kNever);
}

TEST("a run has to be over so long before the deadline as the hand-over takes") {
  Scheduler scheduler{SchedulerOptions()};
  Nanos now = kNanosPerSecond;
  teach(scheduler, 1, kMillisecond, kMillisecond / 10, 32, now);
  admit(scheduler, 1, 1, now);
  const Batch running = scheduler.next(now).batch;
  const auto come = [&](Nanos within) { return scheduler.admit(request_of(1, 1, now + within), now); };
  scheduler.set_delivery_latency(5 * kMillisecond);
  CHECK_EQ(come(6 * kMillisecond), Admission::infeasible);
  CHECK_EQ(come(7 * kMillisecond), Admission::would_be_late);
  CHECK_EQ(come(8 * kMillisecond), Admission::accepted);
  now += 2'500'000;
  end(scheduler, running, kMillisecond, now);
  CHECK_EQ(scheduler.next(now).batch.size(), 1u);  // alone, it may find out whether what is predicted still holds
  CHECK_EQ(come(20 * kMillisecond), Admission::accepted);
  CHECK_EQ(come(20 * kMillisecond), Admission::accepted);
  const Decision late = scheduler.next(now + 14 * kMillisecond);
  CHECK_EQ(late.shed.size(), 2u);
}
