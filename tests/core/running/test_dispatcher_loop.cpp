// Requests of an event loop: handed over together, delivered by one wake-up a batch.
#include <poll.h>

#include "engine.h"

using namespace fakes;

namespace {

class EventLoopBridge {
 public:
  explicit EventLoopBridge(const std::shared_ptr<Dispatcher>& dispatcher)
      : dispatcher_(dispatcher), queue(std::make_shared<CompletionQueue>(CompletionQueue::Reader::loop)) {}

  // As the loop does when its descriptor is readable, or a deadline has come. False after ten seconds without.
  bool turn() {
    const Nanos now = monotonic_now();
    const Nanos until = std::min(next_deadline_, now + 10 * kNanosPerSecond);
    pollfd watched{queue->descriptor(), POLLIN, 0};
    const int ready = poll(&watched, 1, int(std::max<Nanos>(0, until - now) / kMillisecond) + 1);
    if (ready == 0 && next_deadline_ > monotonic_now()) return false;
    wake_ups += ready;
    const CompletionEvents events = queue->take();
    next_deadline_ = events.next_deadline;
    for (const RequestPtr& request : events.overdue) dispatcher_->end_early(request, Outcome::expired);
    for (const RequestPtr& request : events.ended) {
      CHECK(request->done());
      ++delivered[request];
    }
    stopped = events.stopped;
    return true;
  }
  // As its loop asks for the soonest deadline when it has handed over requests.
  void watch_until(Nanos deadline) { next_deadline_ = std::min(next_deadline_, deadline); }
  bool deliver(std::size_t count) {
    while (delivered.size() < count) {
      if (!turn()) return false;
    }
    return true;
  }

 private:
  const std::shared_ptr<Dispatcher> dispatcher_;
  Nanos next_deadline_ = kNever;

 public:
  const std::shared_ptr<CompletionQueue> queue;
  std::map<RequestPtr, int> delivered;
  int wake_ups = 0;
  bool stopped = false;
};

std::vector<RequestPtr> requests_for(Engine& engine, const EventLoopBridge& loop, int count, Nanos deadline = kNever) {
  std::vector<RequestPtr> requests;
  for (int place = 0; place < count; ++place) {
    requests.push_back(request_for(engine.ledger, float(place), 1, deadline));
    requests.back()->completion_queue = loop.queue;
  }
  return requests;
}

}  // namespace

TEST("a loop gets every end of its requests, once, and is woken once a batch") {
  Engine engine({});
  engine.learn(8);
  EventLoopBridge loop(engine.dispatcher);
  Gate gate;
  engine.model->on_run = [&](float) { gate.pass(); };
  const RequestPtr busy = engine.submit(100);
  REQUIRE(gate.await(1));
  const std::vector<RequestPtr> requests = requests_for(engine, loop, 24);
  engine.submit_all(requests);
  gate.open();
  CHECK(loop.deliver(24));
  for (std::size_t place = 0; place < 24; ++place) {
    CHECK_EQ(loop.delivered[requests[place]], 1);
    CHECK(has_result(*requests[place], float(place)));
  }
  CHECK(loop.wake_ups <= int(engine.model->batches().size()) - 1);
  CHECK(engine.dispatcher->completions()->take().ended.empty());
}

TEST("loops do not hear of each other's requests") {
  Engine engine({.instances = 2});
  EventLoopBridge first(engine.dispatcher);
  EventLoopBridge second(engine.dispatcher);
  const std::vector<RequestPtr> mine = requests_for(engine, first, 20);
  const std::vector<RequestPtr> yours = requests_for(engine, second, 20);
  engine.submit_all(mine);
  engine.submit_all(yours);
  CHECK(first.deliver(20) && second.deliver(20));
  for (const RequestPtr& request : mine) CHECK_EQ(first.delivered.count(request), 1u);
  for (const RequestPtr& request : yours) CHECK_EQ(second.delivered.count(request), 1u);
}

TEST("a loop ends its requests at their deadline") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  const RequestPtr busy = engine.submit(100);
  REQUIRE(gate.await(1));
  EventLoopBridge loop(engine.dispatcher);
  const Nanos deadline = from_now(15 * kMillisecond);
  const std::vector<RequestPtr> requests = requests_for(engine, loop, 5, deadline);
  engine.submit_all(requests);
  loop.watch_until(deadline);
  CHECK(loop.deliver(5));
  CHECK(monotonic_now() >= deadline);
  for (const RequestPtr& request : requests) CHECK_EQ(request->outcome, Outcome::expired);
  gate.open();
}

TEST("a loop's requests may be cancelled before and after they have started") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  EventLoopBridge loop(engine.dispatcher);
  const std::vector<RequestPtr> requests = requests_for(engine, loop, 3);
  engine.submit_all(requests);
  REQUIRE(gate.await(1));
  CHECK(engine.end_early(requests[0], Outcome::cancelled));
  CHECK(engine.end_early(requests[2], Outcome::cancelled));
  CHECK(loop.deliver(2));
  gate.open();
  CHECK(loop.deliver(3));
  CHECK(has_result(*requests[1], 1));
  for (const auto& [request, times] : loop.delivered) CHECK_EQ(times, 1);
}

TEST("a loop that goes is let go of, and its requests still end and are counted") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  std::weak_ptr<CompletionQueue> queue;
  {
    EventLoopBridge loop(engine.dispatcher);
    queue = loop.queue;
    const std::vector<RequestPtr> requests = requests_for(engine, loop, 4);
    engine.submit_all(requests);
    REQUIRE(gate.await(1));
    CHECK(engine.end_early(requests[3], Outcome::cancelled));
    loop.queue->abandon();
  }
  gate.open();
  engine.close(true, kNever);
  engine.drain();
  CHECK_EQ(engine.ledger.held(), 0u);
  CHECK(queue.expired());
  CHECK_EQ(engine.counters().results, 3);
  CHECK_EQ(engine.counters().cancelled, 1);
}

TEST("a loop is told that its engine has stopped, after the last end") {
  Gate gate;
  Engine engine({.on_run = [&](float) { gate.pass(); }});
  EventLoopBridge loop(engine.dispatcher);
  const std::vector<RequestPtr> requests = requests_for(engine, loop, 3);
  engine.submit_all(requests);
  REQUIRE(gate.await(1));
  loop.queue->stop();  // as close() does for each loop
  std::thread closer([&] { engine.close(true, from_now(kPatience)); });
  CHECK(loop.turn());
  CHECK(!loop.stopped);
  gate.open();
  while (!loop.stopped && loop.turn()) {
  }
  CHECK(loop.stopped);
  CHECK_EQ(loop.delivered.size(), 3u);
  closer.join();
}

TEST("a loop that hands over bursts hears of every end") {
  const std::int64_t bursts = scaled(1'500);
  for (const int instances : {1, 3}) {
    Engine engine({.instances = instances});
    engine.model->keeps_batches = false;
    EventLoopBridge loop(engine.dispatcher);
    for (std::int64_t burst = 0; burst < bursts; ++burst) {
      const std::vector<RequestPtr> requests = requests_for(engine, loop, 1 + int(burst) % 17);
      engine.submit_all(requests);
      REQUIRE(loop.deliver(requests.size()));
      for (std::size_t place = 0; place < requests.size(); ++place) CHECK(has_result(*requests[place], float(place)));
      loop.delivered.clear();
      engine.drain();
    }
  }
}
