#include "engine.h"
#include "run_time.h"

using namespace fakes;

TEST("how long runs take is known after three of them") {
  RunTime run_time;
  for (int run = 0; run < RunTime::kRunsToKnow; ++run) {
    CHECK(!run_time.known_below(kNever));
    run_time.note(1000);
  }
  CHECK(run_time.known_below(1000));
  CHECK(!run_time.known_below(999));
}

TEST("the mean of run times falls at once and rises slowly") {
  RunTime run_time;
  run_time.note(80'000);
  CHECK_EQ(run_time.mean(), 80'000);
  run_time.note(1'000);
  CHECK_EQ(run_time.mean(), 1'000);
  run_time.note(9'000);
  CHECK_EQ(run_time.mean(), 2'000);
  for (int run = 0; run < 100; ++run) run_time.note(9'000);
  CHECK(run_time.mean() > 8'000);
  CHECK(run_time.mean() <= 9'000);
}

TEST("a look-out ends when it has come, or when its patience does") {
  LookOut look_out;
  const Nanos begin = monotonic_now();
  look_out.until([] { return true; }, 10 * kNanosPerSecond);
  int looks = 0;
  look_out.until([&] { return ++looks == 5; }, 10 * kNanosPerSecond);
  CHECK_EQ(looks, 5);
  CHECK(monotonic_now() - begin < kNanosPerSecond);
  const Nanos again = monotonic_now();
  look_out.until([] { return false; }, kMillisecond);
  CHECK(monotonic_now() - again >= LookOut::kPatience + kMillisecond);
}

TEST("one thread at a time looks out") {
  LookOut look_out;
  bool looked = false;
  int inside = 0;
  look_out.until(
      [&] {
        look_out.until([&] { return looked = true; });  // as another thread would at this moment
        return ++inside == 3;
      },
      kNanosPerSecond);
  CHECK(!looked);
  look_out.until([&] { return looked = true; });
  CHECK(looked);
}

TEST("a caller looks out for its result only where runs are known to be short") {
  Engine engine({});
  const RequestPtr never = request_for(engine.ledger, 1);
  const auto least = [&] {  // of some tries: this thread may lose its processor
    Nanos shortest = kNever;
    for (int attempt = 0; attempt < 50; ++attempt) {
      const Nanos begin = monotonic_now();
      engine.dispatcher->look_out_for(*never);
      shortest = std::min(shortest, monotonic_now() - begin);
    }
    return shortest;
  };
  CHECK(least() < LookOut::kPatience);
  engine.warm_up();
  CHECK(least() >= LookOut::kPatience);
  engine.let_go_of_inputs(never);
  const RequestPtr done = engine.call(2);
  engine.dispatcher->look_out_for(*done);
  CHECK(has_result(*done, 2));
}
