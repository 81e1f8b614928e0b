// How an engine ends: drained, at once, with a model that hangs, from a destructor.
#include "allocations.h"
#include "engine.h"

using namespace fakes;

TEST("closing with drain lets everything accepted end with its result") {
  Engine engine({.instances = 2, .on_run = [](float) { sleep_ns(kMillisecond / 5); }});
  std::vector<RequestPtr> requests;
  for (int place = 0; place < 100; ++place) requests.push_back(engine.submit(float(place)));
  const CloseReport report = engine.close(true, kNever);
  CHECK_EQ(report.ended_requests, 0u);
  CHECK_EQ(report.abandoned_instances, 0u);
  for (std::size_t place = 0; place < 100; ++place) CHECK(has_result(*requests[place], float(place)));
}

TEST("closing without drain ends what is queued, and lets what runs end") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  std::vector<RequestPtr> requests;
  for (int place = 0; place < 10; ++place) requests.push_back(engine.submit(float(place)));
  REQUIRE(gate.await(1));
  std::thread opener([&] {
    CHECK(eventually([&] { return requests.back()->done(); }));
    gate.open();
  });
  const CloseReport report = engine.close(false, kNever);
  opener.join();
  CHECK_EQ(report.ended_requests, 9u);
  CHECK_EQ(report.abandoned_instances, 0u);
  CHECK(has_result(*requests[0], 0));
  for (std::size_t place = 1; place < 10; ++place) CHECK_EQ(requests[place]->outcome, Outcome::closed);
  CHECK_EQ(engine.counters().closed, 9);
  CHECK_EQ(engine.model->alive(), 0);
}

TEST("a closed engine takes nothing more, and may be closed again") {
  Engine engine({});
  engine.close(true, kNever);
  const RequestPtr request = request_for(engine.ledger, 1);
  Admission admission = Admission::accepted;
  CHECK(!engine.dispatcher->admit(request, admission));
  CHECK(engine.ledger.take_back(*request));
  const CloseReport again = engine.close(false, 0);
  CHECK_EQ(again.abandoned_instances, 0u);
  CHECK_EQ(again.ended_requests, 0u);
}

TEST("closing from several threads at once ends for each of them") {
  for (std::int64_t round = 0; round < scaled(50); ++round) {
    Engine engine({.instances = 3});
    std::vector<RequestPtr> requests;
    for (int place = 0; place < 20; ++place) requests.push_back(engine.submit(float(place)));
    std::vector<std::thread> closers;
    for (int closer = 0; closer < 3; ++closer) {
      closers.emplace_back([&, closer] { engine.close(closer != 1, from_now(kPatience)); });
    }
    for (std::thread& closer : closers) closer.join();
    for (const RequestPtr& request : requests) CHECK(request->done());
    CHECK_EQ(engine.model->alive(), 0);
  }
}

TEST("closing may be done in parts, with looks up in between") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  const RequestPtr running = engine.submit(1);
  REQUIRE(gate.await(1));
  const RequestPtr queued = engine.submit(2);
  CHECK_EQ(engine.dispatcher->begin_close(false), 1u);
  CHECK_EQ(queued->outcome, Outcome::closed);
  for (int look = 0; look < 3; ++look) CHECK(!engine.dispatcher->wait_for_exits(from_now(5 * kMillisecond)));
  CHECK(!running->ended());
  gate.open();
  CHECK(engine.dispatcher->wait_for_exits(kNever));
  CHECK(has_result(*running, 1));
  const CloseReport report = engine.dispatcher->finish_close();
  CHECK_EQ(report.ended_requests, 0u);
  CHECK_EQ(report.abandoned_instances, 0u);
}

TEST("who waits for the end is let go when somebody else gives up on it") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  const RequestPtr hung = engine.submit(1);
  REQUIRE(gate.await(1));
  std::thread patient([&] {
    engine.close(true, kNever);
    CHECK_EQ(hung->outcome, Outcome::closed);
  });
  sleep_ns(5 * kMillisecond);
  engine.close(true, from_now(5 * kMillisecond));
  patient.join();
  gate.open();
  CHECK(engine.threads_gone());
}

// As after Ctrl-C in close().
TEST("an engine whose closing was begun and not finished may be dropped") {
  const bool survived = survives([] {
    const auto model = std::make_shared<FakeModel>();
    auto dispatcher = std::make_shared<Dispatcher>(DispatcherOptions{});
    const std::weak_ptr<Dispatcher> left = dispatcher;
    for (std::size_t number = 0; number < 2; ++number) {
      start_fake(*dispatcher, model, number, number == 0);
    }
    dispatcher->begin_close(true);
    dispatcher.reset();
    CHECK(eventually([&] { return left.expired(); }));
    CHECK_EQ(model->alive(), 0);
  });
  CHECK(survived);
}

TEST("an engine whose closing was begun and not finished stops its reader after the last end") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  Reader reader(engine.dispatcher);
  const RequestPtr running = engine.submit(1, kNever, true);
  REQUIRE(gate.await(1));
  const RequestPtr queued = engine.submit(2, kNever, true);
  engine.dispatcher->begin_close(true);
  CHECK(!reader.stopped());
  gate.open();
  const bool stopped = eventually([&] { return reader.stopped(); });
  CHECK(stopped);
  engine.dispatcher->finish_close();
  reader.join();
  CHECK_EQ(reader.delivered(running), 1);
  CHECK_EQ(reader.delivered(queued), 1);
}

TEST("a model that hangs does not hold close() past its deadline") {
  Gate gate;
  std::weak_ptr<Dispatcher> left;
  {
    // Without a root, so that all backends go in the end.
    Engine engine({.instances = 0, .on_run = [&](float first) {
                     if (first < 2) gate.pass();
                   }});
    left = engine.dispatcher;
    for (int number = 0; number < 3; ++number) engine.start(false);
    std::vector<RequestPtr> hung = {engine.submit(0), engine.submit(1)};
    REQUIRE(gate.await(2));
    std::vector<std::thread> callers;
    for (const RequestPtr& request : hung) callers.emplace_back([&engine, &request] { engine.await(request); });
    CHECK(has_result(*engine.call(2), 2));
    const Nanos deadline = from_now(50 * kMillisecond);
    const CloseReport report = engine.close(true, deadline);
    CHECK(monotonic_now() >= deadline);
    CHECK(monotonic_now() < deadline + kPatience);
    CHECK_EQ(report.abandoned_instances, 2u);
    CHECK_EQ(report.ended_requests, 2u);
    for (std::thread& caller : callers) caller.join();
    for (const RequestPtr& request : hung) CHECK_EQ(request->outcome, Outcome::closed);
    CHECK_EQ(engine.model->alive(), 2);
    gate.open();
    CHECK(engine.threads_gone());
    CHECK_EQ(engine.model->alive(), 0);
    for (const RequestPtr& request : hung) CHECK_EQ(request->outcome, Outcome::closed);
    CHECK_EQ(engine.counters().results, 1);
  }
  CHECK(left.expired());
}

TEST("what waits behind a model that hangs is closed, too") {
  for (const bool drain : {true, false}) {
    Gate gate;
    Engine engine({.on_run = [&](float) { gate.pass(); }});
    const RequestPtr running = engine.submit(1);
    REQUIRE(gate.await(1));
    const RequestPtr queued = engine.submit(2);
    const CloseReport report = engine.close(drain, from_now(20 * kMillisecond));
    CHECK_EQ(report.ended_requests, 2u);
    CHECK_EQ(report.abandoned_instances, 1u);
    CHECK_EQ(running->outcome, Outcome::closed);
    CHECK_EQ(queued->outcome, Outcome::closed);
    gate.open();
    CHECK(engine.threads_gone());
    CHECK_EQ(engine.model->runs, 1);
    CHECK_EQ(engine.model->alive(), 0);  // a root alone needs wait for nobody
  }
}

TEST("where a clone is left running, the root's backend stays until it ends") {
  Gate gate;
  Engine engine({.instances = 2, .on_run = [&](float) { gate.pass(); }});
  const RequestPtr first = engine.submit(1);
  const RequestPtr second = engine.submit(2);
  REQUIRE(gate.await(2));
  const CloseReport report = engine.close(true, from_now(20 * kMillisecond));
  CHECK_EQ(report.abandoned_instances, 2u);
  CHECK(first->done() && second->done());
  gate.open();
  CHECK(engine.threads_gone());
  const std::vector<Life> lives = engine.model->lives();
  REQUIRE(lives.size() == 2);
  CHECK_EQ(lives[0].instance, 1u);
  CHECK(lives[1].made == lives[1].destroyed);
}

TEST("close() does not wait for a root whose clone hangs, and it goes after that one") {
  Gate root_gate;
  Gate gate;
  Engine engine({.on_run = [&](float first) { (first == 1 ? root_gate : gate).pass(); }});
  const RequestPtr on_root = engine.submit(1);
  REQUIRE(root_gate.await(1));
  engine.start(false);
  const RequestPtr on_clone = engine.submit(2);
  REQUIRE(gate.await(1));
  root_gate.open();
  engine.await(on_root);
  const CloseReport report = engine.close(true, from_now(30 * kMillisecond));
  CHECK_EQ(report.abandoned_instances, 1u);
  CHECK_EQ(report.ended_requests, 1u);
  CHECK_EQ(on_clone->outcome, Outcome::closed);
  CHECK_EQ(engine.model->alive(), 2);
  gate.open();
  CHECK(engine.threads_gone());
  const std::vector<Life> lives = engine.model->lives();
  REQUIRE(lives.size() == 2);
  CHECK_EQ(lives[0].instance, 1u);
  CHECK(lives[1].made == lives[1].destroyed);
}

TEST("requests that no instance is left to run end when the engine closes") {
  for (const bool drain : {true, false}) {
    Engine engine({.instances = 0});
    const RequestPtr request = engine.submit(1);
    const CloseReport report = engine.close(drain, from_now(kNanosPerSecond));
    CHECK_EQ(report.ended_requests, 1u);
    CHECK(request->done());
    if (!request->done()) engine.end_early(request, Outcome::closed);
    CHECK_EQ(request->outcome, Outcome::closed);
  }
}

TEST("an end under way on another thread when the engine closes still reaches the reader") {
  for (const bool started : {false, true}) {
    Gate claimed;
    Gate run_gate;
    Engine engine({.on_run = [&](float) { run_gate.pass(); }});
    Reader reader(engine.dispatcher);
    const RequestPtr running = engine.submit(1, kNever, true);
    REQUIRE(run_gate.await(1));
    const RequestPtr request = started ? running : engine.submit(2, kNever, true);
    engine.release_inputs(request);
    // Its claimant is stopped before it tells anybody.
    std::thread ender([&] {
      CHECK(request->claim(started ? Request::State::running : Request::State::queued));
      claimed.pass();
      Counters own;
      CompletionNotifier notifier(own, 1);
      notifier.complete(request, Outcome::cancelled);
      notifier.notify();
    });
    REQUIRE(claimed.await(1));
    run_gate.open();
    std::thread closer([&] { engine.close(true, kNever); });
    sleep_ns(20 * kMillisecond);
    claimed.open();
    ender.join();
    closer.join();
    CHECK(request->done());
    reader.join();
    CHECK_EQ(reader.delivered(request), 1);
    CHECK_EQ(reader.delivered(running), 1);
  }
}

TEST("a batch that starts just when close() gives up is closed, too") {
  Gate first_gate;
  Gate hang;
  Gate taken;
  RequestPtr expired;
  // Instance 0 is stopped when it has taken a batch, and ended what has expired, and not started it.
  const AllocationHook stop_instance = [&] {
    if (!expired->ended()) return false;
    taken.pass();
    return true;
  };
  Engine engine({.instances = 0, .on_run = [&](float first) {
                   (first == 1 ? first_gate : hang).pass();
                   if (first == 1) before_allocation = &stop_instance;
                 }});
  engine.start(false);
  const RequestPtr first = engine.submit(1);
  REQUIRE(first_gate.await(1));
  engine.start(false);
  const RequestPtr hung = engine.submit(2, kNever, true);  // on instance 1
  REQUIRE(hang.await(1));
  expired = engine.submit(3, from_now(kMillisecond), true);
  engine.release_inputs(expired);
  const RequestPtr late = engine.submit(4);
  sleep_ns(2 * kMillisecond);
  first_gate.open();
  REQUIRE(taken.await(1));
  const CloseReport report = engine.close(true, 0);
  CHECK_EQ(report.ended_requests, 2u);
  CHECK(late->wait(from_now(kPatience)) == Woken::changed);
  CHECK_EQ(late->outcome, Outcome::closed);
  taken.open();
  hang.open();
  CHECK(engine.threads_gone());
}

TEST("a dropped engine's threads end by themselves, after what runs") {
  Gate gate;
  Engine engine({.instances = 3, .on_run = [&](float) { gate.pass(); }});
  const std::vector<RequestPtr> running = {engine.submit(1), engine.submit(2), engine.submit(3)};
  REQUIRE(gate.await(3));
  const RequestPtr queued = engine.submit(4);
  const Nanos begin = monotonic_now();
  engine.dispatcher->close_in_background();
  CHECK(monotonic_now() - begin < kPatience);
  CHECK_EQ(queued->outcome, Outcome::closed);
  CHECK(!running[0]->ended());
  Admission admission = Admission::accepted;
  const RequestPtr refused = request_for(engine.ledger, 5);
  CHECK(!engine.dispatcher->admit(refused, admission));
  CHECK(engine.ledger.take_back(*refused));
  gate.open();
  for (const RequestPtr& request : running) request->wait(kNever);
  CHECK(has_result(*running[0], 1));
  CHECK(engine.threads_gone());
  CHECK_EQ(engine.model->alive(), 0);
  CHECK_EQ(engine.model->lives().back().instance, 0u);
}

TEST("the last reference to a dropped engine may go on an instance thread") {
  for (std::int64_t round = 0; round < scaled(100); ++round) {
    const auto model = std::make_shared<FakeModel>();
    auto dispatcher = std::make_shared<Dispatcher>(DispatcherOptions{});
    for (std::size_t number = 0; number < 2; ++number) {
      start_fake(*dispatcher, model, number, number == 0);
    }
    const std::weak_ptr<Dispatcher> left = dispatcher;
    dispatcher->close_in_background();
    dispatcher.reset();
    CHECK(eventually([&] { return left.expired() && model->alive() == 0; }));
  }
}

TEST("a backend slow to go is waited for, one second past the deadline at most") {
  for (const bool forever : {false, true}) {
    Gate gate;
    Engine engine({});
    engine.model->on_destroy = [&] {
      sleep_ns(50 * kMillisecond);
      if (forever) gate.pass();
    };
    const Nanos deadline = from_now(20 * kMillisecond);
    const CloseReport report = engine.close(true, deadline);
    CHECK(monotonic_now() < deadline + kPatience);
    CHECK_EQ(report.abandoned_instances, forever ? 1u : 0u);
    CHECK_EQ(engine.model->alive(), forever ? 1 : 0);
    gate.open();
    CHECK(engine.threads_gone());
  }
}
