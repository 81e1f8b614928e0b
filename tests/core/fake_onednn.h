// oneDNN's kernel map, one of our own in Paddle's place.
//
// As in Paddle: what a thread caches hangs on the executor that it last had, and goes when the thread's state
// is destroyed; a state that never had an executor takes everybody's kernels with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "paddle/onednn_cache.h"

namespace fake_onednn {

using namespace paddleinfer::paddle;

inline constexpr int kUsualLayout = 2;

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
};

inline FakePaddle fake;

inline constexpr char kPlace = 0;

inline State& state_of_this_thread() {
  thread_local State state;
  return state;
}

inline void* thread_state() { return &state_of_this_thread(); }

inline void construct(void* given) {
  auto* state = static_cast<State*>(given);
  const std::lock_guard<std::mutex> lock(fake.mu);
  if (state->alive) ++fake.mistakes;
  *state = State{};
}

inline void destruct(void* given) {
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

inline void set_executor(void* executor, const void* place) {
  const std::lock_guard<std::mutex> lock(fake.mu);
  State& state = state_of_this_thread();
  if (!state.alive || place != &kPlace) ++fake.mistakes;
  state.executor = executor;
}

inline void* contexts() { return &fake; }

inline void* context(void* contexts, const void* place) {
  const std::lock_guard<std::mutex> lock(fake.mu);
  if (contexts != &fake || place != &kPlace) ++fake.mistakes;
  return contexts;
}

inline void block_next_clear(void*) {
  const std::lock_guard<std::mutex> lock(fake.mu);
  ++fake.skips;
}

// As Paddle does after each graph pass, for no executor.
inline void clear(void*, void* executor) {
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

inline void set_layout(void* state, int layout) { static_cast<State*>(state)->layout = layout; }

inline int layout(void* state) { return static_cast<State*>(state)->layout; }

inline std::uint64_t allocated() {
  const std::lock_guard<std::mutex> lock(fake.mu);
  std::uint64_t bytes = 1'000'000;
  for (const auto& [executor, shapes] : fake.kernels) bytes += fake.base_bytes + fake.shape_bytes * shapes.size();
  return bytes;
}

inline constexpr std::uint64_t kPlenty = std::uint64_t{1} << 40;

inline OneDnnLimits limits(std::size_t max_shapes, std::uint64_t max_bytes = kPlenty) {
  return {max_shapes, max_bytes, allocated, false};
}

inline std::shared_ptr<OneDnnRecord> record() { return std::make_shared<OneDnnRecord>(); }

inline OneDnnSymbols symbols() {
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

inline void forget_everything() {
  fake.kernels.clear();
  fake.destructs = 0;
  fake.skips = 0;
  fake.mistakes = 0;
  fake.base_bytes = fake.shape_bytes = 0;
  state_of_this_thread() = State{};
}

// As PaddleBackend::run() does; gives the number of shapes that this thread then has in the map.
inline std::size_t run(OneDnnCache& cache, std::uint64_t shape) {
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
inline void run_until_emptied(OneDnnCache& cache, int times) {
  static std::uint64_t shape = 1'000;
  for (const int until = fake.destructs + times; fake.destructs < until;) run(cache, shape++);
}

}  // namespace fake_onednn
