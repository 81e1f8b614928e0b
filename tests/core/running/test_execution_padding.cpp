// Batches padded to the sizes that the model may see.
#include "bench.h"
#include "engine.h"

using namespace fakes;

namespace {

const std::vector<std::int64_t> kSizes = {2, 4, 8};

}  // namespace

TEST("a batch is padded to the next size with its last row, and nobody gets the padding") {
  Bench bench;
  const Batch batch = {Bench::whole(bench.started(10, 1)), Bench::whole(bench.started(20, 2))};
  Execution execution(bench.backend, batch, bench.releases, kSizes);
  execution.run(false);
  CHECK((bench.model->batches() == std::vector<std::vector<float>>{{10, 20, 21, 21}}));
  for (std::size_t place = 0; place < 2; ++place) {
    REQUIRE(execution.results()[place].outputs.size() == 1);
    CHECK(holds_result(execution.results()[place].outputs[0], float(10 * (place + 1)), batch[place].rows));
  }
  REQUIRE(execution.runs().size() == 1);
  CHECK_EQ(execution.runs()[0].rows, 3);
  CHECK_EQ(execution.runs()[0].padded_rows, 4);
}

TEST("a lone request is padded and cropped, too") {
  for (const std::int64_t rows : {1, 3, 5, 7}) {
    Bench bench;
    const Batch batch = {Bench::whole(bench.started(10, rows))};
    Execution execution(bench.backend, batch, bench.releases, kSizes);
    execution.run(false);
    CHECK_EQ(execution.runs().at(0).padded_rows, rows == 1 ? 2 : rows == 3 ? 4 : 8);
    CHECK_EQ(std::int64_t(bench.model->most_rows()), execution.runs().at(0).padded_rows);
    CHECK(holds_result(execution.results()[0].outputs.at(0), 10, rows));
  }
}

TEST("a batch of such a size, or of more rows than any, runs as it is") {
  for (const std::int64_t rows : {2, 4, 8, 9, 30}) {
    Bench bench;
    const Batch batch = {Bench::whole(bench.started(10, rows))};
    Execution execution(bench.backend, batch, bench.releases, kSizes);
    execution.run(false);
    CHECK_EQ(execution.runs().at(0).padded_rows, rows);
    CHECK_EQ(std::int64_t(bench.model->most_rows()), rows);
    CHECK(holds_result(execution.results()[0].outputs.at(0), 10, rows));
  }
}

TEST("a part is padded like a batch, and its rows go to their place") {
  Bench bench;
  const RequestPtr large = bench.started(10, 8);
  const Batch five = {Bench::part(large, 0, 5)};
  Execution first(bench.backend, five, bench.releases, kSizes);
  first.run(false);
  const Batch three = {Bench::part(large, 5, 3)};
  Execution last(bench.backend, three, bench.releases, kSizes);
  last.run(false);
  const std::vector<float> five_padded = {10, 11, 12, 13, 14, 14, 14, 14};
  const std::vector<float> three_padded = {15, 16, 17, 17};
  CHECK((bench.model->batches() == std::vector<std::vector<float>>{five_padded, three_padded}));
  CHECK(!large->partial_result->finish_part(5) && large->partial_result->finish_part(3));
  CHECK(holds_result(large->partial_result->take().at(0), 10, 8));
}

TEST("the halves of a batch that fails are padded each for itself") {
  Bench bench;
  const Batch batch = bench.batch_of({1, 2, 3, 4, 5, 6});
  bench.model->on_rows = [](const std::vector<float>& rows) {
    if (std::count(rows.begin(), rows.end(), 2.0f) > 0) throw std::runtime_error("no");
  };
  Execution execution(bench.backend, batch, bench.releases, kSizes);
  execution.run(false);
  for (const RunRecord& ran : execution.runs()) {
    CHECK_EQ(ran.padded_rows, ran.rows <= 2 ? 2 : ran.rows <= 4 ? 4 : 8);
  }
  for (std::size_t place = 0; place < batch.size(); ++place) {
    CHECK_EQ(execution.results()[place].failed, place == 1);
    if (place != 1) CHECK(holds_result(execution.results()[place].outputs.at(0), float(place + 1), 1));
  }
}

TEST("an output without the batch's rows cannot be cropped, so its request runs as it is") {
  Bench bench;
  const Batch batch = bench.batch_of({1});
  batch[0].request->wanted = {0, 2};
  Execution execution(bench.backend, batch, bench.releases, kSizes);
  execution.run(false);
  CHECK(!execution.results()[0].failed);
  CHECK(holds_result(execution.results()[0].outputs.at(0), 1, 1));
  CHECK_EQ(execution.results()[0].outputs.size(), 2u);
  CHECK_EQ(execution.why_rows_differ(), "has the shape [1] for 2 rows");
  CHECK_EQ(bench.model->runs, 2);
}

TEST("a batch does not run when all its requests have ended since it was gathered") {
  Bench bench;
  const Batch batch = bench.batch_of({1, 2, 3});
  for (const Slice& slice : batch) CHECK(slice.request->claim(Request::State::running));
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  CHECK_EQ(bench.model->runs, 0);
  CHECK(execution.runs().empty());
  for (const SliceResult& result : execution.results()) CHECK(!result.failed && result.outputs.empty());
  bench.ledger.drain(bench.releases);
  CHECK_EQ(bench.ledger.held(), 0u);
  Bench other;
  const Batch lives = other.batch_of({1, 2, 3});
  CHECK(lives[0].request->claim(Request::State::running));
  Execution(other.backend, lives, other.releases).run(false);
  CHECK_EQ(other.model->runs, 1);  // for the two who wait
}

TEST("an engine pads to its sizes, and tells how much") {
  EngineOptions options;
  options.batch_sizes = kSizes;
  Engine engine(options);
  for (const std::int64_t rows : {1, 2, 3, 7, 8}) {
    engine.model->forget_batches();
    const RequestPtr request = engine.submit_rows(5, rows);
    engine.await(request);
    CHECK(has_result(*request, 5));
    CHECK_EQ(request->explanation.batch_rows, rows);
    CHECK_EQ(request->explanation.padded_rows, std::int64_t(engine.model->most_rows()));
    CHECK_EQ(request->explanation.padded_rows, rows <= 2 ? 2 : rows <= 4 ? 4 : 8);
  }
  CHECK_EQ(engine.dispatcher->counters().executed_rows, 1 + 2 + 3 + 7 + 8);  // padding does not count
}
