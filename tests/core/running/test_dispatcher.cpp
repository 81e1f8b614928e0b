// What becomes of a request: result, error, refusal, expiry, cancellation.
#include "engine.h"

using namespace fakes;

TEST("a request gets the result of its own rows") {
  Engine engine({.instances = 2});
  for (int place = 0; place < 200; ++place) CHECK(has_result(*engine.call(float(place)), float(place)));
  CHECK_EQ(engine.counters().results, 200);
  CHECK_EQ(engine.counters().executions, 200);
}

TEST("an accepted request is counted, with its rows") {
  Engine engine({});
  const RequestPtr request = request_for(engine.ledger, 1, 5);
  engine.submit(request);
  engine.await(request);
  CHECK(has_result(*request, 1));
  CHECK_EQ(engine.counters().requests, 1);
  CHECK_EQ(engine.counters().rows, 5);
  CHECK(request->arrival > 0);
}

TEST("a failed run ends its request with the message, and harms no other") {
  Engine engine({.on_run = [](float first) {
    if (first == 13) throw std::runtime_error("unlucky");
  }});
  const RequestPtr bad = engine.call(13);
  CHECK_EQ(bad->outcome, Outcome::error);
  CHECK_EQ(bad->failure.message, "unlucky");
  CHECK(bad->outputs.empty());
  CHECK(has_result(*engine.call(14), 14));
  CHECK_EQ(engine.counters().errors, 1);
}

TEST("over the limit nothing is queued, and the inputs stay the caller's") {
  Gate gate;
  EngineOptions options;
  options.scheduler.max_queue_rows = 2;
  options.on_run = [&](float) { gate.pass(); };
  Engine engine(options);
  const RequestPtr running = engine.submit(1);
  REQUIRE(gate.await(1));
  const RequestPtr queued = engine.submit(2);
  const RequestPtr more = engine.submit(3);
  const RequestPtr refused = request_for(engine.ledger, 4);
  const RequestPtr too_large = request_for(engine.ledger, 5, 3);
  Admission admission = Admission::accepted;
  CHECK(engine.dispatcher->admit(refused, admission));
  CHECK_EQ(admission, Admission::too_many_rows);
  CHECK(engine.dispatcher->admit(too_large, admission));
  CHECK_EQ(admission, Admission::too_many_rows);
  CHECK_EQ(engine.counters().refused, 2);
  CHECK_EQ(engine.snapshot().queued_requests, 2);
  CHECK_EQ(engine.snapshot().running_batches, 1);
  CHECK(!refused->ended());
  CHECK(engine.ledger.take_back(*refused));
  CHECK(engine.ledger.take_back(*too_large));
  gate.open();
  for (const RequestPtr& request : {running, queued, more}) engine.await(request);
  CHECK(has_result(*more, 3));
}

TEST("a request whose deadline passes in the queue never runs") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  const RequestPtr running = engine.submit(1);
  REQUIRE(gate.await(1));
  const RequestPtr late = engine.submit(2, from_now(5 * kMillisecond));
  sleep_ns(10 * kMillisecond);
  CHECK(!late->ended());  // nobody waits for it: it ends when its turn comes
  gate.open();
  late->wait(kNever);
  CHECK_EQ(late->outcome, Outcome::expired);
  engine.await(running);
  CHECK_EQ(engine.model->runs, 1);
  CHECK_EQ(engine.counters().expired, 1);
}

TEST("no caller waits past its deadline, whatever the model does") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  const RequestPtr running = engine.late_while_it_runs(gate);
  engine.drain();  // it was gathered
  const RequestPtr queued = engine.submit(2, from_now(30 * kMillisecond));
  engine.await(queued);
  engine.await(running);
  CHECK(monotonic_now() < running->deadline + kPatience);
  CHECK_EQ(running->outcome, Outcome::expired);
  CHECK_EQ(queued->outcome, Outcome::expired);
  CHECK_EQ(engine.ledger.held(), 1u);
  engine.drain();  // it was never read
  CHECK_EQ(engine.ledger.held(), 0u);
  gate.open();
}

TEST("a queued request that is cancelled gives its rows and inputs back at once") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  const RequestPtr running = engine.submit(1);
  REQUIRE(gate.await(1));
  engine.drain();
  const RequestPtr cancelled = engine.submit(2);
  CHECK_EQ(engine.ledger.held(), 1u);
  CHECK(engine.end_early(cancelled, Outcome::cancelled));
  CHECK(cancelled->done());
  CHECK_EQ(cancelled->outcome, Outcome::cancelled);
  CHECK_EQ(engine.snapshot().queued_requests, 0);
  CHECK_EQ(engine.snapshot().queued_bytes, 0u);
  engine.drain();
  CHECK_EQ(engine.ledger.held(), 0u);
  CHECK(!engine.end_early(cancelled, Outcome::expired));
  CHECK_EQ(cancelled->outcome, Outcome::cancelled);
  gate.open();
  engine.await(running);
  CHECK_EQ(engine.model->runs, 1);
}

TEST("a running request that is cancelled ends at once, and its result is dropped") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  const RequestPtr request = engine.submit(1);
  REQUIRE(gate.await(1));
  CHECK(engine.end_early(request, Outcome::cancelled));
  CHECK_EQ(request->outcome, Outcome::cancelled);
  gate.open();
  engine.close(true, kNever);
  CHECK(request->outputs.empty());
  CHECK_EQ(engine.counters().results, 0);
  CHECK_EQ(engine.counters().cancelled, 1);
}

TEST("only what is queued can be ended where only that is asked") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  const RequestPtr running = engine.submit(1);
  REQUIRE(gate.await(1));
  const RequestPtr queued = engine.submit(2);
  CHECK(!engine.end_early(running, Outcome::cancelled, /*only_queued=*/true));
  CHECK(engine.end_early(queued, Outcome::cancelled, /*only_queued=*/true));
  CHECK_EQ(queued->outcome, Outcome::cancelled);
  gate.open();
  engine.await(running);
  CHECK(has_result(*running, 1));
}

TEST("what has its result cannot be ended early") {
  Engine engine({});
  const RequestPtr request = engine.call(1);
  CHECK(!engine.end_early(request, Outcome::cancelled));
  CHECK(has_result(*request, 1));
}

TEST("requests wait their turn in order when one instance serves them") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  std::vector<RequestPtr> requests;
  for (int place = 0; place < 20; ++place) requests.push_back(engine.submit(float(place)));
  gate.open();
  for (const RequestPtr& request : requests) engine.await(request);
  std::vector<float> order;
  for (const std::vector<float>& batch : engine.model->batches()) {
    order.insert(order.end(), batch.begin(), batch.end());
  }
  CHECK_EQ(order.size(), 20u);
  CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST("all instances work at once") {
  Gate gate;
  Engine engine({.instances = 4, .on_run = [&](float) { gate.pass(); }});
  std::vector<RequestPtr> requests;
  for (int place = 0; place < 5; ++place) requests.push_back(engine.submit(float(place)));
  CHECK(gate.await(4));
  CHECK_EQ(engine.snapshot().running_batches, 4);
  CHECK_EQ(engine.snapshot().queued_requests, 1);
  gate.open();
  for (const RequestPtr& request : requests) engine.await(request);
}

TEST("the reader gets every end of a request with a completion_queue, the others' never") {
  Engine engine({.instances = 2, .on_rows = [](const std::vector<float>& rows) {
                   if (std::count(rows.begin(), rows.end(), 3.0f) > 0) throw std::runtime_error("no");
                 }});
  Reader reader(engine.dispatcher);
  std::vector<RequestPtr> requests;
  for (int place = 0; place < 100; ++place) requests.push_back(engine.submit(float(place), kNever, place % 2 == 1));
  for (const RequestPtr& request : requests) engine.await(request);
  CHECK(engine.close(true, kNever).ended_requests == 0);
  reader.join();
  CHECK_EQ(reader.requests(), 50u);
  for (std::size_t place = 0; place < 100; ++place) {
    CHECK_EQ(reader.delivered(requests[place]), place % 2 == 1 ? 1 : 0);
  }
  CHECK_EQ(requests[3]->outcome, Outcome::error);
}

TEST("the reader ends a watched request at its deadline, though nobody waits for it") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  Reader reader(engine.dispatcher);
  const RequestPtr running = engine.late_while_it_runs(gate, /*to_reader=*/true);
  const RequestPtr queued = engine.submit(2, from_now(20 * kMillisecond), true);
  CHECK(eventually([&] { return reader.delivered(running) == 1 && reader.delivered(queued) == 1; }));
  CHECK_EQ(running->outcome, Outcome::expired);
  CHECK_EQ(queued->outcome, Outcome::expired);
  gate.open();
  engine.close(true, kNever);
  reader.join();
  CHECK_EQ(reader.delivered(running), 1);
  CHECK_EQ(reader.delivered(queued), 1);
}

TEST("what no run can meet is accepted, shed at once and told to whoever waits") {
  for (const bool to_reader : {false, true}) {
    Engine engine({.run_ns = kNanosPerSecond});
    Reader reader(engine.dispatcher);
    engine.warm_up();
    const std::int64_t requests = engine.counters().requests;
    std::vector<RequestPtr> hopeless;
    std::vector<Admission> admissions;
    for (int place = 0; place < 3; ++place) {
      hopeless.push_back(request_for(engine.ledger, 7, 1, from_now(kNanosPerSecond / 2)));
      if (to_reader) hopeless.back()->completion_queue = engine.dispatcher->completions();
    }
    CHECK(engine.dispatcher->admit(hopeless, admissions));
    std::int64_t shed = 0;
    for (std::size_t place = 0; place < hopeless.size(); ++place) {
      CHECK(Dispatcher::is_admitted(admissions[place]));
      if (admissions[place] == Admission::accepted) {  // this machine took so long that one may find out again
        engine.await(hopeless[place]);
        continue;
      }
      CHECK_EQ(admissions[place], Admission::infeasible);
      CHECK(hopeless[place]->done());
      CHECK_EQ(hopeless[place]->outcome, Outcome::shed);
      CHECK(hopeless[place]->needs_ns >= kNanosPerSecond);
      CHECK(!engine.end_early(hopeless[place], Outcome::expired));
      ++shed;
    }
    CHECK(shed >= 2);
    CHECK_EQ(engine.counters().shed, shed);
    CHECK_EQ(engine.counters().refused, 0);
    CHECK_EQ(engine.counters().requests, requests + 3);
    if (to_reader) CHECK(eventually([&] { return reader.requests() == 3; }));
    engine.close(true, kNever);
    reader.join();
  }
}
