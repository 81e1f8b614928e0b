// Parts of a request through a backend, among whole ones.
#include "bench.h"

using namespace fakes;

TEST("parts read their own rows and write them to their place, alone and among others") {
  Bench bench;
  const RequestPtr large = bench.started(100, 7);
  const RequestPtr small = bench.started(1, 2);
  const std::vector<Batch> batches = {
      {Bench::part(large, 0, 3)},
      {Bench::whole(small), Bench::part(large, 3, 2)},
      {Bench::part(large, 5, 2)},
  };
  for (std::size_t place = 0; place < 3; ++place) {
    Execution execution(bench.backend, batches[place], bench.releases);
    execution.run(false);
    CHECK_EQ(execution.runs().size(), 1u);
    const SliceResult& result = execution.results().back();
    CHECK(!result.failed && result.assembled && result.outputs.empty());
    CHECK_EQ(large->partial_result->finish_part(batches[place].back().rows), place == 2);
    if (place == 1) CHECK(holds_result(execution.results()[0].outputs.at(0), 1, 2));
  }
  CHECK(holds_result(large->partial_result->take().at(0), 100, 7));
  CHECK((bench.model->batches() == std::vector<std::vector<float>>{{100, 101, 102}, {1, 2, 103, 104}, {105, 106}}));
}

TEST("parts may end in any order, and the last one to end is the complete one") {
  Bench bench;
  const RequestPtr large = bench.started(5, 6);
  const Batch first = {Bench::part(large, 0, 2)};
  const Batch second = {Bench::part(large, 2, 2)};
  const Batch third = {Bench::part(large, 4, 2)};
  for (const Batch* batch : {&third, &first, &second}) {
    Execution execution(bench.backend, *batch, bench.releases);
    execution.run(false);
    CHECK_EQ(large->partial_result->finish_part(2), batch == &second);
  }
  CHECK(holds_result(large->partial_result->take().at(0), 5, 6));
}

TEST("each part lets go of the inputs once, and the last gives them back") {
  Bench bench;
  const RequestPtr large = bench.started(5, 6);
  for (std::int64_t part = 0; part < 3; ++part) {
    CHECK(bench.releases.take().empty());
    const Batch batch = {Bench::part(large, 2 * part, 2)};
    Execution(bench.backend, batch, bench.releases).run(false);
  }
  bench.ledger.drain(bench.releases);
  CHECK_EQ(bench.ledger.held(), 0u);
}

TEST("a part fails with its own failure, and its neighbours do not") {
  Bench bench;
  const RequestPtr large = bench.started(100, 4);
  const RequestPtr small = bench.started(1);
  bench.model->on_rows = [](const std::vector<float>& rows) {
    if (std::count(rows.begin(), rows.end(), 101.0f) > 0) throw std::runtime_error("no");
  };
  const Batch batch = {Bench::part(large, 0, 2), Bench::whole(small)};
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  CHECK(execution.results()[0].failed && !execution.results()[0].assembled);
  CHECK_EQ(execution.results()[0].failure.message, "no");
  CHECK(holds_result(execution.results()[1].outputs.at(0), 1, 1));
  const Batch rest = {Bench::part(large, 2, 2)};
  Execution(bench.backend, rest, bench.releases).run(false);
}

TEST("parts of a model whose outputs do not follow the rows cannot be joined, and their request has to run whole") {
  Bench bench;
  const RequestPtr large = bench.started(100, 4);
  const RequestPtr small = bench.started(1);
  large->wanted = {2};
  for (const bool beside : {false, true}) {
    Batch batch = {Bench::part(large, beside ? 2 : 0, 2)};
    if (beside) batch.push_back(Bench::whole(small));
    Execution execution(bench.backend, batch, bench.releases);
    execution.run(false);
    CHECK(execution.results()[0].in_one_run && !execution.results()[0].failed && !execution.results()[0].assembled);
    CHECK(execution.why_rows_differ().find("has the shape [1] for") == 0);
    if (beside) CHECK(holds_result(execution.results()[1].outputs.at(0), 1, 1));
  }
}

TEST("a part whose rows are not those of the parts before cannot be joined with them") {
  Bench bench;
  const RequestPtr large = bench.started(100, 4);
  const Batch first = {Bench::part(large, 0, 2)};
  Execution(bench.backend, first, bench.releases).run(false);
  large->wanted = {1};  // as if the output had changed
  const Batch second = {Bench::part(large, 2, 2)};
  Execution execution(bench.backend, second, bench.releases);
  execution.run(false);
  CHECK(execution.results()[0].in_one_run && !execution.results()[0].failed);
}

TEST("a part of one row whose output has one row by chance is joined") {
  Bench bench;
  const RequestPtr large = bench.started(100, 2);
  large->wanted = {2};
  for (std::int64_t row = 0; row < 2; ++row) {
    const Batch batch = {Bench::part(large, row, 1)};
    Execution execution(bench.backend, batch, bench.releases);
    execution.run(false);
    CHECK(!execution.results()[0].failed);
  }
  const std::vector<OwnedTensor> outputs = large->partial_result->take();
  CHECK_EQ(outputs.at(0).shape.dims[0], 2);
}

TEST("a part of a request that has ended meanwhile writes nothing") {
  Bench bench;
  const RequestPtr large = bench.started(100, 4);
  bench.model->on_run = [&](float) { large->claim(Request::State::running); };
  const Batch batch = {Bench::part(large, 0, 2)};
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  CHECK(!execution.results()[0].assembled && !execution.results()[0].failed);
  CHECK(large->partial_result->take().empty());
  const Batch rest = {Bench::part(large, 2, 2)};
  Execution(bench.backend, rest, bench.releases).run(false);  // it does not run any more
  CHECK_EQ(bench.model->runs, 1);
}
