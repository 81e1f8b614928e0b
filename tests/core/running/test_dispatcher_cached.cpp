// Requests that are answered without a run: by a result that was kept, or by that of an equal one.
#include "engine.h"

using namespace fakes;

namespace {

constexpr std::size_t kRoomy = 1 << 20;

EngineOptions cached(std::size_t bytes = kRoomy) {
  EngineOptions options;
  options.cache_bytes = bytes;
  options.scheduler = merging(Merging::no);
  return options;
}

// One instance that stands at a gate.
struct Busy {
  explicit Busy(EngineOptions options = cached()) : engine(with_gate(std::move(options), gate)) {
    first = engine.submit(1);
    REQUIRE(gate.await(1));
  }
  ~Busy() {
    gate.open();
    engine.close(true, from_now(kPatience));
  }
  static EngineOptions with_gate(EngineOptions options, Gate& gate) {
    options.on_run = [&gate](float number) {
      gate.pass();
      if (number == 13) throw std::runtime_error("no");
    };
    return options;
  }
  RequestPtr submit(float number, Nanos deadline = kNever, int priority = 1) {
    RequestPtr request = keyed(request_for(engine.ledger, number, 1, deadline));
    request->priority = priority;
    engine.submit(request);
    return request;
  }
  void open_and_await(const std::vector<RequestPtr>& requests) {
    gate.open();
    for (const RequestPtr& request : requests) engine.await(request);
  }
  Gate gate;
  Engine engine;
  RequestPtr first;
};

RequestPtr call(Engine& engine, float number) {
  RequestPtr request = keyed(request_for(engine.ledger, number));
  engine.submit(request);
  engine.await(request);
  return request;
}

}  // namespace

TEST("an equal request is answered without a run, in memory of its own") {
  Engine engine(cached());
  const RequestPtr first = call(engine, 7), second = call(engine, 7), other = call(engine, 8);
  CHECK(has_result(*first, 7));
  CHECK(has_result(*second, 7));
  CHECK(has_result(*other, 8));
  CHECK(floats(first->outputs[0]) != floats(second->outputs[0]));
  CHECK_EQ(second->explanation.reason, DispatchReason::cached);
  CHECK_EQ(engine.model->runs, 2);
  CHECK_EQ(engine.counters().cache_hits, 1);
  CHECK_EQ(engine.counters().cache_misses, 2);
  CHECK_EQ(engine.counters().results, 3);
  CHECK_EQ(engine.snapshot().cache_entries, 2u);
}

TEST("a request without a key is neither answered nor kept") {
  Engine engine(cached());
  for (int turn = 0; turn < 2; ++turn) CHECK(has_result(*engine.call(7), 7));
  CHECK_EQ(engine.model->runs, 2);
  CHECK_EQ(engine.snapshot().cache_entries, 0u);
}

TEST("an answer reaches the reader of a completion queue") {
  Engine engine(cached());
  call(engine, 7);
  RequestPtr request = keyed(request_for(engine.ledger, 7, 1, from_now(kPatience)));
  {
    Reader reader(engine.dispatcher);
    request->completion_queue = engine.dispatcher->completions();
    engine.submit(request);
    CHECK(eventually([&] { return reader.delivered(request) == 1; }));
    engine.close(true, from_now(kPatience));
  }
  CHECK(has_result(*request, 7));
}

TEST("equal requests that wait together take one run") {
  Busy busy;
  std::vector<RequestPtr> requests;
  for (int turn = 0; turn < 5; ++turn) requests.push_back(busy.submit(7));
  busy.open_and_await(requests);
  for (const RequestPtr& request : requests) {
    CHECK(has_result(*request, 7));
    CHECK_EQ(request->explanation.run, requests[0]->explanation.run);
  }
  CHECK_EQ(requests[4]->explanation.reason, DispatchReason::coalesced);
  CHECK_EQ(busy.engine.model->runs, 2);  // with the one at the gate
  CHECK_EQ(busy.engine.counters().cache_coalesced, 4);
  CHECK_EQ(busy.engine.counters().cache_misses, 1);
}

TEST("one that stops waiting for an equal request ends by itself, and gives its inputs back") {
  Busy busy;
  const RequestPtr leader = busy.submit(7), follower = busy.submit(7), third = busy.submit(7);
  busy.engine.drain();
  const std::size_t held = busy.engine.ledger.held();
  CHECK(busy.engine.end_early(follower, Outcome::cancelled, true));
  busy.engine.drain();
  CHECK_EQ(busy.engine.ledger.held(), held - 1);
  busy.open_and_await({leader, third});
  CHECK_EQ(follower->outcome, Outcome::cancelled);
  CHECK(has_result(*leader, 7));
  CHECK(has_result(*third, 7));
  CHECK_EQ(busy.engine.model->runs, 2);
}

TEST("when the one that others wait for is given up, another runs for them") {
  for (const Outcome outcome : {Outcome::cancelled, Outcome::expired}) {
    Busy busy;
    const RequestPtr leader = busy.submit(7), second = busy.submit(7), third = busy.submit(7);
    CHECK(busy.engine.end_early(leader, outcome));
    busy.open_and_await({second, third});
    CHECK_EQ(leader->outcome, outcome);
    CHECK(has_result(*second, 7));
    CHECK(has_result(*third, 7));
    CHECK_EQ(busy.engine.model->runs, 2);
  }
}

TEST("when the one that others wait for is given up while it runs, another runs for them") {
  Gate gate;
  Engine engine(Busy::with_gate(cached(), gate));
  const RequestPtr leader = keyed(request_for(engine.ledger, 7)), follower = keyed(request_for(engine.ledger, 7));
  engine.submit(leader);
  REQUIRE(gate.await(1));
  engine.submit(follower);
  CHECK(engine.end_early(leader, Outcome::cancelled));
  gate.open();
  engine.await(follower);
  CHECK_EQ(leader->outcome, Outcome::cancelled);
  CHECK(has_result(*follower, 7));
  CHECK_EQ(engine.model->runs, 2);
}

TEST("a failure is the failure of one request: those that waited for it run themselves") {
  Busy busy;
  const RequestPtr leader = busy.submit(13), second = busy.submit(13), third = busy.submit(13);
  busy.open_and_await({leader, second, third});
  for (const RequestPtr& request : {leader, second, third}) CHECK_EQ(request->outcome, Outcome::error);
  CHECK_EQ(busy.engine.model->runs, 4);
  CHECK_EQ(busy.engine.snapshot().cache_entries, 0u);
}

TEST("a more urgent request does not wait for an equal one in the queue") {
  Busy busy;
  const RequestPtr relaxed = busy.submit(7, kNever, 2), other = busy.submit(8);
  const RequestPtr urgent = busy.submit(7, kNever, 0), later = busy.submit(7, kNever, 0);
  busy.open_and_await({relaxed, other, urgent, later});
  const auto batches = busy.engine.model->batches();
  REQUIRE(batches.size() >= 3);
  CHECK_EQ(batches[1][0], 7);
  CHECK_EQ(later->explanation.reason, DispatchReason::coalesced);
  for (const RequestPtr& request : {relaxed, urgent, later}) CHECK(has_result(*request, 7));
}

TEST("those that wait for an equal request have as much room as the queue") {
  EngineOptions options = cached();
  options.scheduler.max_queue_rows = 2;
  Busy busy(options);
  std::vector<RequestPtr> requests;
  for (int turn = 0; turn < 4; ++turn) requests.push_back(busy.submit(7));  // leads, two follow, leads
  Admission admission = Admission::accepted;
  const RequestPtr refused = keyed(request_for(busy.engine.ledger, 7));
  CHECK(busy.engine.dispatcher->admit(refused, admission));
  CHECK_EQ(admission, Admission::too_many_rows);
  busy.engine.ledger.take_back(*refused);
  busy.open_and_await(requests);
  for (const RequestPtr& request : requests) CHECK(has_result(*request, 7));
}

TEST("a close at once ends those that wait with the one that they wait for") {
  Busy busy;
  const RequestPtr leader = busy.submit(7), follower = busy.submit(7);
  std::thread closer([&] { busy.engine.close(false, from_now(kPatience)); });
  for (const RequestPtr& request : {leader, follower}) busy.engine.await(request);
  CHECK_EQ(leader->outcome, Outcome::closed);
  CHECK_EQ(follower->outcome, Outcome::closed);
  busy.gate.open();
  closer.join();
}

TEST("a drain serves those that wait, also when the one that they wait for is given up") {
  Busy busy;
  const RequestPtr leader = busy.submit(7), follower = busy.submit(7);
  busy.engine.dispatcher->begin_close(true);
  busy.engine.end_early(leader, Outcome::cancelled);
  busy.open_and_await({follower});
  CHECK(has_result(*follower, 7));
}

TEST("a drain serves those whose leader is given up as the instance leaves") {
  for (std::int64_t round = 0; round < harness::scaled(2'000); ++round) {
    Engine engine(cached());
    const RequestPtr leader = keyed(request_for(engine.ledger, 7)), follower = keyed(request_for(engine.ledger, 7));
    engine.submit(leader);
    engine.submit(follower);
    std::thread closer([&] { engine.close(true, from_now(kPatience)); });
    const Nanos until = monotonic_now() + round % 200 * 100;
    while (monotonic_now() < until) std::this_thread::yield();
    engine.end_early(leader, Outcome::cancelled);
    engine.await(follower);
    closer.join();
    CHECK(has_result(*follower, 7));
  }
}

TEST("what shared a run is forgotten when rows turn out to differ") {
  Engine engine(cached());
  CHECK(has_result(*call(engine, 7), 7));
  CHECK_EQ(engine.snapshot().cache_entries, 1u);
  EngineOptions options = cached();
  options.scheduler = merging(Merging::probe);
  Engine probing(options);
  call(probing, 7);
  CHECK_EQ(probing.snapshot().cache_entries, 1u);
  probing.dispatcher->set_batchable(false, "told so");
  CHECK_EQ(probing.snapshot().cache_entries, 0u);
}

TEST("a sole caller's run on its own thread is kept, and answers the next") {
  EngineOptions options = cached();
  options.inline_allowed = true;
  Engine engine(options);
  engine.warm_up();
  const int before = engine.model->runs;
  RequestPtr request = keyed(request_for(engine.ledger, 7));
  if (!engine.dispatcher->run_inline(request)) {
    engine.submit(request);
    engine.await(request);
  }
  CHECK(has_result(*request, 7));
  const RequestPtr again = keyed(request_for(engine.ledger, 7));
  CHECK(!engine.dispatcher->run_inline(again));
  engine.submit(again);
  engine.await(again);
  CHECK(has_result(*again, 7));
  CHECK_EQ(engine.model->runs, before + 1);
}
