// In service one request of a batch runs again alone when an instance is idle, and is compared with what it was given.
#include "engine.h"

using namespace fakes;

namespace {

constexpr int kProbes = 8;  // batches that are compared before they are answered

EngineOptions verifying(std::int64_t every, int instances = 1) {
  EngineOptions options;
  options.scheduler.merging = Merging::probe;
  options.scheduler.policy = Policy::eager;
  options.scheduler.max_batch_size = 8;
  options.verify_every = every;
  options.instances = instances;
  return options;
}

// Where runs stand, by the first number of their rows. Set while runs are under way: a verification may come any time.
struct Gates {
  std::atomic<Gate*> at_1000{nullptr};
  std::atomic<Gate*> at_2000{nullptr};
  std::atomic<Gate*> at_others{nullptr};
  std::atomic<int> others{0};  // that came

  void pass(float first) {
    if (first != 1'000 && first != 2'000) ++others;
    Gate* const gate = first == 1'000 ? at_1000 : first == 2'000 ? at_2000 : at_others;
    if (gate != nullptr) gate->pass();
  }
};

struct WithGates {
  Gates gates;
};

struct Verifying : WithGates, Engine {
  explicit Verifying(const EngineOptions& options) : Engine(standing_at(options, gates)) {}

 private:
  static EngineOptions standing_at(EngineOptions options, Gates& gates) {
    options.on_run = [&gates](float first) { gates.pass(first); };
    return options;
  }
};

// So many requests of one row each share a run, on an engine of one instance.
void share_a_run(Verifying& engine, int count) {
  Gate gate;
  engine.gates.at_1000 = &gate;
  const RequestPtr busy = engine.submit(1'000);
  REQUIRE(gate.await(1));
  std::vector<RequestPtr> requests;
  for (int place = 0; place < count; ++place) requests.push_back(request_for(engine.ledger, float(place)));
  engine.submit_all(requests);
  gate.open();
  engine.await(busy);
  for (const RequestPtr& request : requests) {
    engine.await(request);
    CHECK_EQ(request->outcome, Outcome::result);
  }
  engine.gates.at_1000 = nullptr;
}

// Past the batches that are compared before they are answered; then what waits to be verified is, too.
void trust(Verifying& engine) {
  engine.warm_up();
  for (int round = 0; round < kProbes; ++round) share_a_run(engine, 2);
  CHECK_EQ(engine.counters().verified_requests, 2 * kProbes);
}

bool eventually_verified(Engine& engine, std::int64_t requests) {
  return eventually([&] { return engine.counters().verified_requests >= 2 * kProbes + requests; });
}

}  // namespace

TEST("the first shared runs of a bucket are verified, one request each, then one in so many requests") {
  Verifying engine(verifying(/*every=*/20));
  trust(engine);
  const std::int64_t executions = engine.counters().executions;
  for (int round = 1; round <= Verifications::kFirstRuns; ++round) {
    share_a_run(engine, 4);
    CHECK(eventually_verified(engine, round));
  }
  for (int round = 0; round < 4; ++round) share_a_run(engine, 4);
  sleep_ns(5 * kMillisecond);  // it could have come
  CHECK_EQ(engine.counters().verified_requests, 2 * kProbes + Verifications::kFirstRuns);
  share_a_run(engine, 4);
  CHECK(eventually_verified(engine, Verifications::kFirstRuns + 1));
  CHECK_EQ(engine.counters().verification_failures, 0);
  CHECK_EQ(engine.counters().internal_runs, 2 * kProbes + Verifications::kFirstRuns + 1);
  CHECK_EQ(engine.counters().executions - executions, 2 * (Verifications::kFirstRuns + 5));  // with the busy ones
  CHECK_EQ(engine.dispatcher->take_merging_change().first, Merging::yes);
}

TEST("a difference found in service makes the model unbatchable, and the reason names the output") {
  Verifying engine(verifying(1));
  trust(engine);
  engine.dispatcher->take_merging_change();
  engine.model->drift = 1;
  share_a_run(engine, 4);
  CHECK(eventually([&] { return engine.counters().verification_failures == 1; }));
  CHECK(eventually([&] { return engine.dispatcher->merging_changed(); }));
  const auto [merging, why] = engine.dispatcher->take_merging_change();
  CHECK_EQ(merging, Merging::no);
  CHECK(why.find("output plus_one of a row differs by") == 0);
  engine.model->forget_batches();
  share_a_run(engine, 4);
  CHECK_EQ(engine.model->most_rows(), 1u);
  CHECK(!engine.dispatcher->merging_changed());  // said once
}

TEST("nothing is verified where that is not wanted, where rows were said to share runs, and of what ran alone") {
  for (const bool promised : {true, false}) {
    EngineOptions options = verifying(promised ? 1 : 0);
    if (promised) options.scheduler.merging = Merging::yes;
    Verifying engine(options);
    engine.warm_up();
    for (int round = 0; round < kProbes + 3; ++round) share_a_run(engine, 3);
    sleep_ns(5 * kMillisecond);
    CHECK_EQ(engine.counters().verified_requests, promised ? 0 : 2 * kProbes + kProbes);
  }
  Verifying engine(verifying(1));
  for (int call = 0; call < 10; ++call) engine.call(float(call));
  sleep_ns(5 * kMillisecond);
  CHECK_EQ(engine.counters().internal_runs, 0);
}

TEST("a verification waits while anything else runs or waits") {
  Gate first_gate;
  Gate last_gate;
  Verifying engine(verifying(1));
  trust(engine);
  engine.gates.at_1000 = &first_gate;
  engine.gates.at_2000 = &last_gate;
  const RequestPtr busy = engine.submit(1'000);
  REQUIRE(first_gate.await(1));
  const std::vector<RequestPtr> together = {request_for(engine.ledger, 1), request_for(engine.ledger, 2)};
  engine.submit_all(together);
  const RequestPtr behind = request_for(engine.ledger, 2'000, 1, kNever, /*width=*/3);
  engine.submit(behind);
  first_gate.open();
  REQUIRE(last_gate.await(1));
  for (const RequestPtr& request : together) CHECK(request->done());
  sleep_ns(2 * kMillisecond);
  CHECK_EQ(engine.counters().verified_requests, 2 * kProbes);
  last_gate.open();
  engine.await(behind);
  engine.await(busy);
  CHECK(eventually_verified(engine, 1));
}

TEST("what waits to be verified is dropped when the engine closes, and an unfinished one holds nobody up") {
  Gate gate;
  Verifying engine(verifying(1));
  trust(engine);
  share_a_run(engine, 4);
  engine.gates.others = 0;
  engine.gates.at_others = &gate;
  CHECK(eventually([&] { return engine.gates.others > 0 || engine.counters().verified_requests > 2 * kProbes; }));
  std::thread opener([&] {
    sleep_ns(kMillisecond);
    gate.open();
  });
  const CloseReport report = engine.close(true, from_now(kPatience));
  opener.join();
  CHECK_EQ(report.ended_requests, 0u);
  CHECK_EQ(report.abandoned_instances, 0u);
  CHECK_EQ(engine.counters().closed, 0);
}

TEST("verification, callers, cancellations and close race, and every request ends once") {
  const std::int64_t rounds = scaled(5);
  for (std::int64_t round = 0; round < rounds; ++round) {
    Verifying engine(verifying(1, /*instances=*/2));
    engine.warm_up();
    std::vector<std::thread> callers;
    std::atomic<int> wrong{0};
    for (int caller = 0; caller < 3; ++caller) {
      callers.emplace_back([&, caller] {
        for (int call = 0; call < 60; ++call) {
          const float first = float(1'000 * caller + 10 * call);
          const RequestPtr request = engine.submit_rows(first, 1 + call % 3 + (call % 20 == 0 ? 20 : 0));
          if (call % 7 == 0) engine.end_early(request, Outcome::cancelled);
          engine.await(request);
          if (request->outcome != Outcome::cancelled && !has_result(*request, first)) ++wrong;
          if (call % 10 == 0) sleep_ns(2 * kMillisecond);
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK_EQ(wrong, 0);
    CHECK_EQ(engine.counters().verification_failures, 0);
    engine.close(round % 2 == 0, kNever);
    engine.drain();
    CHECK_EQ(engine.ledger.held(), 0u);
  }
}

TEST("what waits to be verified is bounded in number and bytes, and given up when no instance is idle for long") {
  Ledger ledger;
  ReleaseList releases;
  const RequestPtr request = request_for(ledger, 1, 2);
  const Batch batch = {{request, 0, 2}, {request, 0, 2}};
  Verifications verifications(2);
  const auto add = [&](std::size_t bytes, Nanos now) {
    std::vector<OwnedTensor> given;
    given.push_back(copy_whole(request->inputs[0]));
    auto verification = std::make_unique<Verification>(batch[0], 0, std::move(given), 1);
    verification->bytes = bytes;
    verifications.add(std::move(verification), 5'000'000, now);
  };
  std::size_t waiting = 0;
  for (; verifications.wants(batch) && waiting < 1'000; ++waiting) add(1, 0);
  CHECK_EQ(waiting, Verifications::kMostWaiting);
  CHECK_EQ(verifications.due(100), 100 + 5'000'000);
  CHECK(verifications.take(0, 5'000'000 - 1) == nullptr);
  CHECK(verifications.take(0, 5'000'000) != nullptr);
  CHECK(verifications.wants(batch));
  CHECK(verifications.take(Verifications::kPatience, Verifications::kPatience) == nullptr);  // all too old
  CHECK_EQ(verifications.due(0), kNever);
  add(Verifications::kMostBytes, 0);
  CHECK(!verifications.wants(batch));
  CHECK(verifications.take(0, kNanosPerSecond) != nullptr);
  CHECK(verifications.wants(batch));
  CHECK(!Verifications::fits(Verifications::kMostBytes));
  request->release_inputs(releases);
  ledger.drain(releases);
}
