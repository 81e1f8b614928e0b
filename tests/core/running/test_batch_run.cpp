// What an instance does with a batch: start, probe, run, and the word for those who wait.
#include <list>

#include "batch_run.h"
#include "bench.h"

using namespace fakes;

namespace {

const std::vector<std::string> kOutputs = {"plus_one", "row_numbers", "one"};

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
  CHECK(batch.put_back() == nullptr);
  CHECK(batch.failed_in_part().empty());
  for (const Slice& slice : decision.batch) CHECK(!slice.request->ended());
  batch.tell(one.counters);
  for (std::size_t place = 0; place < 3; ++place) {
    CHECK(has_result(*decision.batch[place].request, float(100 * place + 1)));
  }
  CHECK_EQ(one.counters.results, 3);
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
  batch.tell(one.counters);
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
    CHECK(batch->put_back() == nullptr);
    batch->tell(one.counters);
    CHECK_EQ(one.model->runs, 0);
  }
}

TEST("a probe that finds rows the same runs the batch together, one that does not runs it apart") {
  for (const bool same : {true, false}) {
    OneInstance one(same ? std::vector<std::string>{"plus_one"} : kOutputs);
    const auto batch = one.run(one.decision({1, 2}, /*probe=*/true));
    CHECK(batch->has_verdict());
    CHECK(batch->verdict().kind == (same ? ProbeVerdict::Kind::same : ProbeVerdict::Kind::different));
    CHECK_EQ(batch->runs().size(), same ? 1u : 2u);
    batch->tell(one.counters);
    CHECK_EQ(one.counters.results, 2);
  }
}

TEST("a large request that may run in parts is put back, as it was") {
  OneInstance one;
  const Decision decision = one.decision({20}, /*probe=*/true);
  const RequestPtr& large = decision.batch[0].request;
  const auto batch = one.run(decision);
  CHECK(batch->put_back() == large);
  CHECK(batch->verdict().kind == ProbeVerdict::Kind::same);
  CHECK(batch->runs().empty());
  batch->tell(one.counters);
  CHECK(!large->ended());
  CHECK_EQ(one.counters.results, 0);
  one.ledger.drain(one.releases);
  CHECK_EQ(one.ledger.held(), 1u);
  large->let_go_of_inputs(one.releases);
}

TEST("a large request whose rows differ runs whole") {
  OneInstance one(kOutputs);
  const Decision decision = one.decision({20}, /*probe=*/true);
  const auto batch = one.run(decision);
  CHECK(batch->put_back() == nullptr);
  batch->tell(one.counters);
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
  batch->tell(one.counters);
  CHECK_EQ(one.counters.results, 2);
}

TEST("a request in parts ends with its last part, or with the first that fails") {
  OneInstance one;
  const RequestPtr large = request_for(one.ledger, 1, 6);
  Decision first;
  first.batch = {Bench::part(large, 0, 3)};
  Decision last;
  last.batch = {Bench::part(large, 3, 3)};
  one.run(first)->tell(one.counters);
  CHECK(!large->ended());
  one.run(last)->tell(one.counters);
  CHECK(has_result(*large, 1));
  CHECK_EQ(one.counters.results, 1);

  const RequestPtr bad = request_for(one.ledger, 1, 6);
  first.batch = {Bench::part(bad, 0, 3)};
  last.batch = {Bench::part(bad, 3, 3)};
  one.model->on_run = [](float) { throw std::runtime_error("no"); };
  const auto failing = one.run(first);
  CHECK(failing->failed_in_part() == std::vector<RequestPtr>{bad});
  CHECK(!bad->ended());  // until it is told
  failing->tell(one.counters);
  CHECK_EQ(bad->outcome, Outcome::error);
  const int runs = one.model->runs;
  one.run(last)->tell(one.counters);
  CHECK_EQ(one.model->runs, runs);
  CHECK_EQ(one.counters.errors, 1);
}

TEST("the first run of a size on an instance is known as such") {
  OneInstance one;
  CHECK(one.run(one.decision({1, 1}))->runs().at(0).first_of_its_size);
  CHECK(!one.run(one.decision({2}))->runs().at(0).first_of_its_size);  // as many rows
  CHECK(one.run(one.decision({3}))->runs().at(0).first_of_its_size);
  SizesRun sizes;
  CHECK(sizes.note(7, 1));
  CHECK(sizes.note(7, 2));
  CHECK(sizes.note(8, 1));  // of another shape
  for (const auto& [signature, rows] : {std::pair{7, 1}, {7, 2}, {8, 1}}) CHECK(!sizes.note(signature, rows));
}

TEST("the sizes an instance has run do not grow without end") {
  SizesRun sizes;
  constexpr std::uint64_t kSizes = 20'000;
  for (std::uint64_t signature = 1; signature <= kSizes; ++signature) sizes.note(signature, 1);
  std::uint64_t known = 0;
  while (known < kSizes && !sizes.note(kSizes - known, 1)) ++known;
  CHECK(known >= 1 && known <= 4'096);
}

TEST("each request is told what happened to it") {
  OneInstance one;
  const std::vector<std::int64_t> sizes = {8};
  Decision decision = one.decision({1, 3, 2});
  decision.reason = DispatchReason::held_over;
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
  batch.tell(one.counters);
  for (std::size_t place = 0; place < 3; ++place) {
    const Explanation& explanation = decision.batch[place].request->explanation;
    CHECK_EQ(explanation.queue_ns, 4'000 - Nanos(place));
    CHECK_EQ(explanation.hold_ns, 700);
    CHECK_EQ(explanation.predicted_ns, 12'345);
    CHECK(explanation.run_ns >= harness::kMillisecond);
    CHECK_EQ(explanation.batch_rows, 6);
    CHECK_EQ(explanation.padded_rows, 8);
    CHECK_EQ(explanation.instance, one.instance.index);
    CHECK(explanation.reason == DispatchReason::held_over);
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
  one.run(first)->tell(one.counters);
  one.run(last)->tell(one.counters);
  CHECK(has_result(*large, 1));
  CHECK_EQ(large->explanation.queue_ns, 200);
  CHECK_EQ(large->explanation.batch_rows, 2);
  CHECK(large->explanation.reason == DispatchReason::idle);
}

TEST("a request that failed is told the same") {
  OneInstance one;
  one.model->on_run = [](float) { throw std::runtime_error("no"); };
  Decision decision = one.decision({2});
  decision.reason = DispatchReason::alone;
  one.run(decision)->tell(one.counters);
  CHECK_EQ(decision.batch[0].request->outcome, Outcome::error);
  CHECK_EQ(decision.batch[0].request->explanation.batch_rows, 2);
  CHECK(decision.batch[0].request->explanation.reason == DispatchReason::alone);
}
