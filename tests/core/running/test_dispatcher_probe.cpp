// Whether rows may share a run is found out when requests could first be merged, and by the way.
#include "engine.h"

using namespace fakes;

namespace {

EngineOptions probing(std::vector<std::string> outputs = {"plus_one"}) {
  EngineOptions options;
  options.scheduler.merging = Merging::probe;
  options.scheduler.max_batch_size = 8;
  options.outputs = std::move(outputs);
  return options;
}

// Has `count` requests wait behind a run, so that they could be merged, and go through.
void several(Engine& engine, int count, std::vector<std::uint32_t> wanted = {0}) {
  Gate gate;
  const auto before = std::exchange(engine.model->on_run, [&](float first) {
    if (first == 1'000) gate.pass();
  });
  const RequestPtr busy = engine.submit(1'000);
  REQUIRE(gate.await(1));
  std::vector<RequestPtr> requests;
  for (int place = 0; place < count; ++place) requests.push_back(request_for(engine.ledger, float(place)));
  for (const RequestPtr& request : requests) request->wanted = wanted;
  engine.submit_all(requests);
  gate.open();
  engine.await(busy);
  for (int place = 0; place < count; ++place) {
    engine.await(requests[std::size_t(place)]);
    const Request& request = *requests[std::size_t(place)];
    CHECK_EQ(request.outcome, Outcome::result);
    CHECK_EQ(request.outputs.size(), wanted.size());
    if (wanted[0] == 0) CHECK(holds_result(request.outputs.at(0), float(place), 1));
  }
  // Nothing uses the gate any more.
  CHECK(eventually([&] { return engine.snapshot().running_batches == 0; }));
  engine.model->on_run = before;
}

}  // namespace

TEST("one caller after the other is never probed") {
  Engine engine(probing());
  for (int call = 0; call < 20; ++call) engine.call(float(call));
  CHECK_EQ(engine.model->runs, 20);
  CHECK(!engine.dispatcher->merging_changed());
  CHECK_EQ(engine.dispatcher->take_merging_change().first, Merging::probe);
}

TEST("the first requests that could be merged are probed some times, and from then on they are") {
  EngineOptions options = probing();
  options.scheduler.policy = Policy::eager;
  Engine engine(options);
  engine.warm_up();
  several(engine, 2);
  CHECK_EQ(engine.counters().verified_requests, 2);
  CHECK(engine.dispatcher->merging_changed());
  const auto [merging, why] = engine.dispatcher->take_merging_change();
  CHECK_EQ(merging, Merging::yes);
  CHECK_EQ(why, "");
  CHECK(!engine.dispatcher->merging_changed());  // told once
  engine.model->forget_batches();
  engine.model->run_ns = kMillisecond / 2;
  for (int round = 0; round < 200 && engine.model->most_rows() <= 4; ++round) several(engine, 8);
  CHECK(engine.model->most_rows() > 4);
  CHECK_EQ(engine.counters().verification_failures, 0);
  CHECK(!engine.dispatcher->merging_changed());
  CHECK_EQ(engine.dispatcher->take_merging_change().first, Merging::yes);
}

TEST("a probe's runs are not counted as executions") {
  Engine engine(probing());
  engine.warm_up();
  several(engine, 2);
  const Counters& counters = engine.counters();
  CHECK_EQ(counters.executed_rows, Engine::kWarmUpRuns + 3);
  CHECK_EQ(counters.internal_runs, 2);
  CHECK_EQ(engine.model->runs, counters.executions + 2);
}

TEST("what is probed is small, so that nobody waits long for its result") {
  Engine engine(probing());
  engine.model->run_ns = kMillisecond / 2;
  engine.warm_up();
  several(engine, 12);
  for (const std::vector<float>& rows : engine.model->batches()) CHECK(rows.size() <= 4);
}

TEST("rows that depend on their neighbours only in a later batch are found out before anybody is given such a result") {
  std::atomic<bool> mixes{false};
  Engine engine(probing());
  engine.warm_up();
  several(engine, 2);
  CHECK_EQ(engine.dispatcher->take_merging_change().first, Merging::yes);
  engine.model->on_rows = [&](const std::vector<float>& rows) {
    if (rows.size() > 1 && mixes) throw std::runtime_error("one row please");
  };
  mixes = true;
  several(engine, 3);  // which checks the results
  CHECK_EQ(engine.dispatcher->take_merging_change().first, Merging::no);
  CHECK_EQ(engine.counters().errors, 0);
}

TEST("a model whose rows are not what they are alone is found out by the probe, and runs unmerged") {
  Engine engine(probing({"plus_one", "row_numbers"}));
  engine.warm_up();
  several(engine, 2);
  CHECK(engine.dispatcher->merging_changed());
  const auto [merging, why] = engine.dispatcher->take_merging_change();
  CHECK_EQ(merging, Merging::no);
  CHECK(why.find("output row_numbers of a row differs") == 0);
  engine.model->forget_batches();
  for (int round = 0; round < 5; ++round) several(engine, 8);
  CHECK_EQ(engine.model->most_rows(), 1u);
}

TEST("a model whose outputs do not have the batch's rows is found out by the probe") {
  Engine engine(probing({"plus_one", "row_numbers", "one"}));
  engine.model->on_rows = [](const std::vector<float>&) {};
  engine.warm_up();
  several(engine, 2);
  CHECK_EQ(engine.dispatcher->take_merging_change().first, Merging::no);
}

TEST("a model that was said to merge, and whose outputs turn out not to, runs unmerged from then on, and says why") {
  EngineOptions options;
  options.outputs = {"plus_one", "row_numbers", "one"};
  Engine engine(options);
  engine.learn(4);
  several(engine, 4, {0, 2});
  CHECK(engine.dispatcher->merging_changed());
  const auto [merging, why] = engine.dispatcher->take_merging_change();
  CHECK_EQ(merging, Merging::no);
  CHECK_EQ(why, "output one has the shape [1] for 4 rows");
  engine.model->forget_batches();
  several(engine, 4, {0, 2});
  CHECK_EQ(engine.model->most_rows(), 1u);
  CHECK(!engine.dispatcher->merging_changed());
}

TEST("a probe that finds nothing out, for a row fails alone, is repeated") {
  std::atomic<bool> fails{true};
  Engine engine(probing());
  engine.warm_up();
  engine.model->on_rows = [&](const std::vector<float>& rows) {
    if (fails && std::count(rows.begin(), rows.end(), 1.0f) > 0) throw std::runtime_error("no");
  };
  Gate gate;
  engine.model->on_run = [&](float first) {
    if (first == 1'000) gate.pass();
  };
  const RequestPtr busy = engine.submit(1'000);
  REQUIRE(gate.await(1));
  const RequestPtr good = engine.submit(0);
  const RequestPtr bad = engine.submit(1);
  gate.open();
  for (const RequestPtr& request : {busy, good, bad}) engine.await(request);
  CHECK(has_result(*good, 0));
  CHECK_EQ(bad->outcome, Outcome::error);
  CHECK(!engine.dispatcher->merging_changed());
  fails = false;
  several(engine, 2);
  CHECK_EQ(engine.dispatcher->take_merging_change().first, Merging::yes);
}

TEST("what somebody else has found out about merging is not undone by a probe that finds nothing") {
  for (const bool merges : {true, false}) {
    Gate gate;
    Engine engine(probing());
    engine.model->on_run = [&](float first) {
      gate.pass();
      if (first == 1) throw std::runtime_error("no");
    };
    const RequestPtr large = engine.submit_rows(1, 20);
    REQUIRE(gate.await(1));
    engine.dispatcher->set_batchable(merges, merges ? "" : "said so");
    CHECK(engine.dispatcher->merging_changed());
    gate.open();
    engine.await(large);
    CHECK(eventually([&] { return engine.snapshot().running_batches == 0; }));
    const auto [merging, why] = engine.dispatcher->take_merging_change();
    CHECK_EQ(merging, merges ? Merging::yes : Merging::no);
    CHECK_EQ(why, merges ? "" : "said so");
  }
}

TEST("who gives up during a probe ends at once, and its inputs are given back when they were last read") {
  for (const bool large : {false, true}) {
    Gate gate;
    Gate probe_gate;
    Engine engine(probing());
    engine.warm_up();
    engine.model->on_run = [&](float first) { (first == 1'000 ? gate : probe_gate).pass(); };
    const RequestPtr busy = engine.submit(1'000);
    REQUIRE(gate.await(1));
    // The first large one is all there is to probe.
    std::vector<RequestPtr> requests = {engine.submit_rows(1, large ? 20 : 1)};
    if (!large) requests.push_back(engine.submit(5));
    gate.open();
    REQUIRE(probe_gate.await(1));
    engine.drain();
    CHECK_EQ(engine.ledger.held(), requests.size());
    for (const RequestPtr& request : requests) {
      CHECK(engine.end_early(request, Outcome::cancelled));
      CHECK(request->done());
    }
    engine.drain();
    CHECK_EQ(engine.ledger.held(), requests.size());  // the probe reads them
    probe_gate.open();
    CHECK(has_result(*engine.call(7), 7));
    CHECK(eventually([&] {
      engine.drain();
      return engine.ledger.held() == 0;
    }));
    CHECK_EQ(engine.counters().cancelled, std::int64_t(requests.size()));
    CHECK_EQ(engine.snapshot().queued_rows, 0);
  }
}

TEST("a request of more rows than a batch is probed with its own rows, then runs in parts and is joined") {
  for (const int instances : {1, 3}) {
    EngineOptions options = probing();
    options.instances = instances;
    Engine engine(options);
    engine.warm_up();
    const RequestPtr large = engine.submit_rows(1, 50);
    engine.await(large);
    CHECK(has_result(*large, 1));
    CHECK(engine.model->most_rows() <= 8);
    CHECK_EQ(engine.dispatcher->take_merging_change().first, Merging::yes);
    CHECK_EQ(engine.counters().executed_rows, Engine::kWarmUpRuns + 50);
    CHECK_EQ(engine.counters().results, Engine::kWarmUpRuns + 1);
  }
}

TEST("a request of more rows than a batch runs whole where the probe finds that rows differ") {
  Engine engine(probing({"plus_one", "row_numbers"}));
  const RequestPtr large = engine.submit_rows(1, 50);
  engine.await(large);
  CHECK(has_result(*large, 1));
  CHECK_EQ(engine.model->most_rows(), 50u);
  CHECK_EQ(engine.dispatcher->take_merging_change().first, Merging::no);
}

TEST("large requests that come while one is probed wait for what it finds") {
  for (const bool mergeable : {true, false}) {
    Gate gate;
    EngineOptions options =
        probing(mergeable ? std::vector<std::string>{"plus_one"} : std::vector<std::string>{"plus_one", "row_numbers"});
    options.instances = 2;
    Engine engine(options);
    engine.model->on_run = [&](float) { gate.pass(); };
    const RequestPtr first = engine.submit_rows(1, 20);
    REQUIRE(gate.await(1));
    const RequestPtr second = engine.submit_rows(100, 20);
    gate.open();
    for (const RequestPtr& request : {first, second}) CHECK_EQ(request->wait(from_now(kPatience)), Woken::changed);
    CHECK(has_result(*first, 1));
    CHECK(has_result(*second, 100));
    if (mergeable) CHECK(engine.model->most_rows() <= 8);
    if (!mergeable) CHECK_EQ(engine.model->most_rows(), 20u);
  }
}

TEST("an engine that closes while it probes ends all its requests") {
  for (const bool drain : {true, false}) {
    Gate gate;
    EngineOptions options = probing();
    Engine engine(options);
    engine.model->on_run = [&](float) { gate.pass(); };
    const RequestPtr first = engine.submit_rows(1, 20);
    REQUIRE(gate.await(1));
    const RequestPtr second = engine.submit_rows(100, 20);
    std::thread closer([&] { CHECK_EQ(engine.close(drain, from_now(kPatience)).abandoned_instances, 0u); });
    if (!drain) CHECK_EQ(second->wait(from_now(kPatience)), Woken::changed);
    gate.open();
    closer.join();
    CHECK(has_result(*first, 1));
    CHECK(second->done());
    CHECK_EQ(second->outcome, drain ? Outcome::result : Outcome::closed);
  }
}

TEST("a probe that hangs is closed with all who wait for it") {
  Gate gate;
  Engine engine(probing());
  engine.model->on_run = [&](float) { gate.pass(); };
  const RequestPtr first = engine.submit_rows(1, 20);
  REQUIRE(gate.await(1));
  const RequestPtr second = engine.submit_rows(100, 20);
  const CloseReport report = engine.close(true, from_now(20 * kMillisecond));
  CHECK_EQ(report.ended_requests, 2u);
  CHECK_EQ(report.abandoned_instances, 1u);
  CHECK_EQ(first->outcome, Outcome::closed);
  CHECK_EQ(second->outcome, Outcome::closed);
  gate.open();
  CHECK(engine.threads_gone());
}
