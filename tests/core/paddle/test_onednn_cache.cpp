// One instance's part of oneDNN's kernel map, with a map of our own in Paddle's place.
//
// As in Paddle: what a thread caches hangs on the executor that it last had, and goes when the thread's state
// is destroyed; a state that never had an executor takes everybody's kernels with it.
#include <atomic>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "check.h"
#include "paddle/onednn_cache.h"

using namespace harness;
using namespace paddleinfer::paddle;

namespace {

constexpr int kUsualLayout = 2;

struct State {
  bool alive = true;
  const void* executor = nullptr;
  int layout = kUsualLayout;
};

struct FakePaddle {
  std::mutex mu;
  std::map<const void*, std::set<std::uint64_t>> kernels;  // by executor
  int destructs = 0;
  int skips = 0;
  int mistakes = 0;               // steps out of order, or the whole map emptied
  std::uint64_t base_bytes = 0;   // of each executor that has kernels
  std::uint64_t shape_bytes = 0;  // of each of its shapes
} fake;

constexpr char kPlace = 0;

State& state_of_this_thread() {
  thread_local State state;
  return state;
}

void* thread_state() { return &state_of_this_thread(); }

void construct(void* given) {
  auto* state = static_cast<State*>(given);
  const std::lock_guard<std::mutex> lock(fake.mu);
  if (state->alive) ++fake.mistakes;
  *state = State{};
}

void destruct(void* given) {
  auto* state = static_cast<State*>(given);
  const std::lock_guard<std::mutex> lock(fake.mu);
  if (!state->alive || state != &state_of_this_thread() || state->executor == nullptr) ++fake.mistakes;
  if (fake.skips > 0) {
    --fake.skips;
  } else {
    fake.kernels.erase(state->executor);
  }
  state->alive = false;
  ++fake.destructs;
}

void set_executor(void* executor, const void* place) {
  const std::lock_guard<std::mutex> lock(fake.mu);
  State& state = state_of_this_thread();
  if (!state.alive || place != &kPlace) ++fake.mistakes;
  state.executor = executor;
}

void* contexts() { return &fake; }

void* context(void* contexts, const void* place) {
  const std::lock_guard<std::mutex> lock(fake.mu);
  if (contexts != &fake || place != &kPlace) ++fake.mistakes;
  return contexts;
}

void block_next_clear(void*) {
  const std::lock_guard<std::mutex> lock(fake.mu);
  ++fake.skips;
}

// As Paddle does after each graph pass, for no executor.
void clear(void*, void* executor) {
  const std::lock_guard<std::mutex> lock(fake.mu);
  if (fake.skips > 0) {
    --fake.skips;
    return;
  }
  if (executor == nullptr) {
    fake.kernels.clear();
  } else {
    fake.kernels.erase(executor);
  }
  state_of_this_thread().layout = kUsualLayout;
}

void set_layout(void* state, int layout) { static_cast<State*>(state)->layout = layout; }

int layout(void* state) { return static_cast<State*>(state)->layout; }

std::uint64_t allocated() {
  const std::lock_guard<std::mutex> lock(fake.mu);
  std::uint64_t bytes = 1'000'000;
  for (const auto& [executor, shapes] : fake.kernels) bytes += fake.base_bytes + fake.shape_bytes * shapes.size();
  return bytes;
}

constexpr std::uint64_t kPlenty = std::uint64_t{1} << 40;

OneDnnLimits limits(std::size_t max_shapes, std::uint64_t max_bytes = kPlenty) {
  return {max_shapes, max_bytes, allocated, false};
}

std::shared_ptr<OneDnnRecord> record() { return std::make_shared<OneDnnRecord>(); }

OneDnnSymbols symbols() {
  OneDnnSymbols found;
  found.thread_state = thread_state;
  found.construct = construct;
  found.destruct = destruct;
  found.set_executor = set_executor;
  found.contexts = contexts;
  found.context = context;
  found.block_next_clear = block_next_clear;
  found.clear = clear;
  found.set_layout = set_layout;
  found.layout = layout;
  found.cpu_place = &kPlace;
  return found;
}

void forget_everything() {
  fake.kernels.clear();
  fake.destructs = 0;
  fake.skips = 0;
  fake.mistakes = 0;
  fake.base_bytes = fake.shape_bytes = 0;
  state_of_this_thread() = State{};
}

// As PaddleBackend::run() does; gives the number of shapes that this thread then has in the map.
std::size_t run(OneDnnCache& cache, std::uint64_t shape) {
  cache.before_run(shape);
  std::size_t shapes = 0;
  {
    const std::lock_guard<std::mutex> lock(fake.mu);
    std::set<std::uint64_t>& cached = fake.kernels[state_of_this_thread().executor];
    cached.insert(shape);
    shapes = cached.size();
  }
  cache.after_run();
  return shapes;
}

// Runs new shapes until the part has been emptied so often; the last of them is in it then.
void run_until_emptied(OneDnnCache& cache, int times) {
  static std::uint64_t shape = 1'000;
  for (const int until = fake.destructs + times; fake.destructs < until;) run(cache, shape++);
}

}  // namespace

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
  // One shape, eight, sixteen: the limit doubles at most.
  CHECK_EQ(fake.destructs, 3);
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
  CHECK_EQ(most, 4u);
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

TEST("shapes count anew after a clearing") {
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

TEST("what a load clears spares the kernels of others, and only during the load") {
  forget_everything();
  const int other_executor = 0;
  fake.kernels[&other_executor] = {1, 2, 3};
  {
    const OneDnnCacheGuard guard(symbols());
    for (int pass = 0; pass < 200; ++pass) clear(&fake, nullptr);
    CHECK_EQ(fake.kernels.count(&other_executor), 1u);
  }
  CHECK_EQ(fake.skips, 0);
  CHECK_EQ(fake.kernels.count(&other_executor), 1u);
  clear(&fake, nullptr);
  CHECK(fake.kernels.empty());
  CHECK_EQ(fake.mistakes, 0);
}

TEST("what the loading itself has cached goes with the load") {
  forget_everything();
  {
    const OneDnnCacheGuard guard(symbols());
    fake.kernels[state_of_this_thread().executor] = {1, 2};
  }
  CHECK(fake.kernels.empty());
  CHECK(state_of_this_thread().executor != nullptr);
}

TEST("an instance at its limit clears its part after a load, not during it") {
  forget_everything();
  OneDnnCache cache(symbols(), limits(1), record());
  run(cache, 1);
  std::promise<void> loading;
  std::promise<void> loaded;
  std::thread loader([&] {
    const OneDnnCacheGuard guard(symbols());
    loading.set_value();
    loaded.get_future().wait();
  });
  loading.get_future().wait();
  CHECK_EQ(run(cache, 2), 2u);
  loaded.set_value();
  loader.join();
  CHECK_EQ(run(cache, 3), 1u);
}

TEST("without Paddle's symbols a load has no guard") {
  forget_everything();
  const OneDnnCacheGuard guard(OneDnnSymbols{});
  CHECK_EQ(fake.skips, 0);
}
