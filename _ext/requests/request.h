// Holds one call: its rows, its deadline, and the one end that it has.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "requests/cache_use.h"
#include "requests/release_list.h"
#include "requests/tensor_copy.h"
#include "requests/thread_safety.h"
#include "requests/time.h"

namespace paddleinfer {

// `expired`: its deadline passed; `shed`: it was dropped because its deadline could no longer be met.
enum class Outcome : std::uint8_t { none, result, error, cancelled, expired, shed, closed };
inline constexpr std::size_t kOutcomes = std::size_t(Outcome::closed) + 1;

constexpr const char* to_string(Outcome value) noexcept {
  switch (value) {
    case Outcome::none:
      return "none";
    case Outcome::result:
      return "result";
    case Outcome::error:
      return "error";
    case Outcome::cancelled:
      return "cancelled";
    case Outcome::expired:
      return "expired";
    case Outcome::shed:
      return "shed";
    case Outcome::closed:
      return "closed";
  }
  return "";
}

// Why a batch went when it went.
enum class DispatchReason : std::uint8_t {
  idle,                // an instance was idle, and waiting was not predicted to pay
  full,                // no more rows were worth waiting for
  all_callers_queued,  // all recently active callers are queued
  delay_expired,       // it had been held back for as long as that pays
  deadline,            // its first request had to start, or allowed no larger batch
  unbatchable,         // nothing else may share its run
  closing,
  inline_run,  // it ran on the thread of its sole caller
  warmup,
  cached,     // of a request: its result was kept, and nothing ran
  coalesced,  // of a request: it was given the result of an equal one
};
inline constexpr std::size_t kDispatchReasons = std::size_t(DispatchReason::coalesced) + 1;

constexpr const char* to_string(DispatchReason value) noexcept {
  switch (value) {
    case DispatchReason::idle:
      return "idle";
    case DispatchReason::full:
      return "full";
    case DispatchReason::all_callers_queued:
      return "all_callers_queued";
    case DispatchReason::delay_expired:
      return "delay_expired";
    case DispatchReason::deadline:
      return "deadline";
    case DispatchReason::unbatchable:
      return "unbatchable";
    case DispatchReason::closing:
      return "closing";
    case DispatchReason::inline_run:
      return "inline";
    case DispatchReason::warmup:
      return "warmup";
    case DispatchReason::cached:
      return "cached";
    case DispatchReason::coalesced:
      return "coalesced";
  }
  return "";
}

// Per-request scheduling details; for a split request, those of the last part to finish.
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
  Nanos gather_end = 0;   // instants, of that run
  Nanos run_end = 0;
  Nanos scatter_end = 0;

  // Whether there is anything to explain: it ran, or was answered without.
  bool is_known() const noexcept { return batch_rows > 0 || reason == DispatchReason::cached; }
};

// How a request failed. `exception` is a Python exception of a callable, given back through a ReleaseList.
struct Failure {
  std::string message;
  std::shared_ptr<void> exception;
};

// What waited and ran.
struct QueueSnapshot {
  std::int64_t queued_rows = 0;
  std::size_t queued_bytes = 0;
  std::int64_t running_batches = 0;
  double drain_ns = 0;  // predicted for what waits
};

class CompletionQueue;
class WakeChain;
enum class Woken : std::uint8_t;

// The results of a request that runs in parts: each part writes its rows into the same arrays.
class PartialResult {
 public:
  explicit PartialResult(std::int64_t rows) : rows_(rows), rows_left_(rows) {}

  // Whether the outputs of a further part are like those before, so that it can be joined with them.
  bool fits(const std::vector<TensorView>& outputs) {
    const MutexLock lock(mu_);
    for (std::size_t place = 0; place < outputs_.size(); ++place) {
      const OwnedTensor& before = outputs_[place];
      if (outputs[place].dtype != before.dtype || !outputs[place].shape.same_beyond_rows(before.shape)) return false;
    }
    return true;
  }

  // Copies the rows of one part, `outputs` in the order wanted, to their place. Throws when they do not fit.
  void write(const std::vector<TensorView>& outputs, std::int64_t from_row, std::int64_t to_row, std::int64_t rows) {
    const MutexLock lock(mu_);
    if (outputs_.empty()) {
      std::vector<OwnedTensor> all;  // or none, where memory does not suffice
      for (const TensorView& view : outputs) all.push_back(allocate_rows(view, rows_));
      outputs_ = std::move(all);
    }
    for (std::size_t place = 0; place < outputs.size(); ++place) {
      copy_rows_into(outputs_[place], to_row, outputs[place], from_row, rows);
    }
  }

  // Of a part that has been written, once what it has run is counted. True when that is so of all.
  bool finish_part(std::int64_t rows) noexcept {
    const MutexLock lock(mu_);
    rows_left_ -= rows;
    return rows_left_ == 0;
  }

  std::vector<OwnedTensor> take() noexcept {
    const MutexLock lock(mu_);
    return std::move(outputs_);
  }

  // One row of each output, of a part that has been written.
  std::vector<OwnedTensor> copy_row(std::int64_t row) {
    const MutexLock lock(mu_);
    std::vector<OwnedTensor> copies;
    for (const OwnedTensor& output : outputs_) copies.push_back(copy_rows(view_of(output), row, 1));
    return copies;
  }

 private:
  const std::int64_t rows_;
  Mutex mu_;
  std::vector<OwnedTensor> outputs_ GUARDED_BY(mu_);
  std::int64_t rows_left_ GUARDED_BY(mu_);  // not settled
};

// State: queued -> running -> claimed -> done, or queued -> claimed -> done. Whoever claims it writes
// its end; everybody else leaves it alone. The word is a futex: a sleeper marks it before it sleeps.
class Request {
 public:
  enum class State : std::uint32_t { queued = 0, running = 1, claimed = 2, done = 3 };

  // -- The caller's: set before admission, constant from then on.

  std::vector<TensorView> inputs;
  std::vector<std::uint32_t> wanted;  // indices of the outputs to copy out, in the caller's order
  std::int64_t rows = 1;
  std::size_t bytes = 0;
  std::uint64_t signature = 0;  // of dtypes and shapes without the rows
  Nanos deadline = kNever;
  int priority = 1;                     // class 0, 1 or 2: the most urgent first
  Nanos call_time = 0;                  // when its caller's call began
  bool waits_for_room = false;          // when the queue is full, instead of being refused
  bool outside_queue = false;           // the engine's own: no traffic, and it says nothing about callers
  std::int64_t rows_together = 0;       // of the first of several that are let in together: those of all
  std::size_t bytes_together = 0;       // likewise
  bool follows = false;                 // it is another of them, and goes where the one before it went
  std::unique_ptr<CacheUse> cache_use;  // null where it has nothing to do with the cache
  // A Python object for the reader of the completion queue (a future), which keeps it alive.
  void* waiter = nullptr;

  // -- The scheduler's: guarded by the dispatcher's lock, but for what its caller reads after the end.

  Nanos arrival = 0;  // constant once it is queued
  Nanos key = 0;
  Nanos row_cost_ns = 0;             // what the backlog counts for each of its rows
  std::int64_t next_row = 0;         // rows before it have been handed out
  std::int64_t rows_unfinished = 0;  // admitted, and neither run nor given up
  bool in_queue = false;             // some rows wait
  bool awaiting_admission = false;   // waits for room in the queue
  bool has_reader = false;           // a loop or a thread reads its end; the queue itself goes when it ends
  bool in_one_run = false;           // it was in parts that cannot be joined: it runs whole, whatever has run
  bool on_trial = false;             // to find out whether what is predicted still holds
  Nanos first_started = 0;           // with its hold: set before any of its rows run, constant from then on
  Nanos hold_ns = 0;
  Nanos needs_ns = 0;                 // predicted for its result, where it was shed for that; read after its end
  Nanos sole_caller_run_ns = kNever;  // predicted, when all recent requests are one caller's, who reads it
  QueueSnapshot refused_by;           // set where it was refused; read by its caller then

  // -- The instances': made under the dispatcher's lock when the first of several parts is handed out; it has a lock of
  // its own, for its parts may run on several instances at once.

  std::unique_ptr<PartialResult> partial_result;

  // -- The claimant's: whoever has claimed it writes these, and its caller reads them after done().

  Outcome outcome = Outcome::none;
  Explanation explanation;
  std::vector<OwnedTensor> outputs;
  Failure failure;
  std::shared_ptr<CompletionQueue> completion_queue;  // told of the end, beside whoever waits; set before admission
  std::shared_ptr<Request> next_in_chain;             // in the chain that holds it: the claimant's, then its queue's

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

  // How many sleepers it woke. In request_wait.h, as all that sleeps.
  inline long wake() noexcept;

  // To be set before publish(): whoever wakes carries it on.
  void wakes_next(const std::shared_ptr<WakeChain>& chain) noexcept { chain_ = chain; }

  inline Woken wait(Nanos until) noexcept;

  // The Python object that keeps the inputs' memory, and how many may still read it: the queue while rows
  // wait, each part until it has read its own, and a request in parts until its end. The last one gives it back.
  void own_inputs(void* owner) noexcept { input_owner_ = owner; }
  void hold_inputs() noexcept { input_holds_.fetch_add(1, std::memory_order_relaxed); }
  void release_inputs(ReleaseList& releases) noexcept { releases.push(release_inputs()); }
  // The owner, when this was the last hold: the caller gives it back. Else nullptr.
  void* release_inputs() noexcept {
    if (input_holds_.fetch_sub(1, std::memory_order_acq_rel) > 1) return nullptr;
    return std::exchange(input_owner_, nullptr);
  }
  // Of a request in parts, whose inputs are kept until its end: it may have to run again whole. Once.
  void keep_inputs_to_the_end() noexcept {
    hold_inputs();
    kept_to_the_end_.store(true, std::memory_order_release);
  }
  // The claimant calls this once nothing of it can be handed out any more.
  void release_kept_inputs(ReleaseList& releases) noexcept {
    if (kept_to_the_end_.load(std::memory_order_acquire) && kept_to_the_end_.exchange(false)) {
      release_inputs(releases);
    }
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

  inline Woken carried_on() noexcept;

  std::atomic<std::uint32_t> word_{std::uint32_t(State::queued)};
  std::atomic<int> input_holds_{1};
  std::atomic<bool> kept_to_the_end_{false};
  void* input_owner_ = nullptr;
  std::shared_ptr<WakeChain> chain_;  // written before publish(), read after done()
};

using RequestPtr = std::shared_ptr<Request>;

// Requests in a row, through a link of their own: adding one needs no memory. A request is in one chain at most.
class RequestChain {
 public:
  RequestChain() = default;
  RequestChain(RequestChain&& other) noexcept { append(std::move(other)); }
  RequestChain& operator=(RequestChain&&) = delete;
  // One by one: a long chain that let go of its first would go down it recursively.
  ~RequestChain() { clear(); }

  bool empty() const noexcept { return first_ == nullptr; }
  std::size_t size() const noexcept { return size_; }
  const RequestPtr& first() const noexcept { return first_; }

  void push(RequestPtr request) noexcept {
    Request* const last = std::exchange(last_, request.get());
    (last == nullptr ? first_ : last->next_in_chain) = std::move(request);
    ++size_;
  }
  RequestPtr pop() noexcept {
    RequestPtr request = std::move(first_);
    first_ = std::move(request->next_in_chain);
    if (first_ == nullptr) last_ = nullptr;
    --size_;
    return request;
  }
  void append(RequestChain&& other) noexcept {
    if (other.empty()) return;
    (last_ == nullptr ? first_ : last_->next_in_chain) = std::move(other.first_);
    last_ = std::exchange(other.last_, nullptr);
    size_ += std::exchange(other.size_, 0);
  }
  void clear() noexcept {
    while (!empty()) pop();
  }

 private:
  RequestPtr first_;
  Request* last_ = nullptr;
  std::size_t size_ = 0;
};

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
