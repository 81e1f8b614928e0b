// Runs on the caller's own thread.
#include "engine.h"

using namespace fakes;

namespace {

// Until runs of one row are known to be short: one whose thread was kept from its core says something else.
void learn_short_runs(Engine& engine) {
  engine.warm_up();
  CHECK(eventually([&] { return engine.call(0)->explanation.predicted_ns < Dispatcher::kInlineRunLimit / 2; }));
}

}  // namespace

TEST("a lone caller runs on its own thread, and its backend still ends on its own") {
  Engine engine({.inline_allowed = true});
  learn_short_runs(engine);
  const std::int64_t before = engine.counters().results;
  const RequestPtr request = request_for(engine.ledger, 5);
  CHECK(engine.dispatcher->run_inline(request));
  CHECK(has_result(*request, 5));
  CHECK_EQ(engine.counters().inline_executions, 1);
  CHECK_EQ(engine.counters().results, before + 1);
  CHECK_EQ(engine.snapshot().running_batches, 0);
  engine.close(true, kNever);
  const Life life = engine.model->lives().at(0);
  CHECK(life.elsewhere == std::vector<std::thread::id>{std::this_thread::get_id()});
  CHECK_EQ(life.destroyed, life.made);
}

TEST("where it is not allowed nothing runs inline") {
  Engine engine({.inline_allowed = false});
  engine.warm_up();
  const RequestPtr request = request_for(engine.ledger, 5);
  CHECK(!engine.dispatcher->run_inline(request));
  CHECK(!request->started());
  CHECK(engine.ledger.take_back(*request));
}

TEST("of runs that the backend does not offer to callers' threads none is inline") {
  class OfOneRow final : public InlineRuns {
   public:
    bool may_run(const std::vector<TensorView>& inputs) const noexcept override {
      return inputs.front().shape.dims[0] == 1;
    }
  };
  Engine engine({.inline_allowed = true});
  engine.dispatcher->limit_inline(std::make_shared<OfOneRow>());
  learn_short_runs(engine);
  const RequestPtr one = request_for(engine.ledger, 5);
  CHECK(engine.dispatcher->run_inline(one));
  const RequestPtr two = request_for(engine.ledger, 5, 2);
  CHECK(!engine.dispatcher->run_inline(two));
  CHECK(engine.ledger.take_back(*two));
}

TEST("nothing runs inline before a run of its shapes was measured") {
  Engine engine({.inline_allowed = true});
  const RequestPtr request = request_for(engine.ledger, 5);
  CHECK(!engine.dispatcher->run_inline(request));
  learn_short_runs(engine);
  const RequestPtr wider = request_for(engine.ledger, 5, 1, kNever, /*width=*/3);
  CHECK(!engine.dispatcher->run_inline(wider));
  CHECK(engine.ledger.take_back(*wider));
  CHECK(engine.dispatcher->run_inline(request));
  CHECK(has_result(*request, 5));
}

TEST("nothing runs inline while several callers were recently active") {
  Gate gate;
  Engine engine({.inline_allowed = true, .on_run = [&](float first) {
                   if (first == 1) gate.pass();
                 }});
  learn_short_runs(engine);
  const std::vector<RequestPtr> two = {engine.submit(1), engine.submit(2)};
  gate.open();
  for (const RequestPtr& request : two) engine.await(request);
  const RequestPtr request = request_for(engine.ledger, 5);
  CHECK(!engine.dispatcher->run_inline(request));
  int calls = 0;
  while (!engine.dispatcher->run_inline(request) && calls < 200) engine.call(float(++calls));
  CHECK(has_result(*request, 5));  // the second caller has been forgotten
  CHECK(calls < 200);
}

TEST("runs that failed do not count as measured") {
  Engine engine({.inline_allowed = true, .on_run = [](float) { throw std::runtime_error("no"); }});
  engine.warm_up();
  engine.warm_up();
  const RequestPtr request = request_for(engine.ledger, 5);
  if (!engine.dispatcher->run_inline(request)) {
    CHECK(engine.ledger.take_back(*request));
    return;
  }
  CHECK(!"a run of unknown length was done inline");
}

TEST("what is over the limits does not run inline either") {
  EngineOptions options;
  options.inline_allowed = true;
  options.scheduler.max_queue_bytes = 2 * 2 * sizeof(float);  // two rows of two numbers
  Engine engine(options);
  learn_short_runs(engine);
  const RequestPtr large = request_for(engine.ledger, 5, 3);
  CHECK(!engine.dispatcher->run_inline(large));
  engine.release_inputs(large);
  const RequestPtr fits = request_for(engine.ledger, 5, 2);
  CHECK(engine.dispatcher->run_inline(fits));
  CHECK(has_result(*fits, 5));
}

TEST("long runs are not done inline") {
  Engine engine({.inline_allowed = true, .on_run = [](float) { sleep_ns(2 * Dispatcher::kInlineRunLimit); }});
  engine.warm_up();
  const RequestPtr request = request_for(engine.ledger, 5);
  CHECK(!engine.dispatcher->run_inline(request));
  CHECK(engine.ledger.take_back(*request));
}

TEST("nothing runs inline while something runs, or is queued, or after close") {
  Gate gate;
  Engine engine({.instances = 2, .inline_allowed = true, .on_run = [&](float first) {
                   if (first > 0) gate.pass();
                 }});
  learn_short_runs(engine);
  const RequestPtr inline_request = request_for(engine.ledger, 0);
  std::vector<RequestPtr> requests = {engine.submit(1)};
  REQUIRE(gate.await(1));
  CHECK(!engine.dispatcher->run_inline(inline_request));  // though an instance is idle
  requests.push_back(engine.submit(2));
  requests.push_back(engine.submit(3));
  REQUIRE(gate.await(2));
  CHECK(!engine.dispatcher->run_inline(inline_request));
  gate.open();
  for (const RequestPtr& request : requests) engine.await(request);
  engine.close(true, kNever);
  CHECK(!engine.dispatcher->run_inline(inline_request));
  CHECK(engine.ledger.take_back(*inline_request));
}

TEST("what is queued while a caller runs inline is not forgotten") {
  Gate gate;
  Engine engine({.instances = 1, .inline_allowed = true, .on_run = [&](float first) {
                   if (first == 1) gate.pass();
                 }});
  learn_short_runs(engine);
  const RequestPtr inline_request = request_for(engine.ledger, 1);
  std::thread caller([&] { CHECK(engine.dispatcher->run_inline(inline_request)); });
  REQUIRE(gate.await(1));
  const RequestPtr queued = engine.submit(2);
  sleep_ns(2 * kMillisecond);
  CHECK(!queued->started());
  gate.open();
  caller.join();
  engine.await(queued);
  CHECK(has_result(*inline_request, 1));
  CHECK(has_result(*queued, 2));
}

TEST("an inline run that fails ends its request and leaves the instance usable") {
  Engine engine({.inline_allowed = true, .on_run = [](float first) {
                   if (first == 13) throw std::runtime_error("unlucky");
                 }});
  learn_short_runs(engine);
  const RequestPtr bad = request_for(engine.ledger, 13);
  CHECK(engine.dispatcher->run_inline(bad));
  CHECK_EQ(bad->outcome, Outcome::error);
  const RequestPtr good = request_for(engine.ledger, 14);
  CHECK(engine.dispatcher->run_inline(good));
  CHECK(has_result(*good, 14));
}

TEST("closing waits for an inline run, and gives it up at the deadline") {
  Gate gate;
  std::weak_ptr<Dispatcher> left;
  {
    Engine engine({.instances = 2, .inline_allowed = true, .on_run = [&](float first) {
                     if (first == 1) gate.pass();
                   }});
    left = engine.dispatcher;
    learn_short_runs(engine);
    const RequestPtr request = request_for(engine.ledger, 1);
    std::thread caller([&] { CHECK(engine.dispatcher->run_inline(request)); });
    REQUIRE(gate.await(1));
    const CloseReport report = engine.close(true, from_now(30 * kMillisecond));
    CHECK_EQ(report.abandoned_instances, 1u);
    CHECK_EQ(report.ended_requests, 1u);
    CHECK(request->done());
    CHECK_EQ(request->outcome, Outcome::closed);
    gate.open();
    caller.join();
    CHECK_EQ(request->outcome, Outcome::closed);
    CHECK(engine.threads_gone());
    CHECK_EQ(engine.model->alive(), 0);
  }
  CHECK(eventually([&] { return left.expired(); }));
}

TEST("inline and queued callers together lose nothing, and never share a backend") {
  constexpr int kCallers = 4;
  const std::int64_t each = scaled(8'000);
  for (const int instances : {1, 2, 3}) {
    Engine engine({.instances = instances, .inline_allowed = true});
    learn_short_runs(engine);
    const std::int64_t before = engine.counters().results;
    std::vector<std::thread> callers;
    for (int caller = 0; caller < kCallers; ++caller) {
      callers.emplace_back([&, caller] {
        for (std::int64_t turn = 0; turn < each; ++turn) {
          const float first = float(caller * 100'000 + turn % 50'000);
          CHECK(has_result(*engine.call_inline_or_queued(first), first));
          if (turn % 64 == 0) {
            engine.drain();
            sleep_ns(50'000);
          }
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
    const Counters& counters = engine.counters();
    CHECK_EQ(counters.results, before + kCallers * each);
    CHECK_EQ(counters.executed_rows, counters.results);
    CHECK_EQ(engine.snapshot().running_batches, 0);
  }
}
