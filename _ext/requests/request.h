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
#include "release_list.h"
#include "tensor_copy.h"
#include "wake_chain.h"

namespace paddleinfer {

// `expired`: its deadline passed; `shed`: it was dropped because its deadline could no longer be met.
enum class Outcome : std::uint8_t { none, result, error, cancelled, expired, shed, closed };

// Why a batch went when it went.
enum class DispatchReason : std::uint8_t {
  idle,       // an instance was idle, and waiting was not predicted to pay
  full,       // no more rows were worth waiting for
  all_here,   // every caller of late was waiting already
  held_over,  // it had been held as long as that was worth
  deadline,   // its first request had to start, or allowed no larger batch
  alone,      // nothing else may share its run
  closing,
  on_caller,  // it ran on its only caller's own thread
  warmup,
};

// What happened to a request, for who asks. Of one in parts: of the part that ended last.
struct Explanation {
  Nanos queue_ns = 0;      // from arrival to the start of its (first) batch
  Nanos hold_ns = 0;       // of that, while an instance was idle and held it back
  Nanos run_ns = 0;        // of the batch; 0 when it did not run
  Nanos predicted_ns = 0;  // for that; 0 where nothing was known
  std::int64_t batch_rows = 0;
  std::int64_t padded_rows = 0;  // of the batch, with padding
  std::uint32_t instance = 0;
  DispatchReason reason = DispatchReason::idle;
  std::uint64_t run = 0;  // its number in the trace; 0: not traced
  Nanos gathered = 0;     // instants, of that run
  Nanos over = 0;
  Nanos scattered = 0;
};

// How a request failed. `exception` is a Python exception of a callable, given back through a ReleaseList.
struct Failure {
  std::string message;
  std::shared_ptr<void> exception;
};

class CompletionQueue;

// The results of a request that runs in parts: each part writes its rows into the same arrays.
class Joined {
 public:
  explicit Joined(std::int64_t rows) : rows_(rows), rows_left_(rows) {}

  // Copies the rows of one part, `outputs` in the order wanted, to their place. Throws when they do not fit.
  // True when all rows are there.
  bool write(const std::vector<TensorView>& outputs, std::int64_t from_row, std::int64_t to_row, std::int64_t rows) {
    const std::lock_guard<std::mutex> lock(mu_);
    if (outputs_.empty()) {
      std::vector<OwnedTensor> all;  // or none, where memory does not suffice
      for (const TensorView& view : outputs) all.push_back(allocate_rows(view, rows_));
      outputs_ = std::move(all);
    }
    for (std::size_t place = 0; place < outputs.size(); ++place) {
      copy_rows_into(outputs_[place], to_row, outputs[place], from_row, rows);
    }
    rows_left_ -= rows;
    return rows_left_ == 0;
  }

  std::vector<OwnedTensor> take() {
    const std::lock_guard<std::mutex> lock(mu_);
    return std::move(outputs_);
  }

 private:
  const std::int64_t rows_;
  std::mutex mu_;
  std::vector<OwnedTensor> outputs_;  // guarded by mu_
  std::int64_t rows_left_;            // guarded by mu_
};

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
  std::uint64_t signature = 0;  // of dtypes and shapes without the rows
  Nanos deadline = kNever;
  std::shared_ptr<CompletionQueue> sink;  // told of the end, beside whoever waits
  int priority = 1;                       // class 0, 1 or 2: the most urgent first
  Nanos called = 0;                       // when its caller's call began
  bool waits_for_room = false;            // when the queue is full, instead of being refused
  // A Python object for the sink's reader (a future).
  void* waiter = nullptr;

  // Guarded by the dispatcher's lock.
  Nanos arrival = 0;
  Nanos key = 0;
  Nanos row_cost_ns = 0;             // what the backlog counts for each of its rows
  std::int64_t next_row = 0;         // rows before it have been handed out
  std::int64_t rows_unfinished = 0;  // admitted, and neither run nor given up
  Nanos first_started = 0;           // with its hold: set before any of its rows run, constant from then on
  Nanos hold_ns = 0;
  bool outside_queue = false;  // for a warm-up: it says nothing about callers
  bool in_queue = false;       // some rows wait
  bool at_door = false;        // waits for room in the queue
  Nanos lone_run_ns = kNever;  // predicted, when its caller is the only one of late; also read by that one

  // Set under the dispatcher's lock when the first of several parts is handed out.
  std::unique_ptr<Joined> joined;

  // Written by the claimant, read after done().
  Outcome outcome = Outcome::none;
  Explanation explanation;
  std::vector<OwnedTensor> outputs;
  Failure failure;

  State state() const noexcept { return State(word_.load(std::memory_order_acquire) & ~kSleeper); }
  bool done() const noexcept { return state() == State::done; }
  bool started() const noexcept { return state() != State::queued; }
  bool ended() const noexcept { return state() >= State::claimed; }

  // queued -> running; or it runs already, and this is a further part. False when somebody has ended it.
  bool start() noexcept { return move(State::queued, State::running) || state() == State::running; }

  // Takes the right to end it out of `from`.
  bool claim(State from) noexcept { return move(from, State::claimed); }

  // claimed -> done. The caller may free the request as soon as this is called. True: somebody sleeps.
  bool publish() noexcept {
    const std::uint32_t before = word_.exchange(std::uint32_t(State::done), std::memory_order_acq_rel);
    return (before & kSleeper) != 0;
  }

  // How many sleepers it woke.
  long wake() noexcept { return futex_wake_all(word_); }

  // To be set before publish(): whoever wakes carries it on.
  void wakes_next(const std::shared_ptr<WakeChain>& chain) noexcept { chain_ = chain; }

  Woken wait(Nanos until) noexcept {
    for (;;) {
      std::uint32_t seen = word_.load(std::memory_order_acquire);
      if (State(seen & ~kSleeper) == State::done) return carried_on();
      if ((seen & kSleeper) == 0) {
        if (!word_.compare_exchange_weak(seen, seen | kSleeper, std::memory_order_acq_rel)) continue;
        seen |= kSleeper;
      }
      const Woken woken = futex_wait(word_, seen, until);
      if (woken != Woken::changed) return done() ? carried_on() : woken;
    }
  }

  // The Python object that keeps the inputs' memory, and how many may still read it: the queue while rows
  // wait, and each part until it has read its own. The last one gives it back.
  void own_inputs(void* owner) noexcept { input_owner_ = owner; }
  void hold_inputs() noexcept { input_holds_.fetch_add(1, std::memory_order_relaxed); }
  void let_go_of_inputs(ReleaseList& releases) { releases.push(let_go_of_inputs()); }
  // The owner, when this was the last hold: the caller gives it back. Else nullptr.
  void* let_go_of_inputs() noexcept {
    if (input_holds_.fetch_sub(1, std::memory_order_acq_rel) > 1) return nullptr;
    return std::exchange(input_owner_, nullptr);
  }
  // For a request that was never admitted.
  void* take_inputs_back() noexcept { return std::exchange(input_owner_, nullptr); }

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

  Woken carried_on() noexcept {
    if (chain_) chain_->wake_next();
    return Woken::changed;
  }

  std::atomic<std::uint32_t> word_{std::uint32_t(State::queued)};
  std::atomic<int> input_holds_{1};
  void* input_owner_ = nullptr;
  std::shared_ptr<WakeChain> chain_;  // written before publish(), read after done()
};

using RequestPtr = std::shared_ptr<Request>;

void WakeChain::wake_next() noexcept {
  for (;;) {
    const std::size_t count = count_.load(std::memory_order_acquire);
    if (next_.load(std::memory_order_relaxed) >= count) return;
    const std::size_t place = next_.fetch_add(1, std::memory_order_relaxed);
    if (place >= count) return;
    const RequestPtr sleeper = std::move(sleepers_[place]);
    if (sleeper->wake() > 0) return;
  }
}

// Rows of a request that run together: all of them, or a part.
struct Slice {
  RequestPtr request;
  std::int64_t first_row = 0;
  std::int64_t rows = 0;

  bool whole() const noexcept { return rows == request->rows; }
};
using Batch = std::vector<Slice>;

inline std::int64_t rows_of(const Batch& batch) noexcept {
  std::int64_t rows = 0;
  for (const Slice& slice : batch) rows += slice.rows;
  return rows;
}

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

// What equal signatures only promise: rows of both may stand in one batch.
inline bool same_beyond_rows(const std::vector<TensorView>& a, const std::vector<TensorView>& b) noexcept {
  if (a.size() != b.size()) return false;
  for (std::size_t index = 0; index < a.size(); ++index) {
    if (a[index].dtype != b[index].dtype || !a[index].shape.same_beyond_rows(b[index].shape)) return false;
  }
  return true;
}

}  // namespace paddleinfer
