// Requests of callers who know nothing of each other, run together.
#include "engine.h"

using namespace fakes;

namespace {

std::vector<RequestPtr> requests_for(Engine& engine, int count, float first = 0) {
  std::vector<RequestPtr> requests;
  for (int place = 0; place < count; ++place) requests.push_back(request_for(engine.ledger, first + float(place)));
  return requests;
}

}  // namespace

TEST("requests that wait behind a busy instance run together, ever more of them, and each gets its own rows") {
  bool grown = false;
  for (int attempt = 0; attempt < 20 && !grown; ++attempt) {  // a run that was kept from its core looks dear
    Engine engine({.run_ns = kMillisecond / 2});
    const std::vector<RequestPtr> requests = requests_for(engine, 300);
    engine.submit_all(requests);
    for (std::size_t place = 0; place < 300; ++place) {
      engine.await(requests[place]);
      CHECK(has_result(*requests[place], float(place)));
    }
    const Counters& counters = engine.counters();
    grown = engine.model->most_rows() == 32 && counters.executions < 100;
    CHECK_EQ(counters.executions, engine.model->runs);
    CHECK_EQ(counters.executed_rows, 300);
    CHECK_EQ(counters.results, 300);
    std::int64_t rows = 0;
    for (const auto& [batch_rows, count] : engine.snapshot().batch_rows) rows += batch_rows * count;
    CHECK_EQ(rows, 300);
  }
  CHECK(grown);
}

TEST("a batch holds no more than max_batch_size rows") {
  EngineOptions options;
  options.scheduler.max_batch_size = 5;
  Engine engine(options);
  engine.learn(4);
  Gate gate;
  engine.model->on_run = [&](float) { gate.pass(); };
  const RequestPtr busy = engine.submit(100);
  REQUIRE(gate.await(1));
  const std::vector<RequestPtr> requests = requests_for(engine, 40);
  engine.submit_all(requests);
  gate.open();
  for (const RequestPtr& request : requests) engine.await(request);
  CHECK(engine.model->most_rows() <= 5);
  CHECK(engine.model->most_rows() > 1);
}

TEST("requests of different shapes do not share a run") {
  Engine engine({.run_ns = kMillisecond / 2});
  std::vector<RequestPtr> requests;
  for (int place = 0; place < 100; ++place) {
    requests.push_back(request_for(engine.ledger, float(place), 1, kNever, /*width=*/1 + place % 3));
  }
  engine.submit_all(requests);
  for (std::size_t place = 0; place < 100; ++place) {
    engine.await(requests[place]);
    CHECK(has_result(*requests[place], float(place)));
  }
  for (const std::vector<float>& batch : engine.model->batches()) {
    for (const float row : batch) CHECK_EQ(int(row) % 3, int(batch[0]) % 3);
  }
  CHECK(engine.model->most_rows() > 1);
}

TEST("where nothing may be merged, each request runs by itself") {
  Engine engine({.scheduler = merging(Merging::no), .run_ns = kMillisecond / 10});
  const std::vector<RequestPtr> requests = requests_for(engine, 50);
  engine.submit_all(requests);
  for (const RequestPtr& request : requests) engine.await(request);
  CHECK_EQ(engine.model->most_rows(), 1u);
  CHECK_EQ(engine.counters().executions, 50);
  CHECK(!engine.dispatcher->merging_changed());
}

TEST("a request that fails harms nobody who shares its batch") {
  Engine engine({.on_rows = [](const std::vector<float>& rows) {
    for (const float row : rows) {
      if (int(row) % 10 == 7) throw std::runtime_error("row " + std::to_string(int(row)));
    }
  }});
  engine.learn(16);
  Gate gate;
  engine.model->on_run = [&](float) { gate.pass(); };
  const RequestPtr busy = engine.submit(100);
  REQUIRE(gate.await(1));
  const std::vector<RequestPtr> requests = requests_for(engine, 40);
  engine.submit_all(requests);
  gate.open();
  for (int place = 0; place < 40; ++place) {
    const Request& request = *requests[std::size_t(place)];
    engine.await(requests[std::size_t(place)]);
    if (place % 10 == 7) {
      CHECK_EQ(request.outcome, Outcome::error);
      CHECK_EQ(request.failure.message, "row " + std::to_string(place));
    } else {
      CHECK(has_result(request, float(place)));
    }
  }
  CHECK(engine.model->most_rows() > 1);
  CHECK_EQ(engine.counters().errors, 4);
}

TEST("many requests queued at once are each accepted or refused, and told so in order") {
  Gate gate;
  EngineOptions options;
  options.scheduler.max_queue_rows = 5;
  options.on_run = [&](float) { gate.pass(); };
  Engine engine(options);
  Reader reader(engine.dispatcher);
  const RequestPtr busy = engine.submit(100);
  REQUIRE(gate.await(1));
  std::vector<RequestPtr> requests;
  for (const std::int64_t rows : {2, 9, 2, 2, 1, 1}) requests.push_back(request_for(engine.ledger, 0, rows));
  for (const RequestPtr& request : requests) request->completion_queue = engine.dispatcher->completions();
  requests.back()->waits_for_room = true;
  std::vector<Admission> admissions;
  CHECK(engine.dispatcher->admit(requests, admissions));
  CHECK(
      (admissions == std::vector<Admission>{Admission::accepted, Admission::too_many_rows, Admission::accepted,
                                            Admission::too_many_rows, Admission::accepted, Admission::waits_for_room}));
  for (const std::size_t refused : {1, 3}) {
    CHECK(!requests[refused]->ended());
    CHECK(engine.ledger.take_back(*requests[refused]));
    requests[refused]->completion_queue.reset();
  }
  const Counters& counters = engine.counters();
  CHECK_EQ(counters.requests, 5);
  CHECK_EQ(counters.rows, 1 + 2 + 2 + 1 + 1);
  CHECK_EQ(counters.refused, 2);
  CHECK_EQ(engine.snapshot().waiting_for_room, 1);
  gate.open();
  engine.close(true, kNever);
  reader.join();  // it has not waited for the ends of those that were refused
  CHECK_EQ(reader.requests(), 4u);
}

TEST("a closed engine takes none of many, and their completion_queue waits for none of them") {
  Engine engine({});
  engine.close(true, kNever);
  const auto completion_queue = std::make_shared<CompletionQueue>(CompletionQueue::Reader::loop);
  const std::vector<RequestPtr> requests = requests_for(engine, 3);
  for (const RequestPtr& request : requests) request->completion_queue = completion_queue;
  std::vector<Admission> admissions;
  CHECK(!engine.dispatcher->admit(requests, admissions));
  for (const RequestPtr& request : requests) {
    CHECK(engine.ledger.take_back(*request));
    request->completion_queue.reset();
  }
  completion_queue->stop();
  CHECK(completion_queue->take().stopped);
  CHECK_EQ(engine.counters().requests, 0);
}

TEST("requests queued at once wake as many instances as have something to do") {
  Gate gate;
  Engine engine({.instances = 4, .on_run = [&](float) { gate.pass(); }});
  const std::vector<RequestPtr> requests = requests_for(engine, 3);
  engine.submit_all(requests);
  CHECK(gate.await(3));
  CHECK_EQ(engine.snapshot().running_batches, 3);
  const RequestPtr last = engine.submit(9);
  CHECK(gate.await(4));
  gate.open();
  for (const RequestPtr& request : requests) engine.await(request);
  engine.await(last);
}

TEST("callers in threads share runs, and each gets its own rows") {
  constexpr int kCallers = 12;
  EngineOptions options;
  options.instances = 2;
  options.scheduler.policy = Policy::eager;
  Gate gate;  // until all of them have come, so that some share a run on any machine
  options.on_run = [&](float) { gate.pass(); };
  options.run_ns = kMillisecond / 4;
  Engine engine(options);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&, caller] {
      for (int turn = 0; turn < 60; ++turn) {
        const float first = float(1'000 * caller + turn);
        const RequestPtr request = engine.submit_rows(first, 1 + turn % 3);
        engine.await(request);
        CHECK(has_result(*request, first));
        if (turn % 16 == 0) engine.drain();
      }
    });
  }
  CHECK(eventually([&] { return engine.counters().requests == kCallers; }));
  gate.open();
  for (std::thread& caller : callers) caller.join();
  CHECK_EQ(engine.counters().results, kCallers * 60);
  CHECK(engine.counters().executions < kCallers * 60);
  CHECK(engine.model->most_rows() > 3);
}

TEST("who gave up on a batch that runs gets nothing, the others get theirs") {
  Engine engine({});
  engine.learn(8);
  Gate gate;
  Gate second;
  engine.model->on_run = [&](float first) { (first == 100 ? gate : second).pass(); };
  const RequestPtr busy = engine.submit(100);
  REQUIRE(gate.await(1));
  const std::vector<RequestPtr> requests = requests_for(engine, 8);
  engine.submit_all(requests);
  gate.open();
  REQUIRE(second.await(1));
  REQUIRE(requests[7]->started());
  CHECK(engine.end_early(requests[2], Outcome::cancelled));
  CHECK(engine.end_early(requests[5], Outcome::expired));
  second.open();
  for (std::size_t place = 0; place < 8; ++place) {
    engine.await(requests[place]);
    if (place == 2 || place == 5) {
      CHECK(requests[place]->outputs.empty());
    } else {
      CHECK(has_result(*requests[place], float(place)));
    }
  }
  CHECK_EQ(engine.counters().results, engine.counters().requests - 2);
}

TEST("a batch that hangs is closed as a whole, and each of its requests once") {
  Engine engine({});
  engine.learn(8);
  Gate gate;
  engine.model->on_run = [&](float) { gate.pass(); };
  const RequestPtr busy = engine.submit(100);
  REQUIRE(gate.await(1));
  const std::vector<RequestPtr> requests = requests_for(engine, 20);
  engine.submit_all(requests);
  const CloseReport report = engine.close(true, from_now(20 * kMillisecond));
  CHECK_EQ(report.ended_requests, 21u);
  CHECK_EQ(report.abandoned_instances, 1u);
  for (const RequestPtr& request : requests) CHECK_EQ(request->outcome, Outcome::closed);
  gate.open();
  CHECK(engine.threads_gone());
}

TEST("a run that should have been short and hangs keeps nobody waiting who came while it ran") {
  Gate gate;
  EngineOptions options;
  options.instances = 2;
  options.scheduler.short_run_instances = 1;
  Engine engine(options);
  engine.warm_up();
  engine.model->on_run = [&](float first) {
    if (first == 1.0f) gate.pass();
  };
  const RequestPtr hung = engine.submit(1.0f);
  REQUIRE(gate.await(1));
  for (int turn = 0; turn < 20; ++turn) CHECK(has_result(*engine.call(2.0f), 2.0f));
  gate.open();
  engine.await(hung);
}
