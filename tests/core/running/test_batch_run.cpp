// What an instance does with a batch: start, probe, run, and the word for those who wait.
#include <list>

#include "bench.h"
#include "running/batch_run.h"

using namespace fakes;

namespace {

const std::vector<std::string> kOutputs = {"plus_one", "row_numbers", "one"};

std::vector<RequestPtr> failed_in_part(BatchRun& batch) {
  std::vector<RequestPtr> failed;
  batch.withdraw_failed_parts([&](const RequestPtr& request) { failed.push_back(request); });
  return failed;
}

struct OneInstance {
  explicit OneInstance(std::vector<std::string> named = {"plus_one"}) : outputs(std::move(named)) {
    instance.backend = std::make_unique<FakeBackend>(model, 0);
  }
  ~OneInstance() {
    ledger.drain(releases);
    CHECK_EQ(ledger.held(), 0u);
  }
  // As the scheduler hands them out: not started yet.
  Decision decision(const std::vector<std::int64_t>& rows, bool probe = false) {
    Decision decision;
    for (const std::int64_t count : rows) {
      decision.batch.push_back(Bench::whole(request_for(ledger, float(100 * decision.batch.size() + 1), count)));
    }
    decision.probe = probe;
    return decision;
  }
  std::unique_ptr<BatchRun> run(const Decision& handed_out) {
    const Decision& decision = decisions.emplace_back(handed_out);  // a BatchRun does not keep it
    auto batch = std::make_unique<BatchRun>(instance, decision, outputs, kMaxRows, releases);
    batch->run();
    return batch;
  }

  static constexpr std::int64_t kMaxRows = 8;
  const std::vector<std::string> outputs;
  std::shared_ptr<FakeModel> model = std::make_shared<FakeModel>();
  Instance instance{0, true};
  ReleaseList releases;
  Ledger ledger;
  Counters counters;
  std::list<Decision> decisions;
};

}  // namespace

TEST("a batch starts its requests, runs them together and ends them") {
  OneInstance one;
  const Decision decision = one.decision({1, 3, 2});
  BatchRun batch(one.instance, decision, one.outputs, OneInstance::kMaxRows, one.releases);
  for (const Slice& slice : decision.batch) CHECK(slice.request->started());
  batch.run();
  CHECK_EQ(batch.runs().size(), 1u);
  CHECK(!batch.has_verdict());
  CHECK(batch.requeue() == nullptr);
  CHECK(failed_in_part(batch).empty());
  for (const Slice& slice : decision.batch) CHECK(!slice.request->ended());
  batch.notify(one.counters);
  for (std::size_t place = 0; place < 3; ++place) {
    CHECK(has_result(*decision.batch[place].request, float(100 * place + 1)));
  }
  CHECK_EQ(one.counters.results, 3);
}

TEST("all that counts with an end is counted before anybody can see that end") {
  OneInstance one;
  one.model->on_rows = [](const std::vector<float>& rows) {
    if (rows.back() == 101) throw std::runtime_error("no");
  };
  const Decision decision = one.decision({1, 1});
  Request& served = *decision.batch[0].request;
  Request& failing = *decision.batch[1].request;
  // What the second one held is let go of while both are being ended: somebody looks just then.
  bool looked = false;
  failing.failure.exception = std::shared_ptr<void>(&looked, [&](void*) {
    looked = true;
    CHECK(!served.done() || (one.counters.results == 1 && one.counters.result_ns > 0));
  });
  const auto batch = one.run(decision);
  batch->count_runs(one.counters);
  batch->notify(one.counters);
  CHECK(looked);
  CHECK(served.done() && failing.done());
  CHECK_EQ(one.counters.results, 1);
  CHECK_EQ(one.counters.errors, 1);
  CHECK_EQ(one.counters.executions, 3);
  CHECK(one.counters.result_ns > 0);
}

TEST("who has ended before the batch starts does not run, and its inputs are given back at once") {
  OneInstance one;
  const Decision decision = one.decision({1, 1, 1});
  CHECK(decision.batch[1].request->claim(Request::State::queued));
  BatchRun batch(one.instance, decision, one.outputs, OneInstance::kMaxRows, one.releases);
  one.ledger.drain(one.releases);
  CHECK_EQ(one.ledger.held(), 2u);
  batch.run();
  CHECK((one.model->batches() == std::vector<std::vector<float>>{{1, 201}}));
  batch.notify(one.counters);
  CHECK_EQ(one.counters.results, 2);
}

TEST("a batch whose requests have all ended runs nothing, and as a probe has found nothing out") {
  for (const bool probe : {false, true}) {
    OneInstance one;
    const Decision decision = one.decision({1, 1}, probe);
    for (const Slice& slice : decision.batch) CHECK(slice.request->claim(Request::State::queued));
    const auto batch = one.run(decision);
    CHECK(batch->runs().empty());
    CHECK_EQ(batch->has_verdict(), probe);
    if (probe) CHECK(batch->verdict().kind == ProbeVerdict::Kind::unclear);
    CHECK(batch->requeue() == nullptr);
    batch->notify(one.counters);
    CHECK_EQ(one.model->runs, 0);
  }
}

TEST("requests that are probed get what they gave alone, whatever they give together") {
  for (const bool same : {true, false}) {
    OneInstance one(same ? std::vector<std::string>{"plus_one"} : std::vector<std::string>{"plus_one", "row_numbers"});
    const auto batch = one.run(one.decision({1, 2}, /*probe=*/true));
    CHECK(batch->has_verdict());
    CHECK(batch->verdict().kind == (same ? ProbeVerdict::Kind::same : ProbeVerdict::Kind::different));
    const std::size_t together = same ? 2 : 1;  // in reversed order, too
    REQUIRE(batch->runs().size() == 2 + together);
    for (std::size_t run = 0; run < 2 + together; ++run) CHECK_EQ(batch->runs()[run].internal, run >= 2);
    batch->count_runs(one.counters);
    batch->notify(one.counters);
    CHECK_EQ(one.counters.results, 2);
    CHECK_EQ(one.counters.executions, 2);
    CHECK_EQ(one.counters.executed_rows, 3);
    CHECK_EQ(one.counters.internal_runs, std::int64_t(together));
    CHECK_EQ(one.counters.verified_requests, 2);
    CHECK_EQ(one.counters.verification_failures, same ? 0 : 1);
  }
}

TEST("a probe leaves out who fails alone, and finds nothing out where fewer than two are left") {
  for (const float second : {101.0f, 201.0f}) {
    OneInstance one(kOutputs);
    one.model->on_rows = [&](const std::vector<float>& rows) {
      if (rows[0] == 1 || rows[0] == second) throw std::runtime_error("no");
    };
    const Decision decision =
        one.decision(second == 201 ? std::vector<std::int64_t>{1, 1, 1} : std::vector<std::int64_t>{1, 1, 1, 1}, true);
    const auto batch = one.run(decision);
    using Kind = ProbeVerdict::Kind;
    CHECK(batch->verdict().kind == (second == 201 ? Kind::unclear : Kind::different));
    batch->notify(one.counters);
    CHECK_EQ(one.counters.errors, 2);
    CHECK_EQ(one.counters.results, second == 201 ? 1 : 2);
  }
}

TEST("a large request that may run in parts is put back, as it was") {
  OneInstance one;
  const Decision decision = one.decision({20}, /*probe=*/true);
  const RequestPtr& large = decision.batch[0].request;
  const auto batch = one.run(decision);
  CHECK(batch->requeue() == large);
  CHECK(batch->verdict().kind == ProbeVerdict::Kind::same);
  for (const RunRecord& run : batch->runs()) CHECK(run.internal);
  batch->notify(one.counters);
  CHECK(!large->ended());
  CHECK_EQ(one.counters.results, 0);
  one.ledger.drain(one.releases);
  CHECK_EQ(one.ledger.held(), 1u);
  large->release_inputs(one.releases);
}

TEST("a large request whose rows differ runs whole") {
  OneInstance one(kOutputs);
  const Decision decision = one.decision({20}, /*probe=*/true);
  const auto batch = one.run(decision);
  CHECK(batch->requeue() == nullptr);
  batch->notify(one.counters);
  CHECK(has_result(*decision.batch[0].request, 1));
}

TEST("rows that turn out to differ by the way are told, with the output's name") {
  OneInstance one(kOutputs);
  const Decision decision = one.decision({1, 1});
  for (const Slice& slice : decision.batch) slice.request->wanted = {0, 2};
  const auto batch = one.run(decision);
  CHECK(batch->has_verdict());
  CHECK(batch->verdict().kind == ProbeVerdict::Kind::different);
  CHECK_EQ(batch->verdict().reason, "output one has the shape [1] for 2 rows");
  batch->notify(one.counters);
  CHECK_EQ(one.counters.results, 2);
}

TEST("a request in parts ends with its last part, or with the first that fails") {
  OneInstance one;
  const RequestPtr large = request_for(one.ledger, 1, 6);
  Decision first;
  first.batch = {Bench::part(large, 0, 3)};
  Decision last;
  last.batch = {Bench::part(large, 3, 3)};
  one.run(first)->notify(one.counters);
  CHECK(!large->ended());
  one.run(last)->notify(one.counters);
  CHECK(has_result(*large, 1));
  CHECK_EQ(one.counters.results, 1);

  const RequestPtr bad = request_for(one.ledger, 1, 6);
  first.batch = {Bench::part(bad, 0, 3)};
  last.batch = {Bench::part(bad, 3, 3)};
  one.model->on_run = [](float) { throw std::runtime_error("no"); };
  const auto failing = one.run(first);
  CHECK(failed_in_part(*failing) == std::vector<RequestPtr>{bad});
  CHECK(!bad->ended());  // until it is told
  failing->notify(one.counters);
  CHECK_EQ(bad->outcome, Outcome::error);
  const int runs = one.model->runs;
  one.run(last)->notify(one.counters);
  CHECK_EQ(one.model->runs, runs);
  CHECK_EQ(one.counters.errors, 1);
}

TEST("the first run of a size on an instance is known as such") {
  OneInstance one;
  CHECK(one.run(one.decision({1, 1}))->runs().at(0).first_of_its_size);
  CHECK(!one.run(one.decision({2}))->runs().at(0).first_of_its_size);  // as many rows
  CHECK(one.run(one.decision({3}))->runs().at(0).first_of_its_size);
}

TEST("each request is told what happened to it") {
  OneInstance one;
  const std::vector<std::int64_t> sizes = {8};
  Decision decision = one.decision({1, 3, 2});
  decision.reason = DispatchReason::delay_expired;
  decision.predicted_ns = 12'345;
  for (std::size_t place = 0; place < 3; ++place) {
    Request& request = *decision.batch[place].request;
    request.arrival = 1'000 + Nanos(place);
    request.first_started = 5'000;
    request.hold_ns = 700;
  }
  one.model->run_ns = harness::kMillisecond;
  BatchRun batch(one.instance, decision, one.outputs, OneInstance::kMaxRows, one.releases, sizes);
  batch.run();
  batch.notify(one.counters);
  for (std::size_t place = 0; place < 3; ++place) {
    const Explanation& explanation = decision.batch[place].request->explanation;
    CHECK_EQ(explanation.queue_ns, 4'000 - Nanos(place));
    CHECK_EQ(explanation.hold_ns, 700);
    CHECK_EQ(explanation.predicted_ns, 12'345);
    CHECK(explanation.run_ns >= harness::kMillisecond);
    CHECK_EQ(explanation.batch_rows, 6);
    CHECK_EQ(explanation.padded_rows, 8);
    CHECK_EQ(explanation.instance, one.instance.index);
    CHECK(explanation.reason == DispatchReason::delay_expired);
  }
}

TEST("a request in parts is told of the part that ended last, and of its wait for the first") {
  OneInstance one;
  const RequestPtr large = request_for(one.ledger, 1, 6);
  large->arrival = 100;
  large->first_started = 300;
  Decision first;
  first.batch = {Bench::part(large, 0, 4)};
  first.reason = DispatchReason::full;
  Decision last;
  last.batch = {Bench::part(large, 4, 2)};
  last.reason = DispatchReason::idle;
  one.run(first)->notify(one.counters);
  one.run(last)->notify(one.counters);
  CHECK(has_result(*large, 1));
  CHECK_EQ(large->explanation.queue_ns, 200);
  CHECK_EQ(large->explanation.batch_rows, 2);
  CHECK(large->explanation.reason == DispatchReason::idle);
}

TEST("a request that failed is told the same") {
  OneInstance one;
  one.model->on_run = [](float) { throw std::runtime_error("no"); };
  Decision decision = one.decision({2});
  decision.reason = DispatchReason::unbatchable;
  one.run(decision)->notify(one.counters);
  CHECK_EQ(decision.batch[0].request->outcome, Outcome::error);
  CHECK_EQ(decision.batch[0].request->explanation.batch_rows, 2);
  CHECK(decision.batch[0].request->explanation.reason == DispatchReason::unbatchable);
}

TEST("what ran together when it turned out that rows may not is run again apart, and a part gives nothing") {
  OneInstance one;
  OutputRecord record;
  std::atomic<bool> unbatchable{false};
  one.model->on_run = [&](float) { unbatchable = true; };
  const RequestPtr large = request_for(one.ledger, 500, 6);
  Decision decision = one.decision({1, 2});
  decision.batch.push_back(Bench::part(large, 0, 3));
  BatchRun batch(one.instance, decision, one.outputs, OneInstance::kMaxRows, one.releases, kAnySize,
                 {&record, &unbatchable});
  batch.run();
  CHECK((one.model->batches() == std::vector<std::vector<float>>{{1, 101, 102, 500, 501, 502}, {1}, {101, 102}}));
  std::vector<RequestPtr> dropped;
  batch.drop_parts([&](const RequestPtr& request) { dropped.push_back(request); });
  CHECK(dropped == std::vector<RequestPtr>{large});
  batch.notify(one.counters);
  CHECK(has_result(*decision.batch[0].request, 1));
  CHECK(has_result(*decision.batch[1].request, 101));
  CHECK(!large->ended());
  large->release_inputs(one.releases);
}

TEST("a run alone whose rows have another size than in a run before shows that rows may not share runs") {
  OneInstance one({"plus_one", "row_numbers", "one"});
  OutputRecord record;
  const std::atomic<bool> unbatchable{false};
  const Decision decision = one.decision({2});
  decision.batch[0].request->wanted = {2};
  BatchRun batch(one.instance, decision, one.outputs, OneInstance::kMaxRows, one.releases, kAnySize,
                 {&record, &unbatchable});
  batch.run();
  CHECK(batch.verdict().kind == ProbeVerdict::Kind::different);
  CHECK_EQ(batch.verdict().reason, "output one has the shape [1] for 2 rows");
  batch.notify(one.counters);
  CHECK_EQ(one.counters.results, 1);  // all the same
}

TEST("a sample for verification is a copy of one request and of what it was given") {
  OneInstance one;
  OutputRecord record;
  const std::atomic<bool> unbatchable{false};
  Decision decision = one.decision({2, 1, 3});
  decision.verify = true;
  BatchRun batch(one.instance, decision, one.outputs, OneInstance::kMaxRows, one.releases, kAnySize,
                 {&record, &unbatchable});
  batch.run();
  batch.notify(one.counters);
  one.ledger.drain(one.releases);  // the callers' memory is gone
  const std::unique_ptr<Verification> sample = batch.take_sample();
  REQUIRE(sample != nullptr);
  CHECK(batch.take_sample() == nullptr);
  CHECK(sample->bytes > 0 && sample->request->outside_queue);
  Execution execution(*one.instance.backend, sample->batch, one.releases);
  execution.run(true);
  CHECK(sample->compare(execution.results()[0].outputs, one.outputs, record).kind == ProbeVerdict::Kind::same);
  static_cast<float*>(execution.results()[0].outputs[0].data.get())[0] += 1;
  const ProbeVerdict verdict = sample->compare(execution.results()[0].outputs, one.outputs, record);
  CHECK(verdict.kind == ProbeVerdict::Kind::different);
  CHECK(verdict.reason.find("output plus_one of a row differs by") == 0);
}

TEST("a sample of a part is one of its rows") {
  OneInstance one;
  OutputRecord record;
  const std::atomic<bool> unbatchable{false};
  const RequestPtr large = request_for(one.ledger, 500, 9);
  for (std::int64_t first = 0; first < 9; first += 3) {
    Decision decision;
    decision.batch = {Bench::part(large, first, 3)};
    decision.verify = true;
    BatchRun batch(one.instance, decision, one.outputs, OneInstance::kMaxRows, one.releases, kAnySize,
                   {&record, &unbatchable});
    batch.run();
    const std::unique_ptr<Verification> sample = batch.take_sample();
    batch.notify(one.counters);
    REQUIRE(sample != nullptr);
    Execution execution(*one.instance.backend, sample->batch, one.releases);
    execution.run(true);
    CHECK((one.model->batches().back() == std::vector<float>{float(500 + first + 1)}));
    CHECK(sample->compare(execution.results()[0].outputs, one.outputs, record).kind == ProbeVerdict::Kind::same);
  }
  CHECK(has_result(*large, 500));
}

TEST("a request in parts ends only when what each part has run is counted") {
  OneInstance one;
  const RequestPtr large = request_for(one.ledger, 1, 5);
  Decision first, last;
  first.batch = {Bench::part(large, 0, 3)};
  last.batch = {Bench::part(large, 3, 2)};
  const std::unique_ptr<BatchRun> ran_first = one.run(first);
  const std::unique_ptr<BatchRun> ran_last = one.run(last);
  ran_last->count_runs(one.counters);
  ran_last->notify(one.counters);
  CHECK(!large->ended());  // the first has run, and nobody has counted it yet
  ran_first->count_runs(one.counters);
  ran_first->notify(one.counters);
  CHECK(has_result(*large, 1));
  CHECK_EQ(one.counters.executed_rows, 5);
}
