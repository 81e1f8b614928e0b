// One instance's part of oneDNN's kernel map.
#include <atomic>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "check.h"
#include "fake_onednn.h"

using namespace harness;
using namespace fake_onednn;

TEST("shapes within the limit clear the map once, to learn what the first one needs") {
  forget_everything();
  OneDnnCache cache(symbols(), limits(4), record());
  for (std::uint64_t turn = 0; turn < 100; ++turn) run(cache, turn % 4);
  CHECK_EQ(fake.destructs, 1);
  CHECK_EQ(fake.mistakes, 0);
}

TEST("the shape that would pass the limit clears the map first") {
  forget_everything();
  OneDnnCache cache(symbols(), limits(4), record());
  const std::uint64_t clears = onednn_clears();
  for (std::uint64_t shape = 0; shape < 5; ++shape) run(cache, shape);
  CHECK_EQ(fake.destructs, 1);
  CHECK_EQ(run(cache, 5), 1u);
  CHECK_EQ(fake.destructs, 2);
  CHECK_EQ(onednn_clears() - clears, 2u);
}

TEST("what further shapes add stays within the bytes of one part, however large the first is") {
  for (const std::uint64_t base : {std::uint64_t{0}, std::uint64_t{90'000'000}}) {
    forget_everything();
    fake.base_bytes = base;
    fake.shape_bytes = 10;
    OneDnnCache cache(symbols(), limits(1'000, 300), record());
    run_until_emptied(cache, 4);
    std::size_t most = 0;
    for (std::uint64_t shape = 0; shape < 200; ++shape) most = std::max(most, run(cache, shape));
    CHECK_EQ(most, 31u);
  }
}

TEST("shapes that add nothing stay, however large the first is") {
  forget_everything();
  fake.base_bytes = 90'000'000;
  OneDnnCache cache(symbols(), limits(1'000, 300), record());
  for (std::uint64_t turn = 0; turn < 3'200; ++turn) run(cache, turn % 32);
  // One shape, four, eight, sixteen: the limit doubles at most.
  CHECK_EQ(fake.destructs, 4);
}

TEST("the bytes are shared by all parts of the process") {
  forget_everything();
  fake.shape_bytes = 10;
  OneDnnCache first(symbols(), limits(1'000, 300), record());
  run_until_emptied(first, 4);
  std::size_t most = 0;
  {
    const OneDnnBudget of_another(limits(1'000, 300));
    run_until_emptied(first, 2);
    for (std::uint64_t shape = 0; shape < 100; ++shape) most = std::max(most, run(first, shape));
  }
  CHECK_EQ(most, 16u);
  for (std::uint64_t shape = 0; shape < 100; ++shape) most = std::max(most, run(first, shape));
  CHECK_EQ(most, 31u);
}

TEST("a few shapes stay whatever they need") {
  forget_everything();
  fake.shape_bytes = 1'000;
  OneDnnCache cache(symbols(), limits(1'000, 300), record());
  run_until_emptied(cache, 3);
  std::size_t most = 0;
  for (std::uint64_t shape = 0; shape < 100; ++shape) most = std::max(most, run(cache, shape));
  CHECK_EQ(most, 2u);
}

TEST("beyond their share parts hold as many as the whole bound has room for, and four at most") {
  for (const auto& [shape_bytes, kept] : {std::pair{10u, 4u}, {150u, 3u}, {301u, 2u}}) {
    forget_everything();
    fake.shape_bytes = shape_bytes;
    onednn_parts().fetch_add(300);  // others, with which the bound is shared
    OneDnnCache cache(symbols(), limits(1'000, 300), record());
    run_until_emptied(cache, 3);
    std::size_t most = 0;
    for (std::uint64_t shape = 0; shape < 100; ++shape) most = std::max(most, run(cache, shape));
    CHECK_EQ(most, std::size_t{kept});
    onednn_parts().fetch_sub(300);
  }
}

TEST("one wrong measurement in three changes nothing") {
  forget_everything();
  OneDnnBudget budget(limits(1'000, 300));
  budget.note_emptying(1, 10, 0);
  budget.note_emptying(9, 90, 0);
  budget.note_emptying(11, 110, 0);
  CHECK_EQ(budget.shape_bytes(), 10u);
  budget.note_emptying(11, 100, 500);  // others allocated meanwhile
  CHECK_EQ(budget.first_bytes(), 10u);
  CHECK_EQ(budget.shape_bytes(), 10u);
  budget.note_emptying(11, 110'000, 0);
  CHECK_EQ(budget.shape_bytes(), 10u);
}

// Under a sanitizer memory comes from an allocator of its own.
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
TEST("once a shape's bytes are well known, one emptying in eight is measured") {
  forget_everything();
  const auto found = record();
  OneDnnCache cache(symbols(), limits(1), found);
  const std::uint64_t clears = onednn_clears();
  for (std::uint64_t shape = 0; onednn_clears() - clears < 8 + 80; ++shape) run(cache, shape % 3);
  CHECK_EQ(found->figures().emptied, 8u + 10u);
}

TEST("malloc's count follows what is given out") {
  const std::uint64_t before = allocated_bytes();
  auto block = std::make_unique<std::vector<char>>(50'000'000);
  const std::uint64_t with = allocated_bytes();
  CHECK(with - before >= 50'000'000 && with - before < 60'000'000);
  block.reset();
  CHECK(with - allocated_bytes() >= 50'000'000);
}
#endif

TEST("a shape's first run and its second are told apart, the instance's first run of all left out") {
  forget_everything();
  const std::shared_ptr<OneDnnRecord> found = record();
  OneDnnCache cache(symbols(), limits(8), found);
  for (int turn = 0; turn < 3; ++turn) run(cache, 1);
  CHECK_EQ(found->figures().repeated, 0u);
  for (int turn = 0; turn < 3; ++turn) {
    run(cache, 2);
    run(cache, 3);
  }
  CHECK_EQ(found->figures().repeated, 2u);
  CHECK(found->figures().new_ns > 0);
  CHECK(found->figures().repeat_ns > 0);
}

TEST("a run that failed does not count as a shape's first") {
  forget_everything();
  const std::shared_ptr<OneDnnRecord> found = record();
  OneDnnCache cache(symbols(), limits(8), found);
  run(cache, 1);
  cache.before_run(2);
  run(cache, 2);
  CHECK_EQ(found->figures().repeated, 0u);
  run(cache, 2);
  CHECK_EQ(found->figures().repeated, 1u);
}

TEST("the map never holds more shapes of an instance than its limit") {
  for (const std::size_t limit : {1, 2, 5}) {
    forget_everything();
    OneDnnCache cache(symbols(), limits(limit), record());
    std::size_t most = 0;
    for (std::uint64_t shape = 0; shape < 40; ++shape) most = std::max(most, run(cache, shape));
    CHECK_EQ(most, limit);
    CHECK_EQ(fake.mistakes, 0);
  }
}

TEST("a part that is emptied by renewal is due past its limit, and measured around the old predictor's end") {
  forget_everything();
  fake.shape_bytes = 10;
  OneDnnLimits renewing = limits(4);
  renewing.by_renewal = true;
  const std::shared_ptr<OneDnnRecord> found = record();
  OneDnnCache cache(symbols(), renewing, found);
  run(cache, 1);
  CHECK(!cache.is_due_for_renewal());
  run(cache, 2);
  CHECK(cache.is_due_for_renewal());
  CHECK_EQ(fake.destructs, 0);
  cache.begin_renewal();
  cache.end_renewal();
  CHECK_EQ(fake.destructs, 1);
  CHECK_EQ(found->figures().emptied, 1u);
  CHECK(!cache.is_due_for_renewal());
  for (std::uint64_t shape = 0; shape < 4; ++shape) run(cache, shape);
  CHECK(!cache.is_due_for_renewal());
  run(cache, 4);
  CHECK(cache.is_due_for_renewal());
  CHECK_EQ(fake.destructs, 1);
  CHECK(!OneDnnCache(OneDnnSymbols{}, renewing, found).is_due_for_renewal());
}

TEST("shapes count again after a clearing") {
  forget_everything();
  OneDnnCache cache(symbols(), limits(3), record());
  run_until_emptied(cache, 2);
  cache.clear();
  CHECK_EQ(fake.destructs, 3);
  for (std::uint64_t shape = 5; shape < 8; ++shape) run(cache, shape);
  CHECK_EQ(fake.destructs, 3);
}

TEST("what runs of if and while have Paddle skip keeps no part from being emptied") {
  forget_everything();
  OneDnnCache cache(symbols(), limits(3), record());
  run(cache, 1);
  fake.skips = 1'000;
  CHECK_EQ(run(cache, 2), 1u);
  fake.skips = 1'000;
  cache.clear();
  CHECK(fake.kernels.empty());
  CHECK_EQ(fake.skips, 0);
}

TEST("a part that is emptied by renewal leaves no skips to others, but those of a load") {
  forget_everything();
  OneDnnLimits renewing = limits(4);
  renewing.by_renewal = true;
  OneDnnCache cache(symbols(), renewing, record());
  fake.skips = 7;
  run(cache, 1);
  CHECK_EQ(fake.skips, 0);
  fake.skips = 7;
  cache.begin_renewal();
  CHECK_EQ(fake.skips, 0);
  cache.end_renewal();
  std::promise<void> loading;
  std::promise<void> loaded;
  std::thread loader([&] {
    const OneDnnCacheGuard guard(symbols());
    loading.set_value();
    loaded.get_future().wait();
  });
  loading.get_future().wait();
  const int of_the_load = fake.skips;
  run(cache, 2);
  CHECK_EQ(fake.skips, of_the_load);
  loaded.set_value();
  loader.join();
}

TEST("an instance that goes takes its kernels with it, and nobody else's") {
  forget_everything();
  const int other_executor = 0;
  fake.kernels[&other_executor] = {1, 2, 3};
  {
    OneDnnCache cache(symbols(), limits(4), record());
    run(cache, 1);
    CHECK_EQ(fake.kernels.size(), 2u);
  }
  CHECK_EQ(fake.kernels.size(), 1u);
  CHECK_EQ(fake.kernels.count(&other_executor), 1u);
  CHECK_EQ(fake.mistakes, 0);
}

TEST("instances on threads of their own clear their own part only") {
  forget_everything();
  std::vector<std::thread> threads;
  std::atomic<int> over{0};
  for (std::size_t limit = 1; limit <= 4; ++limit) {
    threads.emplace_back([&, limit] {
      OneDnnCache cache(symbols(), limits(limit), record());
      for (std::uint64_t turn = 0; turn < 2'000; ++turn) {
        const std::size_t shapes = run(cache, turn % 7);
        over += shapes > limit || shapes == 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(over, 0);
  CHECK_EQ(fake.mistakes, 0);
  CHECK(fake.kernels.empty());
}

TEST("without Paddle's symbols nothing is cleared, nor counted") {
  forget_everything();
  const std::uint64_t clears = onednn_clears();
  {
    OneDnnCache cache(OneDnnSymbols{}, limits(1), record());
    for (std::uint64_t shape = 0; shape < 10; ++shape) cache.before_run(shape);
    cache.clear();
  }
  CHECK_EQ(onednn_clears(), clears);
  CHECK_EQ(fake.destructs, 0);
}

// A thread's kernels go with the executor that ran there last, and keep the oneDNN engine of the state that goes.
TEST("a part is not emptied between another predictor's run and its owner's next one") {
  forget_everything();
  OneDnnCache cache(symbols(), limits(2), record());
  int another = 0;
  int owner = 0;
  const auto run_owner = [&](std::uint64_t shape, bool ran_last) {
    cache.before_run(shape, ran_last);
    set_executor(&owner, &kPlace);
    {
      const std::lock_guard<std::mutex> lock(fake.mu);
      fake.kernels[&owner].insert(shape);
    }
    cache.after_run();
  };
  for (std::uint64_t shape = 0; shape < 60; ++shape) {
    run_owner(shape, false);
    set_executor(&another, &kPlace);
    CHECK(fake.kernels[&owner].size() <= 3);
  }
  CHECK(fake.destructs > 10);
  CHECK_EQ(fake.mistakes, 0);
}
