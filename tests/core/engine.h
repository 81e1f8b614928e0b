// A dispatcher over fake instances, driven as the binding drives it.
#pragma once

#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "fakes.h"
#include "running/dispatcher.h"

namespace fakes {

using namespace harness;

// Delivers what CompletionQueue gives, as the engine's completion thread does.
class Reader {
 public:
  explicit Reader(const std::shared_ptr<Dispatcher>& dispatcher);
  ~Reader() { join(); }

  // After close() or stop() only.
  void join();
  bool stopped() const { return stopped_; }
  // How often this request was delivered.
  int delivered(const RequestPtr& request) const;
  // How many requests were.
  std::size_t requests() const;

 private:
  void read();

  const std::shared_ptr<Dispatcher> dispatcher_;
  mutable std::mutex mu_;
  std::map<const Request*, int> delivered_;  // guarded by mu_
  std::vector<RequestPtr> kept_;             // guarded by mu_; so that no address comes twice
  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

struct EngineOptions {
  int instances = 1;
  bool inline_allowed = false;
  SchedulerOptions scheduler{};
  std::vector<std::string> outputs = {"plus_one"};  // those whose rows are what they are alone
  std::function<void(float)> on_run{};
  std::function<void(const std::vector<float>&)> on_rows{};
  Nanos run_ns = 0;  // what a run costs, however many its rows
  std::vector<std::int64_t> batch_sizes{};
  std::int64_t verify_every = 1'000;
  std::size_t trace_capacity = 0;
  std::size_t cache_bytes = 0;
};

inline SchedulerOptions merging(Merging merging) {
  SchedulerOptions options;
  options.merging = merging;
  return options;
}

// Starts an instance.
void start_fake(Dispatcher& dispatcher, const std::shared_ptr<FakeModel>& model, std::size_t number, bool root);

// Instance 0 is the root. Closes at its end, where everything must have been given back.
struct Engine {
  explicit Engine(const EngineOptions& options);
  ~Engine();

  void start(bool root);

  // Queues it; the admission must be accepted.
  RequestPtr submit(float first, Nanos deadline = kNever, bool to_reader = false);
  RequestPtr submit_rows(float first, std::int64_t rows, Nanos deadline = kNever);
  void submit(const RequestPtr& request);
  // Queues them together; all must be accepted.
  void submit_all(const std::vector<RequestPtr>& requests);
  // Queues it and waits for its end; past its deadline, ends it.
  RequestPtr call(float first, Nanos deadline = kNever);
  void await(const RequestPtr& request);
  // One that stands at the gate, and whose deadline passes meanwhile. How soon a run begins is the machine's affair:
  // where the deadline has passed before, the next one has longer.
  RequestPtr late_while_it_runs(const Gate& gate, bool to_reader = false);
  // As call(), after a look-out for the result.
  RequestPtr call_spinning(float first);
  // As Engine.infer() does without a timeout.
  RequestPtr call_inline_or_queued(float first);

  bool end_early(const RequestPtr& request, Outcome outcome, bool only_queued = false);
  CloseReport close(bool drain, Nanos deadline);
  EngineSnapshot snapshot() const;
  const Counters& counters() const { return dispatcher->counters(); }

  // Gives its inputs back early, so that nothing is released when it ends.
  void release_inputs(const RequestPtr& request) { ledger.take_back(*request); }
  void drain() { ledger.drain(*dispatcher->releases()); }

  // Runs so often that runs of one row are known: the first on an instance does not count.
  static constexpr int kWarmUpRuns = 3;
  void warm_up();
  // Until so many rows have shared a run: the best size is found on the way. Its runs are forgotten.
  void learn(std::size_t rows);

  // Whether every instance thread has let go of the dispatcher, abandoned ones too. Not with a Reader.
  bool threads_gone() const;

  const std::shared_ptr<FakeModel> model = std::make_shared<FakeModel>();
  Ledger ledger;
  const std::shared_ptr<Trace> trace;
  const std::shared_ptr<Dispatcher> dispatcher;
  std::size_t started = 0;
};

}  // namespace fakes
