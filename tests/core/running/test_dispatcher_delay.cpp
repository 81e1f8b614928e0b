// A batch that is delayed, so that others may join it, ends well, whatever happens meanwhile. Runs on the real clock:
// whether one was held just then is looked at, and does not decide.
#include "engine.h"

using namespace fakes;

namespace {

constexpr Nanos kRun = 20 * kMillisecond;
constexpr Nanos kPause = 3 * kMillisecond;

// Callers who come back a while after their answers, on a model whose runs cost much: one who comes alone is held.
struct Holding : Engine {
  explicit Holding(int instances = 1) : Engine({.instances = instances}) { learn(); }
  void learn() {
    model->run_ns = kRun;
    for (int round = 0; round < 12; ++round) {
      std::vector<RequestPtr> requests;
      for (int caller = 0; caller < 4; ++caller) requests.push_back(submit(float(caller)));
      for (const RequestPtr& request : requests) await(request);
      sleep_ns(kPause);
    }
    model->run_ns = 0;
  }
  bool is_held(const RequestPtr& request) {
    for (const Nanos until = from_now(kPause); !request->started() && monotonic_now() < until;) {
      const EngineSnapshot load = dispatcher->snapshot();
      if (load.queued_requests > 0 && load.running_batches == 0) return true;
    }
    return false;
  }
};

// Whether some turn is true: where a thread stood still meanwhile, the engine has learned something else, and learns
// anew.
template <typename Turn>
bool in_the_end(Holding& engine, const Turn& turn) {
  for (int round = 0; round < 20; ++round, engine.learn()) {
    for (int once = 0; once < 3; ++once) {
      if (turn()) return true;
    }
  }
  return false;
}

}  // namespace

TEST("one who comes alone where there were several is held for a moment, and goes by itself") {
  Holding engine;
  CHECK(in_the_end(engine, [&] {
    const RequestPtr request = engine.submit(7);
    const bool held = engine.is_held(request);
    CHECK_EQ(request->wait(from_now(kPatience)), Woken::changed);
    CHECK(has_result(*request, 7));
    return held;
  }));
}

TEST("who is held may be cancelled, and the next one goes") {
  Holding engine;
  const RequestPtr first = engine.submit(7);
  engine.is_held(first);
  engine.end_early(first, Outcome::cancelled);
  const RequestPtr second = engine.submit(8);
  CHECK_EQ(second->wait(from_now(kPatience)), Woken::changed);
  CHECK(has_result(*second, 8));
}

TEST("who is held with a deadline is in time") {
  Holding engine;
  const RequestPtr request = request_for(engine.ledger, 7, 1, from_now(kPatience));
  engine.submit(request);
  engine.await(request);
  CHECK(has_result(*request, 7));
}

TEST("a request of another shape runs while one is held") {
  Holding engine;
  const RequestPtr held = engine.submit(7);
  engine.is_held(held);
  const RequestPtr other = request_for(engine.ledger, 9, 1, kNever, /*width=*/3);
  engine.submit(other);
  CHECK_EQ(other->wait(from_now(kPatience)), Woken::changed);
  CHECK(has_result(*other, 9));
  CHECK_EQ(held->wait(from_now(kPatience)), Woken::changed);
  CHECK(has_result(*held, 7));
}

TEST("a delay ends with the engine: drained, at once, or dropped") {
  for (const int ending : {0, 1, 2}) {
    Holding engine(1 + ending % 2);
    const RequestPtr request = engine.submit(7);
    engine.is_held(request);
    if (ending == 2) {
      engine.dispatcher->close_in_background();
    } else {
      const CloseReport report = engine.close(ending == 0, from_now(kPatience));
      CHECK_EQ(report.abandoned_instances, 0u);
    }
    CHECK_EQ(request->wait(from_now(kPatience)), Woken::changed);
    if (ending == 0) CHECK(has_result(*request, 7));
    CHECK(request->outcome == Outcome::result || request->outcome == Outcome::closed);
    CHECK(engine.threads_gone());
  }
}

TEST("who was held is told for how long, and that is part of the wait") {
  Holding engine;
  CHECK(in_the_end(engine, [&] {
    const RequestPtr request = engine.submit(7);
    engine.await(request);
    CHECK(has_result(*request, 7));
    const Explanation& explanation = request->explanation;
    CHECK(explanation.hold_ns >= 0 && explanation.hold_ns <= explanation.queue_ns);
    CHECK(explanation.predicted_ns > 0);
    CHECK_EQ(explanation.batch_rows, 1);
    CHECK_EQ(explanation.padded_rows, 1);
    if (explanation.hold_ns > 0) CHECK(explanation.reason == DispatchReason::delay_expired);
    return explanation.hold_ns > 0;
  }));
}
