#include "engine.h"

namespace fakes {

Reader::Reader(const std::shared_ptr<Dispatcher>& dispatcher) : dispatcher_(dispatcher), thread_([this] { read(); }) {}

void Reader::join() {
  if (thread_.joinable()) thread_.join();
}

int Reader::delivered(const RequestPtr& request) const {
  const std::lock_guard<std::mutex> lock(mu_);
  const auto found = delivered_.find(request.get());
  return found == delivered_.end() ? 0 : found->second;
}

std::size_t Reader::requests() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return delivered_.size();
}

void Reader::read() {
  for (;;) {
    const CompletionEvents events = dispatcher_->completions()->wait();
    for (const RequestPtr& request : events.overdue) dispatcher_->end_early(request, Outcome::expired);
    if (events.stopped) {
      stopped_ = true;
      return;
    }
    const std::lock_guard<std::mutex> lock(mu_);
    for (const RequestPtr& request : events.ended) {
      CHECK(request->done());
      ++delivered_[request.get()];
      kept_.push_back(request);
    }
  }
}

void start_fake(Dispatcher& dispatcher, const std::shared_ptr<FakeModel>& model, std::size_t number, bool root) {
  dispatcher.start_instance(
      root, [model, number]() -> std::unique_ptr<Backend> { return std::make_unique<FakeBackend>(model, number); });
}

Engine::Engine(const EngineOptions& options)
    : trace(std::make_shared<Trace>(options.trace_capacity)),
      dispatcher(std::make_shared<Dispatcher>(DispatcherOptions{options.scheduler, options.inline_allowed,
                                                                options.outputs, options.batch_sizes, trace,
                                                                options.verify_every, options.cache_bytes})) {
  model->on_run = options.on_run;
  model->on_rows = options.on_rows;
  model->run_ns = options.run_ns;
  for (int number = 0; number < options.instances; ++number) start(number == 0);
}

Engine::~Engine() {
  dispatcher->close(true, from_now(kPatience));
  drain();
  CHECK_EQ(ledger.held(), 0u);
  CHECK_EQ(model->overlaps, 0);
}

void Engine::start(bool root) { start_fake(*dispatcher, model, started++, root); }

RequestPtr Engine::submit(float first, Nanos deadline, bool to_reader) {
  RequestPtr request = request_for(ledger, first, 1, deadline);
  if (to_reader) request->completion_queue = dispatcher->completions();
  submit(request);
  return request;
}

RequestPtr Engine::submit_rows(float first, std::int64_t rows, Nanos deadline) {
  RequestPtr request = request_for(ledger, first, rows, deadline);
  submit(request);
  return request;
}

void Engine::submit(const RequestPtr& request) {
  Admission admission = Admission::accepted;
  CHECK(dispatcher->admit(request, admission));
  CHECK_EQ(admission, Admission::accepted);
}

void Engine::submit_all(const std::vector<RequestPtr>& requests) {
  std::vector<Admission> admissions;
  CHECK(dispatcher->admit(requests, admissions));
  CHECK_EQ(admissions.size(), requests.size());
  for (const Admission admission : admissions) CHECK_EQ(admission, Admission::accepted);
}

RequestPtr Engine::call(float first, Nanos deadline) {
  RequestPtr request = submit(first, deadline);
  await(request);
  return request;
}

void Engine::await(const RequestPtr& request) {
  if (request->wait(request->deadline) == Woken::changed) return;
  dispatcher->end_early(request, Outcome::expired);
  request->wait(kNever);
}

RequestPtr Engine::late_while_it_runs(const Gate& gate, bool to_reader) {
  const int before = gate.came();
  for (Nanos left = 30 * kMillisecond;; left *= 4) {
    RequestPtr request = submit(1, from_now(left), to_reader);
    const auto begins = [&] { return gate.came() > before; };
    CHECK(eventually([&] { return begins() || (request->ended() && snapshot().running_batches == 0); }));
    if (begins()) return request;
  }
}

RequestPtr Engine::call_spinning(float first) {
  RequestPtr request = submit(first);
  dispatcher->spin_for(*request);
  await(request);
  return request;
}

RequestPtr Engine::call_inline_or_queued(float first) {
  RequestPtr request = request_for(ledger, first);
  if (!dispatcher->run_inline(request)) {
    submit(request);
    await(request);
  }
  return request;
}

bool Engine::end_early(const RequestPtr& request, Outcome outcome, bool only_queued) {
  return dispatcher->end_early(request, outcome, only_queued);
}

CloseReport Engine::close(bool drain, Nanos deadline) { return dispatcher->close(drain, deadline); }

EngineSnapshot Engine::snapshot() const { return dispatcher->snapshot(); }

void Engine::warm_up() {
  for (int run = 0; run < kWarmUpRuns; ++run) call(0);
}

void Engine::learn(std::size_t rows) {
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

bool Engine::threads_gone() const {
  return eventually([this] { return dispatcher.use_count() == 1 && dispatcher->snapshot().running_batches == 0; });
}

}  // namespace fakes
