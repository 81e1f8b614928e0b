// Requests that one instance is told to run by itself.
#include "engine.h"

using namespace fakes;

namespace {

RequestPtr ordered(Engine& engine, float first, std::size_t instance, std::int64_t rows = 1) {
  const RequestPtr request = request_for(engine.ledger, first, rows);
  CHECK(engine.dispatcher->warmup(request, instance));
  return request;
}

}  // namespace

TEST("a warm-up runs on the instance that was named, by itself and as it is") {
  Engine engine({.instances = 3});
  for (std::size_t instance = 0; instance < 3; ++instance) {
    for (const std::int64_t rows : {1, 100}) {
      const RequestPtr request = ordered(engine, 7, instance, rows);
      engine.await(request);
      CHECK(has_result(*request, 7));
      CHECK_EQ(request->explanation.instance, instance);
      CHECK_EQ(request->explanation.batch_rows, rows);
      CHECK(request->explanation.reason == DispatchReason::warmup);
    }
  }
  CHECK_EQ(engine.dispatcher->counters().internal_runs, 6);
  engine.dispatcher->close(true, kNever);
  for (const Life& life : engine.model->lives()) CHECK_EQ(life.runs, 2);
}

TEST("a warm-up is no traffic, however it ends: only the runs that it took are counted, and apart") {
  Gate gate;
  Engine engine({.on_run =
                     [&](float first) {
                       if (first == 1) gate.pass();
                       if (first == 2) throw std::runtime_error("no");
                     },
                 .trace_capacity = 100});
  const RequestPtr given_up = ordered(engine, 1, 0);
  REQUIRE(gate.await(1));
  const RequestPtr cancelled = ordered(engine, 3, 0);
  CHECK(engine.end_early(cancelled, Outcome::cancelled));
  CHECK(engine.end_early(given_up, Outcome::expired));
  gate.open();
  const RequestPtr failing = ordered(engine, 2, 0);
  engine.await(failing);
  CHECK_EQ(failing->outcome, Outcome::error);
  const RequestPtr fine = ordered(engine, 4, 0, 5);
  engine.await(fine);
  CHECK(has_result(*fine, 4));
  for (const RequestPtr& request : {given_up, cancelled, failing, fine}) engine.trace->record(*request);
  const Counters& counters = engine.counters();
  for (const auto* counter : {&counters.requests, &counters.rows, &counters.results, &counters.errors,
                              &counters.cancelled, &counters.expired, &counters.closed, &counters.executions,
                              &counters.executed_rows, &counters.queue_ns, &counters.run_ns, &counters.result_ns}) {
    CHECK_EQ(*counter, 0);
  }
  CHECK_EQ(counters.internal_runs, 3);
  CHECK(engine.snapshot().batch_rows.empty());
  CHECK(engine.trace->recorded() == (std::pair<std::uint64_t, std::uint64_t>{0, 0}));
  engine.call(5);
  CHECK_EQ(counters.internal_runs, 3);
  CHECK_EQ(counters.executions, 1);
  CHECK_EQ(engine.trace->recorded().second, 1u);
}

TEST("a warm-up of an instance that is not there is refused with an exception") {
  Engine engine({.instances = 2});
  const RequestPtr request = request_for(engine.ledger, 7);
  CHECK_THROWS(std::out_of_range, engine.dispatcher->warmup(request, 2));
  CHECK(engine.ledger.take_back(*request));
}

TEST("a warm-up goes before what waits, while others run on") {
  Gate gate;
  Engine engine({.on_run = [&](float first) {
    if (first == 1) gate.pass();
  }});
  const RequestPtr running = engine.submit(1);
  REQUIRE(gate.await(1));
  const RequestPtr queued = engine.submit(2);
  const RequestPtr warmup = ordered(engine, 3, 0);
  CHECK(!warmup->started());
  gate.open();
  for (const RequestPtr& request : {running, queued, warmup}) engine.await(request);
  CHECK((engine.model->batches() == std::vector<std::vector<float>>{{1}, {3}, {2}}));
}

TEST("warm-ups teach how long runs take, and say nothing about callers") {
  Engine engine({.inline_allowed = true});
  const RequestPtr lone = request_for(engine.ledger, 5);
  CHECK_EQ(engine.dispatcher->predicted_run_ns(*lone, 1), 0.0);
  const auto is_short = [&] {  // one whose thread was kept from its core says something else
    return engine.dispatcher->predicted_run_ns(*lone, 1) < Dispatcher::kInlineRunLimit;
  };
  for (int run = 0; run < 5 || !is_short(); ++run) {
    std::vector<RequestPtr> several;
    for (int place = 0; place < 4; ++place) several.push_back(ordered(engine, 1, 0));
    for (const RequestPtr& request : several) engine.await(request);
  }
  CHECK(engine.dispatcher->predicted_run_ns(*lone, 1) > 0);
  CHECK(engine.dispatcher->run_inline(lone));
  CHECK(has_result(*lone, 5));
  CHECK(lone->explanation.reason == DispatchReason::inline_run);
  CHECK(lone->explanation.predicted_ns > 0);
}

TEST("a warm-up runs on an instance that an inline caller occupies, once that one is done") {
  Gate gate;
  Engine engine({.instances = 2, .inline_allowed = true, .on_run = [&](float first) {
                   if (first == 1) gate.pass();
                 }});
  engine.warm_up();
  CHECK(eventually([&] { return engine.call(0)->explanation.predicted_ns < Dispatcher::kInlineRunLimit / 2; }));
  const RequestPtr inline_run = request_for(engine.ledger, 1);
  std::thread caller([&] { CHECK(engine.dispatcher->run_inline(inline_run)); });
  REQUIRE(gate.await(1));
  const std::vector<RequestPtr> warmups = {ordered(engine, 2, 0), ordered(engine, 3, 1)};
  CHECK(eventually([&] { return warmups[0]->done() || warmups[1]->done(); }));
  sleep_ns(2 * kMillisecond);
  CHECK(warmups[0]->done() != warmups[1]->done());  // the other one's instance is occupied
  gate.open();
  caller.join();
  for (const RequestPtr& request : warmups) {
    CHECK_EQ(request->wait(from_now(kPatience)), Woken::changed);
    CHECK_EQ(request->outcome, Outcome::result);
  }
  CHECK(has_result(*inline_run, 1));
  CHECK_EQ(warmups[inline_run->explanation.instance]->explanation.instance, inline_run->explanation.instance);
}

TEST("a warm-up that waits is closed with its engine, or runs where it is drained") {
  for (const bool drain : {false, true}) {
    Gate gate;
    Engine engine({.on_run = [&](float first) {
      if (first == 1) gate.pass();
    }});
    const RequestPtr running = engine.submit(1);
    REQUIRE(gate.await(1));
    const RequestPtr warmup = ordered(engine, 2, 0);
    CHECK_EQ(engine.dispatcher->begin_close(drain), drain ? 0u : 1u);
    gate.open();
    CHECK(engine.dispatcher->wait_for_exits(kNever));
    engine.dispatcher->finish_close();
    CHECK(has_result(*running, 1));
    REQUIRE(warmup->done());
    CHECK_EQ(warmup->outcome, drain ? Outcome::result : Outcome::closed);
    const RequestPtr late = request_for(engine.ledger, 3);
    CHECK(!engine.dispatcher->warmup(late, 0));
    CHECK(engine.ledger.take_back(*late));
  }
}

TEST("a warm-up behind a run that hangs ends when the engine is given up") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  const RequestPtr hanging = engine.submit(1);
  REQUIRE(gate.await(1));
  const RequestPtr warmup = ordered(engine, 2, 0);
  const CloseReport report = engine.dispatcher->close(true, from_now(20 * kMillisecond));
  CHECK_EQ(report.ended_requests, 2u);
  CHECK_EQ(warmup->outcome, Outcome::closed);
  CHECK_EQ(hanging->outcome, Outcome::closed);
  gate.open();
  CHECK(engine.threads_gone());
}

TEST("a warm-up that is cancelled before it ran does not run") {
  Gate gate;
  Engine engine({.on_run = [&](float first) {
    if (first == 1) gate.pass();
  }});
  const RequestPtr running = engine.submit(1);
  REQUIRE(gate.await(1));
  const RequestPtr warmup = ordered(engine, 2, 0);
  CHECK(engine.dispatcher->end_early(warmup, Outcome::cancelled));
  gate.open();
  engine.await(running);
  engine.await(engine.submit(3));
  CHECK_EQ(warmup->outcome, Outcome::cancelled);
  CHECK_EQ(engine.model->runs, 2);
}

TEST("what somebody else has found out about merging is taken over, and can be asked for once") {
  for (const bool merges : {true, false}) {
    Engine engine({.scheduler = merging(Merging::probe)});
    CHECK(!engine.dispatcher->merging_changed());
    engine.dispatcher->set_batchable(merges, merges ? "" : "it says so");
    CHECK(engine.dispatcher->merging_changed());
    const auto [found, why] = engine.dispatcher->take_merging_change();
    CHECK_EQ(found, merges ? Merging::yes : Merging::no);
    CHECK_EQ(why, merges ? "" : "it says so");
    CHECK(!engine.dispatcher->merging_changed());
    engine.dispatcher->set_batchable(true, "");
    CHECK(!engine.dispatcher->merging_changed());  // what does not merge never will
    CHECK(has_result(*engine.call(4), 4));
  }
}
