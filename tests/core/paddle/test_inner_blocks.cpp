// Runs of programs with inner blocks, and the emptying of kernels that is kept apart from them.
#include "fakes.h"
#include "paddle/inner_blocks.h"

using namespace fakes;
using namespace harness;
using paddle::InnerBlocks;

TEST("an emptying waits for a run under way, and the next run for the emptying") {
  Gate run_gate;
  Gate emptying_gate;
  std::atomic<int> step{0};
  std::thread first([&] {
    const InnerBlocks::Run run(true);
    run_gate.pass();
    step = 1;
  });
  REQUIRE(run_gate.await(1));
  std::thread emptying([&] {
    const InnerBlocks::Emptying alone(true);
    CHECK_EQ(step, 1);
    emptying_gate.pass();
    step = 2;
  });
  sleep_ns(5 * kMillisecond);
  run_gate.open();
  REQUIRE(emptying_gate.await(1));
  std::thread next([&] {
    const InnerBlocks::Run run(true);
    CHECK_EQ(step, 2);
  });
  sleep_ns(5 * kMillisecond);
  emptying_gate.open();
  for (std::thread* thread : {&first, &emptying, &next}) thread->join();
}

TEST("several runs go side by side, and other programs wait for nothing") {
  const InnerBlocks::Run one(true);
  const InnerBlocks::Run another(true);
  {
    const InnerBlocks::Emptying of_another_kind(false);
    const InnerBlocks::Run third(true);
  }
  const InnerBlocks::Run of_another_kind(false);
}

TEST("an emptying gives up on a run that hangs, and lets others run after it") {
  Gate gate;
  std::thread hangs([&] {
    const InnerBlocks::Run run(true);
    gate.pass();
  });
  REQUIRE(gate.await(1));
  {
    const InnerBlocks::Emptying alone(true, kMillisecond);
  }
  const InnerBlocks::Run next(true);
  gate.open();
  hangs.join();
}

TEST("an emptying and runs from many threads are never at once") {
  std::atomic<int> runs{0};
  std::atomic<bool> emptying{false};
  const std::int64_t rounds = scaled(2'000);
  std::vector<std::thread> threads;
  for (int number = 0; number < 3; ++number) {
    threads.emplace_back([&, number] {
      for (std::int64_t round = 0; round < rounds; ++round) {
        if (number == 0 && round % 16 == 0) {
          const InnerBlocks::Emptying alone(true);
          emptying = true;
          CHECK_EQ(runs, 0);
          emptying = false;
        } else {
          const InnerBlocks::Run run(true);
          ++runs;
          CHECK(!emptying);
          --runs;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}
