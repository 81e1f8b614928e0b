// A request of more rows than a batch: one request all the same, with one end.
#include "allocations.h"
#include "engine.h"

using namespace fakes;

namespace {

EngineOptions batches_of(std::int64_t rows, int instances = 1) {
  EngineOptions options;
  options.scheduler.max_batch_size = rows;
  options.instances = instances;
  return options;
}

bool holds(const std::vector<float>& rows, float row) { return std::count(rows.begin(), rows.end(), row) > 0; }

}  // namespace

TEST("a request of more rows than a batch runs in parts, and is joined") {
  for (const int instances : {1, 3}) {
    Engine engine(batches_of(4, instances));
    const RequestPtr large = engine.submit_rows(10, 50);
    engine.await(large);
    CHECK(has_result(*large, 10));
    CHECK(engine.model->most_rows() <= 4);
    const Counters& counters = engine.counters();
    CHECK_EQ(counters.requests, 1);
    CHECK_EQ(counters.rows, 50);
    CHECK_EQ(counters.executed_rows, 50);
    CHECK_EQ(counters.results, 1);
  }
}

TEST("a request of exactly a batch's rows runs whole") {
  Engine engine(batches_of(4));
  const RequestPtr request = engine.submit_rows(10, 4);
  engine.await(request);
  CHECK(has_result(*request, 10));
  CHECK_EQ(engine.model->runs, 1);
}

TEST("several outputs are joined each, in the order wanted") {
  Engine engine(batches_of(4));
  const RequestPtr large = request_for(engine.ledger, 10, 30);
  large->wanted = {1, 0};
  engine.submit(large);
  engine.await(large);
  REQUIRE(large->outcome == Outcome::result && large->outputs.size() == 2);
  CHECK(holds_result(large->outputs[1], 10, 30));
  CHECK(large->outputs[0].dtype == DType::int64);
  CHECK_EQ(large->outputs[0].shape.dims[0], 30);
}

TEST("all idle instances work on one large request") {
  Gate gate;
  EngineOptions options = batches_of(4, /*instances=*/3);
  options.on_run = [&](float) { gate.pass(); };
  Engine engine(options);
  const RequestPtr large = engine.submit_rows(0, 40);
  CHECK(gate.await(3));
  CHECK_EQ(engine.snapshot().running_batches, 3);
  gate.open();
  engine.await(large);
  CHECK(has_result(*large, 0));
}

TEST("a part that fails ends the request with its failure, and the parts to come do not run") {
  EngineOptions options = batches_of(4);
  options.on_rows = [](const std::vector<float>& rows) {
    if (holds(rows, 6)) throw std::runtime_error("row 6");
  };
  Engine engine(options);
  const RequestPtr large = engine.submit_rows(0, 400);
  engine.await(large);
  CHECK_EQ(large->outcome, Outcome::error);
  CHECK_EQ(large->failure.message, "row 6");
  CHECK(large->outputs.empty());
  CHECK_EQ(engine.snapshot().queued_rows, 0);
  CHECK_EQ(engine.snapshot().queued_bytes, 0u);
  CHECK_EQ(engine.counters().errors, 1);
  CHECK(engine.model->runs < 10);
  CHECK(has_result(*engine.call(7), 7));
  engine.drain();
  CHECK_EQ(engine.ledger.held(), 0u);
}

TEST("when a part's failure is told, nothing of its request waits any more") {
  EngineOptions options = batches_of(4);
  options.on_rows = [&](const std::vector<float>& rows) {
    if (holds(rows, 6)) throw std::runtime_error("row 6");
  };
  Engine engine(options);
  const RequestPtr large = engine.submit_rows(0, 4'000);
  large->wait(kNever);
  CHECK_EQ(engine.snapshot().queued_rows, 0);
  CHECK_EQ(large->outcome, Outcome::error);
}

TEST("a part that fails while others run ends the request once, and gives its inputs back after the last of them") {
  Gate gate;
  EngineOptions options = batches_of(4, /*instances=*/3);
  options.on_rows = [&](const std::vector<float>& rows) {
    if (rows[0] == 0) {
      CHECK(gate.await(2));  // the other two stand there
      throw std::runtime_error("first part");
    }
    gate.pass();
  };
  Engine engine(options);
  Reader reader(engine.dispatcher);
  const RequestPtr large = request_for(engine.ledger, 0, 40);
  large->completion_queue = engine.dispatcher->completions();
  engine.submit(large);
  CHECK_EQ(large->wait(from_now(kPatience)), Woken::changed);
  CHECK_EQ(large->outcome, Outcome::error);
  CHECK_EQ(large->failure.message, "first part");
  CHECK(eventually([&] { return reader.requests() == 1; }));
  gate.open();
  CHECK_EQ(engine.close(true, kNever).ended_requests, 0u);
  reader.join();
  CHECK_EQ(reader.delivered(large), 1);
  CHECK_EQ(large->outcome, Outcome::error);
  CHECK_EQ(engine.model->runs, 3);
}

TEST("neighbours of a part that fails get their results") {
  EngineOptions options = batches_of(8);
  options.on_rows = [](const std::vector<float>& rows) {
    if (holds(rows, 1'005)) throw std::runtime_error("no");
  };
  Engine engine(options);
  engine.learn(8);
  Gate gate;
  engine.model->on_run = [&](float first) {
    if (first == 500) gate.pass();
  };
  const RequestPtr busy = engine.submit(500);
  REQUIRE(gate.await(1));
  std::vector<RequestPtr> requests = {engine.submit(1), engine.submit(2), engine.submit_rows(1'000, 20),
                                      engine.submit(3)};
  gate.open();
  for (const RequestPtr& request : requests) engine.await(request);
  CHECK(has_result(*requests[0], 1));
  CHECK(has_result(*requests[1], 2));
  CHECK_EQ(requests[2]->outcome, Outcome::error);
  CHECK(has_result(*requests[3], 3));
}

TEST("a large request that is cancelled or expires ends at once, and nothing more of it runs") {
  for (const Outcome outcome : {Outcome::cancelled, Outcome::expired}) {
    Gate gate;
    EngineOptions options = batches_of(4);
    options.on_run = [&](float) { gate.pass(); };
    Engine engine(options);
    const RequestPtr large = engine.submit_rows(0, 40);
    REQUIRE(gate.await(1));
    CHECK(engine.snapshot().queued_rows > 0);
    CHECK(!engine.end_early(large, Outcome::cancelled, /*only_queued=*/true));  // some of it runs
    CHECK(engine.end_early(large, outcome));
    CHECK(large->done());
    CHECK_EQ(large->outcome, outcome);
    CHECK_EQ(engine.snapshot().queued_rows, 0);
    CHECK_EQ(engine.snapshot().queued_requests, 0);
    engine.drain();
    CHECK_EQ(engine.ledger.held(), 0u);  // the one part has read its rows
    gate.open();
    CHECK(has_result(*engine.call(7), 7));
    CHECK_EQ(engine.model->runs, 2);
  }
}

TEST("the inputs of a large request are held while a part may read them") {
  Gate gate;
  EngineOptions options = batches_of(4);
  options.on_run = [&](float) { gate.pass(); };
  Engine engine(options);
  engine.submit(1);
  REQUIRE(gate.await(1));
  engine.drain();
  const RequestPtr large = engine.submit_rows(0, 20);
  CHECK_EQ(engine.ledger.held(), 1u);
  gate.open();
  engine.await(large);
  CHECK(has_result(*large, 0));  // read by each part, from memory that is gone once it is given back
}

TEST("a large request whose deadline passes between two parts expires once") {
  EngineOptions options = batches_of(2);
  options.on_run = [](float) { sleep_ns(5 * kMillisecond); };
  Engine engine(options);
  Reader reader(engine.dispatcher);
  const RequestPtr large = request_for(engine.ledger, 0, 4'000, from_now(12 * kMillisecond));
  large->completion_queue = engine.dispatcher->completions();
  engine.submit(large);
  CHECK(eventually([&] { return reader.requests() == 1; }));
  CHECK_EQ(large->outcome, Outcome::expired);
  CHECK_EQ(engine.counters().expired, 1);
  CHECK(eventually([&] { return engine.snapshot().running_batches == 0; }));
  CHECK(engine.model->runs < 2'000);  // all of its parts
  engine.close(true, kNever);
  reader.join();
  CHECK_EQ(reader.delivered(large), 1);
}

TEST("other callers are served between the parts of a large request") {
  EngineOptions options = batches_of(4);
  Engine engine(options);
  engine.learn(4);
  // A part runs until another request waits, or all of them have been served. A call's row is no row of the large
  // request, and counts once, however often it runs.
  std::atomic<int> asked{0}, served{0};
  constexpr int kCalls = 20;
  constexpr int kFirstCall = 10'000;
  engine.model->on_rows = [&](const std::vector<float>& rows) {
    const int latest = int(*std::max_element(rows.begin(), rows.end())) - kFirstCall;
    if (latest >= 0) {
      served = std::max(served.load(), latest + 1);
    } else {
      CHECK(eventually([&] { return asked > served || served == kCalls; }));
    }
  };
  // It is of the least urgent class, so that it is behind no call, however long this thread waits for a processor.
  const RequestPtr large = request_for(engine.ledger, 0, 4'000);
  large->priority = 2;
  engine.submit(large);
  for (int call = 0; call < kCalls; ++call) {
    CHECK(!large->done());
    const RequestPtr other = request_for(engine.ledger, float(kFirstCall + call));
    other->priority = 0;
    engine.submit(other);
    ++asked;
    engine.await(other);
    CHECK(has_result(*other, float(kFirstCall + call)));
  }
  engine.await(large);
  CHECK(has_result(*large, 0));
}

TEST("closing at once ends what waits of a large request, and it with it") {
  Gate gate;
  EngineOptions options = batches_of(4);
  options.on_run = [&](float) { gate.pass(); };
  Engine engine(options);
  const RequestPtr large = engine.submit_rows(0, 40);
  REQUIRE(gate.await(1));
  std::thread opener([&] {
    CHECK(eventually([&] { return large->done(); }));
    gate.open();
  });
  const CloseReport report = engine.close(false, kNever);
  opener.join();
  CHECK_EQ(report.ended_requests, 1u);
  CHECK_EQ(large->outcome, Outcome::closed);
  CHECK_EQ(engine.model->runs, 1);
}

TEST("closing with drain lets all parts of a large request run") {
  EngineOptions options = batches_of(4, /*instances=*/2);
  options.run_ns = kMillisecond / 5;
  Engine engine(options);
  const RequestPtr large = engine.submit_rows(0, 60);
  CHECK_EQ(engine.close(true, kNever).ended_requests, 0u);
  CHECK(has_result(*large, 0));
}

TEST("a large request whose parts hang is closed once") {
  Gate gate;
  EngineOptions options = batches_of(4, /*instances=*/2);
  options.on_run = [&](float) { gate.pass(); };
  Engine engine(options);
  const RequestPtr large = engine.submit_rows(0, 40);
  REQUIRE(gate.await(2));
  const CloseReport report = engine.close(true, from_now(20 * kMillisecond));
  CHECK_EQ(report.ended_requests, 1u);
  CHECK_EQ(report.abandoned_instances, 2u);
  CHECK_EQ(large->outcome, Outcome::closed);
  gate.open();
  CHECK(engine.threads_gone());
  CHECK_EQ(engine.model->alive(), 0);
}

TEST("a large request of a model whose outputs do not follow the rows runs whole after all") {
  for (const int instances : {1, 3}) {
    EngineOptions options = batches_of(4, instances);
    options.outputs = {"plus_one", "row_numbers", "one"};
    Engine engine(options);
    engine.learn(2);
    for (int call = 0; call < 2; ++call) {
      engine.model->forget_batches();
      const RequestPtr large = request_for(engine.ledger, 0, 40);
      large->wanted = {2, 0};
      engine.submit(large);
      engine.await(large);
      REQUIRE(large->outcome == Outcome::result);
      CHECK_EQ(large->outputs.at(0).shape.dims[0], 1);
      CHECK(holds_result(large->outputs.at(1), 0, 40));
      CHECK_EQ(large->explanation.batch_rows, 40);
      if (call == 1) CHECK_EQ(engine.model->batches().size(), 1u);  // from now on it is not tried in parts
    }
    const auto [merging, why] = engine.dispatcher->take_merging_change();
    CHECK_EQ(merging, Merging::no);
    CHECK(why.find("output one has the shape [1] for") == 0);
    CHECK_EQ(engine.counters().errors, 0);
    CHECK(eventually([&] { return engine.snapshot().running_batches == 0; }));
    CHECK_EQ(engine.snapshot().queued_rows, 0);
    CHECK_EQ(engine.snapshot().queued_bytes, 0u);
    engine.drain();
    CHECK_EQ(engine.ledger.held(), 0u);
  }
}

TEST("a large request that runs in parts while rows turn out to depend on each other runs again whole") {
  for (const int instances : {1, 2}) {
    Gate gate;
    EngineOptions options = batches_of(4, instances);
    options.on_run = [&](float) { gate.pass(); };
    Engine engine(options);
    const RequestPtr large = engine.submit_rows(0, 40);
    REQUIRE(gate.await(instances));
    engine.dispatcher->set_batchable(false, "said so");
    gate.open();
    engine.await(large);
    CHECK(has_result(*large, 0));
    CHECK_EQ(large->explanation.batch_rows, 40);
    CHECK_EQ(engine.model->most_rows(), 40u);
    CHECK_EQ(engine.counters().results, 1);
    CHECK(eventually([&] { return engine.snapshot().running_batches == 0; }));
    CHECK_EQ(engine.snapshot().queued_rows, 0);
    CHECK(has_result(*engine.call(7), 7));
  }
}

TEST("a large request that has to run whole may be given up, expire or be closed meanwhile") {
  enum class End { cancel, expire, close, drain };
  for (const End end : {End::cancel, End::expire, End::close, End::drain}) {
    Gate gate;
    EngineOptions options = batches_of(4, /*instances=*/2);
    options.on_run = [&](float) { gate.pass(); };
    Engine engine(options);
    const RequestPtr large = engine.submit_rows(0, 40);
    REQUIRE(gate.await(2));
    engine.dispatcher->set_batchable(false, "said so");
    if (end == End::cancel) CHECK(engine.end_early(large, Outcome::cancelled));
    if (end == End::expire) CHECK(engine.end_early(large, Outcome::expired));
    std::thread closer;
    if (end == End::close || end == End::drain) {
      closer = std::thread([&] { engine.close(end == End::drain, from_now(kPatience)); });
    }
    if (end == End::close) CHECK_EQ(large->wait(from_now(kPatience)), Woken::changed);
    gate.open();
    engine.await(large);
    if (closer.joinable()) closer.join();
    if (end == End::drain) CHECK(has_result(*large, 0));
    if (end == End::close) CHECK_EQ(large->outcome, Outcome::closed);
    CHECK(eventually([&] { return engine.snapshot().running_batches == 0; }));
    CHECK_EQ(engine.snapshot().queued_rows, 0);
    engine.drain();
    CHECK_EQ(engine.ledger.held(), 0u);
  }
}

TEST("the inputs of a large request in parts are kept until its end, whichever it is") {
  Gate gate;
  EngineOptions options = batches_of(4);
  options.scheduler.policy = Policy::eager;
  options.on_run = [&](float first) {
    if (first == 36) gate.pass();
  };
  Engine engine(options);
  const RequestPtr large = engine.submit_rows(0, 40);
  REQUIRE(gate.await(1));  // its last part has read its rows
  engine.drain();
  CHECK_EQ(engine.ledger.held(), 1u);
  gate.open();
  engine.await(large);
  engine.drain();
  CHECK_EQ(engine.ledger.held(), 0u);
}
