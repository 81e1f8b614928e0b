// A dispatcher over fake instances, driven as the binding drives it.
#pragma once

#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "dispatcher.h"
#include "fakes.h"

namespace fakes {

using namespace harness;

// Delivers what CompletionQueue gives, as the engine's completion thread does.
class Reader {
 public:
  explicit Reader(const std::shared_ptr<Dispatcher>& dispatcher)
      : dispatcher_(dispatcher), thread_([this] { read(); }) {}
  ~Reader() { join(); }

  // After close() or stop() only.
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  bool stopped() const { return stopped_; }
  // How often this request was delivered.
  int delivered(const RequestPtr& request) const {
    const std::lock_guard<std::mutex> lock(mu_);
    const auto found = delivered_.find(request.get());
    return found == delivered_.end() ? 0 : found->second;
  }
  std::size_t requests() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return delivered_.size();
  }

 private:
  void read() {
    for (;;) {
      const News news = dispatcher_->completions()->wait();
      for (const RequestPtr& request : news.overdue) dispatcher_->end_early(request, Outcome::expired);
      if (news.stopped) {
        stopped_ = true;
        return;
      }
      const std::lock_guard<std::mutex> lock(mu_);
      for (const RequestPtr& request : news.ended) {
        CHECK(request->done());
        ++delivered_[request.get()];
        kept_.push_back(request);
      }
    }
  }

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
};

inline SchedulerOptions merging(Merging merging) {
  SchedulerOptions options;
  options.merging = merging;
  return options;
}

// Instance 0 is the root. Closes at its end, where everything must have been given back.
struct Engine {
  explicit Engine(const EngineOptions& options)
      : dispatcher(std::make_shared<Dispatcher>(
            DispatcherOptions{options.scheduler, options.inline_allowed, options.outputs, options.batch_sizes})) {
    model->on_run = options.on_run;
    model->on_rows = options.on_rows;
    model->run_ns = options.run_ns;
    for (int number = 0; number < options.instances; ++number) start(number == 0);
  }
  ~Engine() {
    dispatcher->close(true, from_now(10 * kNanosPerSecond));
    drain();
    CHECK_EQ(ledger.held(), 0u);
    CHECK_EQ(model->overlaps, 0);
  }

  void start(bool root) {
    dispatcher->start_instance(root, [model = model, number = started++]() -> std::unique_ptr<Backend> {
      return std::make_unique<FakeBackend>(model, number);
    });
  }

  // Queues it; the admission must be accepted.
  RequestPtr submit(float first, Nanos deadline = kNever, bool to_reader = false) {
    RequestPtr request = request_for(ledger, first, 1, deadline);
    if (to_reader) request->sink = dispatcher->completions();
    submit(request);
    return request;
  }
  RequestPtr submit_rows(float first, std::int64_t rows, Nanos deadline = kNever) {
    RequestPtr request = request_for(ledger, first, rows, deadline);
    submit(request);
    return request;
  }
  void submit(const RequestPtr& request) {
    Admission admission = Admission::accepted;
    CHECK(dispatcher->admit(request, admission));
    CHECK_EQ(admission, Admission::accepted);
  }
  // Queues it and waits for its end; past its deadline, ends it.
  RequestPtr call(float first, Nanos deadline = kNever) {
    RequestPtr request = submit(first, deadline);
    await(request);
    return request;
  }
  void await(const RequestPtr& request) {
    if (request->wait(request->deadline) == Woken::changed) return;
    dispatcher->end_early(request, Outcome::expired);
    request->wait(kNever);
  }
  // Gives its inputs back early, so that nothing is released when it ends.
  void let_go_of_inputs(const RequestPtr& request) { ledger.take_back(*request); }
  // As call(), after a look-out for the result.
  RequestPtr call_looking_out(float first) {
    RequestPtr request = submit(first);
    dispatcher->look_out_for(*request);
    await(request);
    return request;
  }
  // As Engine.infer() does without a timeout.
  RequestPtr call_inline_or_queued(float first) {
    RequestPtr request = request_for(ledger, first);
    if (!dispatcher->run_inline(request)) {
      submit(request);
      await(request);
    }
    return request;
  }
  // Runs so often that runs of one row are known: the first on an instance does not count.
  static constexpr int kWarmUpRuns = 3;
  void warm_up() {
    for (int run = 0; run < kWarmUpRuns; ++run) call(0);
  }
  // Until so many rows have shared a run: the best size is found on the way. Its runs are forgotten.
  void learn(std::size_t rows) {
    const Nanos run_ns = model->run_ns.exchange(kMillisecond / 2);
    for (int round = 0; model->most_rows() < rows && round < 100; ++round) {
      std::vector<RequestPtr> requests;
      for (std::size_t place = 0; place < 2 * rows; ++place) requests.push_back(request_for(ledger, 0));
      submit_all(requests);
      for (const RequestPtr& request : requests) await(request);
    }
    CHECK(model->most_rows() >= rows);
    model->run_ns = run_ns;
    model->forget_batches();
    model->runs = 0;
  }
  // Queues them together; all must be accepted.
  void submit_all(const std::vector<RequestPtr>& requests) {
    std::vector<Admission> admissions;
    CHECK(dispatcher->admit(requests, admissions));
    CHECK_EQ(admissions.size(), requests.size());
    for (const Admission admission : admissions) CHECK_EQ(admission, Admission::accepted);
  }
  void drain() { ledger.drain(*dispatcher->releases()); }

  // Whether every instance thread has let go of the dispatcher, abandoned ones too. Not with a Reader.
  bool threads_gone() const {
    return eventually([this] { return dispatcher.use_count() == 1 && dispatcher->load().running_batches == 0; });
  }

  const std::shared_ptr<FakeModel> model = std::make_shared<FakeModel>();
  Ledger ledger;
  const std::shared_ptr<Dispatcher> dispatcher;
  std::size_t started = 0;
};

}  // namespace fakes
