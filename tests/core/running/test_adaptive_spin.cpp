// Looking out for a result before sleeping. Measures real time, by the shortest of some tries.
#include "engine.h"

using namespace fakes;

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

TEST("a caller looks out for its result only where its run is predicted to be short, and longer for a longer one") {
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
  never->lone_run_ns = LookOut::kRunLimit + 1;
  CHECK(least() < LookOut::kPatience);
  never->lone_run_ns = LookOut::kRunLimit;
  CHECK(least() >= LookOut::kPatience + 2 * LookOut::kRunLimit);
  never->lone_run_ns = 1;
  CHECK(least() >= LookOut::kPatience);
  engine.let_go_of_inputs(never);
  const RequestPtr done = engine.call(2);
  done->lone_run_ns = LookOut::kRunLimit;
  const Nanos begin = monotonic_now();
  for (int turn = 0; turn < 100; ++turn) engine.dispatcher->look_out_for(*done);
  CHECK(monotonic_now() - begin < 100 * LookOut::kPatience);  // it is there already
}
