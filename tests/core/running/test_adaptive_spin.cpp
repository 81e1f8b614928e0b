// Spinning for a result before sleeping. Measures real time, by the shortest of some tries.
#include "engine.h"

using namespace fakes;

TEST("a spin ends when it has come, or when its budget is spent") {
  AdaptiveSpin spin;
  spin.spin_until([] { return true; }, kPatience);
  int looks = 0;
  spin.spin_until([&] { return ++looks == 5; }, kPatience);
  CHECK_EQ(looks, 5);
  const Nanos again = monotonic_now();
  spin.spin_until([] { return false; }, kMillisecond);
  CHECK(monotonic_now() - again >= AdaptiveSpin::kSpinBudget + kMillisecond);
}

TEST("one thread at a time looks out") {
  AdaptiveSpin spin;
  bool looked = false;
  int inside = 0;
  spin.spin_until(
      [&] {
        spin.spin_until([&] { return looked = true; });  // as another thread would at this moment
        return ++inside == 3;
      },
      kNanosPerSecond);
  CHECK(!looked);
  spin.spin_until([&] { return looked = true; });
  CHECK(looked);
}

TEST("a caller looks out for its result only where its run is predicted to be short, and longer for a longer one") {
  Engine engine({});
  const RequestPtr never = request_for(engine.ledger, 1);
  const auto least = [&](const RequestPtr& request) {  // of some tries: this thread may lose its processor
    Nanos shortest = kNever;
    for (int attempt = 0; attempt < 50; ++attempt) {
      const Nanos begin = monotonic_now();
      engine.dispatcher->spin_for(*request);
      shortest = std::min(shortest, monotonic_now() - begin);
    }
    return shortest;
  };
  CHECK(least(never) < AdaptiveSpin::kSpinBudget);
  never->sole_caller_run_ns = AdaptiveSpin::kRunLimit + 1;
  CHECK(least(never) < AdaptiveSpin::kSpinBudget);
  never->sole_caller_run_ns = AdaptiveSpin::kRunLimit;
  CHECK(least(never) >= AdaptiveSpin::kSpinBudget + 2 * AdaptiveSpin::kRunLimit);
  never->sole_caller_run_ns = 1;
  CHECK(least(never) >= AdaptiveSpin::kSpinBudget);
  engine.release_inputs(never);
  const RequestPtr done = engine.call(2);
  done->sole_caller_run_ns = AdaptiveSpin::kRunLimit;
  CHECK(least(done) < AdaptiveSpin::kSpinBudget);  // it is there already
}
