// Requests that wait for room in a full queue.
#include "engine.h"

using namespace fakes;

namespace {

// One instance that stands at a gate, and a queue of two rows that is full.
struct Full {
  explicit Full(bool to_reader = false) {
    running = engine.submit(1);
    REQUIRE(gate.await(1));
    queued = engine.submit_rows(2, 2);
    if (to_reader) reader = std::make_unique<Reader>(engine.dispatcher);
  }
  ~Full() {
    gate.open();
    engine.close(true, from_now(kPatience));
  }
  static EngineOptions options_for(Gate& gate) {
    EngineOptions options;
    options.scheduler.max_queue_rows = 2;
    options.on_run = [&gate](float) { gate.pass(); };
    return options;
  }
  // One who waits for room.
  RequestPtr come(float first, Nanos deadline = kNever) {
    RequestPtr request = request_for(engine.ledger, first, 1, deadline);
    request->waits_for_room = true;
    if (reader) request->completion_queue = engine.dispatcher->completions();
    Admission admission = Admission::accepted;
    CHECK(engine.dispatcher->admit(request, admission));
    CHECK_EQ(admission, Admission::waits_for_room);
    return request;
  }
  Gate gate;
  Engine engine{options_for(gate)};
  std::unique_ptr<Reader> reader;  // gone before the engine
  RequestPtr running;
  RequestPtr queued;
};

}  // namespace

TEST("who waits for room is queued when there is some, and gets a result") {
  Full full;
  const RequestPtr request = full.come(7);
  CHECK_EQ(full.engine.snapshot().waiting_for_room, 1);
  CHECK_EQ(full.engine.dispatcher->wait_for_room(*request, from_now(5 * kMillisecond)), Woken::timed_out);
  full.gate.open();
  CHECK_EQ(full.engine.dispatcher->wait_for_room(*request, from_now(kPatience)), Woken::changed);
  full.engine.await(request);
  CHECK(has_result(*request, 7));
  CHECK_EQ(full.engine.dispatcher->wait_for_room(*request, 0), Woken::changed);  // it has come in long since
  CHECK_EQ(full.engine.snapshot().waiting_for_room, 0);
}

TEST("everybody who waits for room is let in, first come first served") {
  Full full;
  full.engine.model->forget_batches();
  std::vector<RequestPtr> requests;
  for (int place = 0; place < 30; ++place) requests.push_back(full.come(float(100 + place)));
  full.gate.open();
  for (const RequestPtr& request : requests) full.engine.await(request);
  std::vector<float> order;
  for (const std::vector<float>& batch : full.engine.model->batches()) {
    for (const float row : batch) {
      if (row >= 100) order.push_back(row);
    }
  }
  CHECK_EQ(order.size(), 30u);
  CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST("who waits for room may be cancelled; its inputs come back, and who waits for it is let go") {
  Full full;
  const RequestPtr first = full.come(7);
  const RequestPtr second = full.come(8);
  full.engine.drain();
  const std::size_t held = full.engine.ledger.held();
  std::thread waiter([&] {
    CHECK_EQ(full.engine.dispatcher->wait_for_room(*first, from_now(kPatience)), Woken::changed);
    CHECK(first->ended());
  });
  sleep_ns(2 * kMillisecond);
  CHECK(full.engine.end_early(first, Outcome::cancelled));
  waiter.join();
  full.engine.drain();
  CHECK_EQ(full.engine.ledger.held(), held - 1);
  CHECK_EQ(full.engine.snapshot().waiting_for_room, 1);
  full.gate.open();
  full.engine.await(second);
  CHECK(has_result(*second, 8));
}

TEST("when somebody in the queue is cancelled, who waits for room comes in and is served") {
  Full full;
  const RequestPtr request = full.come(7);
  CHECK(full.engine.end_early(full.queued, Outcome::cancelled));
  CHECK_EQ(full.engine.dispatcher->wait_for_room(*request, from_now(kPatience)), Woken::changed);
  CHECK_EQ(full.engine.snapshot().queued_requests, 1);
  full.gate.open();
  full.engine.await(request);
  CHECK(has_result(*request, 7));
}

TEST("an idle instance runs who comes in from the admission queue") {
  Full full;
  full.engine.start(false);  // an instance more, which takes what is queued and stands at the gate
  REQUIRE(full.gate.await(2));
  const RequestPtr filling = full.engine.submit_rows(5, 2);
  const RequestPtr request = full.come(7);
  full.gate.open();
  full.engine.await(filling);
  full.engine.await(request);
  CHECK(has_result(*request, 7));
}

TEST("a deadline holds at the admission queue as well") {
  Full full(/*to_reader=*/true);
  const RequestPtr request = full.come(7, from_now(15 * kMillisecond));
  CHECK(eventually([&] { return full.reader->requests() == 1; }));
  CHECK_EQ(request->outcome, Outcome::expired);
  CHECK_EQ(full.engine.snapshot().waiting_for_room, 0);
}

TEST("closing at once ends who waits for room, closing with drain serves them") {
  for (const bool drain : {false, true}) {
    Full full(/*to_reader=*/true);
    const std::vector<RequestPtr> requests = {full.come(7), full.come(8)};
    std::thread waiter([&] { full.engine.dispatcher->wait_for_room(*requests[1], kNever); });
    std::thread closer([&] { full.engine.close(drain, from_now(kPatience)); });
    if (!drain) {
      for (const RequestPtr& request : requests) CHECK(eventually([&] { return request->done(); }));
    }
    full.gate.open();
    closer.join();
    waiter.join();
    full.reader->join();
    for (const RequestPtr& request : requests) {
      CHECK_EQ(request->outcome, drain ? Outcome::result : Outcome::closed);
      CHECK_EQ(full.reader->delivered(request), 1);
    }
  }
}

TEST("who waits for room behind a model that hangs is closed") {
  Full full;
  const RequestPtr request = full.come(7);
  const CloseReport report = full.engine.close(true, from_now(20 * kMillisecond));
  CHECK_EQ(report.ended_requests, 3u);
  CHECK_EQ(request->outcome, Outcome::closed);
  full.gate.open();
  CHECK(full.engine.threads_gone());
}

TEST("many callers pass through a narrow admission queue, and none is lost") {
  constexpr int kCallers = 8;
  const std::int64_t each = scaled(2'000);
  EngineOptions options;
  options.instances = 2;
  options.scheduler.policy = Policy::eager;  // which refuses nobody for the deadline
  options.scheduler.max_queue_rows = 3;
  Engine engine(options);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&, caller] {
      for (std::int64_t turn = 0; turn < each; ++turn) {
        const float first = float(caller * 1'000 + turn % 1'000);
        const Nanos deadline = turn % 5 == 0 ? from_now(Nanos(turn % 200) * 1'000) : kNever;
        const RequestPtr request = request_for(engine.ledger, first, 1 + turn % 3, deadline);
        request->waits_for_room = true;
        Admission admission = Admission::accepted;
        CHECK(engine.dispatcher->admit(request, admission));
        CHECK(Dispatcher::is_admitted(admission));
        if (turn % 2 == 0) {
          if (engine.dispatcher->wait_for_room(*request, deadline) != Woken::changed) {
            engine.end_early(request, Outcome::expired);
          }
        }
        engine.await(request);
        if (deadline == kNever) CHECK(has_result(*request, first));
        if (turn % 64 == 0) engine.drain();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  const Counters& counters = engine.counters();
  CHECK_EQ(counters.refused, 0);
  CHECK_EQ(counters.results + counters.expired, kCallers * each);
  CHECK_EQ(engine.snapshot().waiting_for_room, 0);
}

TEST("what is refused says what was in its way, and with it those that came together with it") {
  Gate gate;
  EngineOptions options;
  options.scheduler.max_queue_rows = 4;
  options.on_run = [&](float) { gate.pass(); };
  Engine engine(options);
  const RequestPtr running = engine.submit(1);
  REQUIRE(gate.await(1));
  const RequestPtr queued = engine.submit_rows(2, 4);
  const std::vector<RequestPtr> together = {request_for(engine.ledger, 3), request_for(engine.ledger, 4)};
  together[0]->rows_together = 2;
  together[1]->follows = true;
  std::vector<Admission> admissions;
  CHECK(engine.dispatcher->admit(together, admissions));
  for (std::size_t place = 0; place < together.size(); ++place) {
    CHECK_EQ(admissions[place], Admission::too_many_rows);
    CHECK_EQ(together[place]->refused_by.queued_rows, 4);
    CHECK_EQ(together[place]->refused_by.queued_bytes, queued->bytes);
    CHECK_EQ(together[place]->refused_by.running_batches, 1);
    engine.ledger.take_back(*together[place]);
  }
  gate.open();
  engine.await(running);
  engine.await(queued);
}
