// One accepted call: its rows, its deadline, its one end.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "parker.h"
#include "tensor_copy.h"

namespace paddleinfer {

// Python objects that a native thread has done with. Whoever holds the GIL next drains them.
class ReleaseList {
 public:
  void push(void* object) {
    if (object == nullptr) return;
    const std::lock_guard<std::mutex> lock(mu_);
    objects_.push_back(object);
    filled_.store(true, std::memory_order_release);
  }

  // Cheap when there is nothing, which is nearly always.
  std::vector<void*> take() {
    std::vector<void*> taken;
    if (!filled_.load(std::memory_order_acquire)) return taken;
    const std::lock_guard<std::mutex> lock(mu_);
    taken.swap(objects_);
    filled_.store(false, std::memory_order_release);
    return taken;
  }

 private:
  std::mutex mu_;
  std::vector<void*> objects_;  // guarded by mu_
  std::atomic<bool> filled_{false};
};

enum class Outcome : std::uint8_t { none, result, error, cancelled, expired, closed };

// How a request failed. `exception` is a Python exception of a callable, given back through a ReleaseList.
struct Failure {
  std::string message;
  std::shared_ptr<void> exception;
};

class CompletionQueue;

// State: queued -> running -> claimed -> done, or queued -> claimed -> done. Whoever claims it writes
// its end; everybody else leaves it alone. The word is a futex: a sleeper marks it before it sleeps.
class Request {
 public:
  enum class State : std::uint32_t { queued = 0, running = 1, claimed = 2, done = 3 };

  // Set before admission, constant until the end.
  std::vector<TensorView> inputs;
  std::vector<std::uint32_t> wanted;  // indices of the outputs to copy out, in the caller's order
  std::int64_t rows = 1;
  std::size_t bytes = 0;
  std::uint64_t signature = 0;  // of dtypes and shapes without the rows; equal ones may share a batch
  Nanos arrival = 0;
  Nanos deadline = kNever;
  CompletionQueue* sink = nullptr;  // told of the end, beside whoever waits; outlives the request

  // A Python object that keeps the inputs' memory. It belongs to whoever moved the request out of `queued`.
  void* input_owner = nullptr;
  // A Python object for the sink's reader (a future).
  void* waiter = nullptr;

  // Guarded by the dispatcher's lock.
  bool in_queue = false;

  // Written by the claimant, read after done().
  Outcome outcome = Outcome::none;
  std::vector<OwnedTensor> outputs;
  Failure failure;

  State state() const noexcept { return State(word_.load(std::memory_order_acquire) & ~kSleeper); }
  bool done() const noexcept { return state() == State::done; }
  bool started() const noexcept { return state() != State::queued; }
  bool ended() const noexcept { return state() >= State::claimed; }

  // queued -> running. False when somebody ended it first.
  bool start() noexcept { return move(State::queued, State::running); }

  // Takes the right to end it out of `from`.
  bool claim(State from) noexcept { return move(from, State::claimed); }

  // claimed -> done; wakes who waits. The caller may free the request as soon as this is called.
  void publish() noexcept {
    const std::uint32_t before = word_.exchange(std::uint32_t(State::done), std::memory_order_acq_rel);
    if ((before & kSleeper) != 0) futex_wake_all(word_);
  }

  Woken wait(Nanos until) noexcept {
    for (;;) {
      std::uint32_t seen = word_.load(std::memory_order_acquire);
      if (State(seen & ~kSleeper) == State::done) return Woken::changed;
      if ((seen & kSleeper) == 0) {
        if (!word_.compare_exchange_weak(seen, seen | kSleeper, std::memory_order_acq_rel)) continue;
        seen |= kSleeper;
      }
      const Woken woken = futex_wait(word_, seen, until);
      if (woken != Woken::changed) return done() ? Woken::changed : woken;
    }
  }

 private:
  static constexpr std::uint32_t kSleeper = 0x80;

  bool move(State from, State to) noexcept {
    std::uint32_t seen = word_.load(std::memory_order_acquire);
    while (State(seen & ~kSleeper) == from) {
      const std::uint32_t next = std::uint32_t(to) | (seen & kSleeper);
      if (word_.compare_exchange_weak(seen, next, std::memory_order_acq_rel)) return true;
    }
    return false;
  }

  std::atomic<std::uint32_t> word_{std::uint32_t(State::queued)};
};

using RequestPtr = std::shared_ptr<Request>;
using Batch = std::vector<RequestPtr>;

// Fowler-Noll-Vo 1a over dtypes and trailing dimensions (and the leading one where rows do not merge).
inline std::uint64_t signature_of(const std::vector<TensorView>& inputs, bool with_rows) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto mix = [&hash](std::uint64_t value) {
    hash = (hash ^ value) * 0x100000001b3u;
    hash ^= hash >> 29;
  };
  for (const TensorView& input : inputs) {
    mix(std::uint64_t(input.dtype));
    mix(input.shape.rank);
    for (std::size_t axis = with_rows ? 0 : 1; axis < input.shape.rank; ++axis) {
      mix(std::uint64_t(input.shape.dims[axis]));
    }
  }
  return hash;
}

}  // namespace paddleinfer
