// One instance's part of oneDNN's kernel map, with a map of our own in Paddle's place.
//
// As in Paddle: what a thread caches hangs on the executor that it last had, and goes when the thread's state
// is destroyed; a state that never had an executor takes everybody's kernels with it.
#include <atomic>
#include <future>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "check.h"
#include "onednn_cache.h"

using namespace harness;
using namespace paddleinfer::paddle;

namespace {

struct State {
  bool alive = true;
  const void* executor = nullptr;
};

struct FakePaddle {
  std::mutex mu;
  std::map<const void*, std::set<std::uint64_t>> kernels;  // by executor
  int destructs = 0;
  int skips = 0;
  int mistakes = 0;  // steps out of order, or the whole map emptied
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
  fake.kernels.erase(state->executor);
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
  } else if (executor == nullptr) {
    fake.kernels.clear();
  } else {
    fake.kernels.erase(executor);
  }
}

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
  found.cpu_place = &kPlace;
  return found;
}

void forget_everything() {
  fake.kernels.clear();
  fake.destructs = 0;
  fake.skips = 0;
  fake.mistakes = 0;
  state_of_this_thread() = State{};
}

// As PaddleBackend::run() does; gives the number of shapes that this thread then has in the map.
std::size_t run(OneDnnCache& cache, std::uint64_t shape) {
  cache.before_run(shape);
  const std::lock_guard<std::mutex> lock(fake.mu);
  std::set<std::uint64_t>& shapes = fake.kernels[state_of_this_thread().executor];
  shapes.insert(shape);
  return shapes.size();
}

}  // namespace

TEST("shapes within the limit never clear the map") {
  forget_everything();
  OneDnnCache cache(symbols(), 4);
  for (std::uint64_t turn = 0; turn < 100; ++turn) run(cache, turn % 4);
  CHECK_EQ(fake.destructs, 0);
  CHECK_EQ(fake.mistakes, 0);
}

TEST("the shape that would pass the limit clears the map first") {
  forget_everything();
  OneDnnCache cache(symbols(), 4);
  const std::uint64_t clears = onednn_clears();
  for (std::uint64_t shape = 0; shape < 4; ++shape) run(cache, shape);
  CHECK_EQ(fake.destructs, 0);
  CHECK_EQ(run(cache, 4), 1u);
  CHECK_EQ(fake.destructs, 1);
  CHECK_EQ(onednn_clears() - clears, 1u);
}

TEST("the map never holds more shapes of an instance than its limit") {
  for (const std::size_t limit : {1, 2, 5}) {
    forget_everything();
    OneDnnCache cache(symbols(), limit);
    std::size_t most = 0;
    for (std::uint64_t shape = 0; shape < 40; ++shape) most = std::max(most, run(cache, shape));
    CHECK_EQ(most, limit);
    CHECK_EQ(fake.mistakes, 0);
  }
}

TEST("shapes count anew after a clearing") {
  forget_everything();
  OneDnnCache cache(symbols(), 3);
  for (std::uint64_t shape = 0; shape < 3; ++shape) run(cache, shape);
  cache.clear();
  CHECK_EQ(fake.destructs, 1);
  for (std::uint64_t shape = 5; shape < 8; ++shape) run(cache, shape);
  CHECK_EQ(fake.destructs, 1);
}

TEST("an instance that goes takes its kernels with it, and nobody else's") {
  forget_everything();
  const int other_executor = 0;
  fake.kernels[&other_executor] = {1, 2, 3};
  {
    OneDnnCache cache(symbols(), 4);
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
      OneDnnCache cache(symbols(), limit);
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
    OneDnnCache cache(OneDnnSymbols{}, 1);
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
    const OneDnnShelter shelter(symbols());
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
    const OneDnnShelter shelter(symbols());
    fake.kernels[state_of_this_thread().executor] = {1, 2};
  }
  CHECK(fake.kernels.empty());
  CHECK(state_of_this_thread().executor != nullptr);
}

TEST("an instance at its limit clears its part after a load, not during it") {
  forget_everything();
  OneDnnCache cache(symbols(), 1);
  run(cache, 1);
  std::promise<void> loading;
  std::promise<void> loaded;
  std::thread loader([&] {
    const OneDnnShelter shelter(symbols());
    loading.set_value();
    loaded.get_future().wait();
  });
  loading.get_future().wait();
  CHECK_EQ(run(cache, 2), 2u);
  loaded.set_value();
  loader.join();
  CHECK_EQ(run(cache, 3), 1u);
}

TEST("without Paddle's symbols a load has no shelter") {
  forget_everything();
  const OneDnnShelter shelter(OneDnnSymbols{});
  CHECK_EQ(fake.skips, 0);
}
