// A batch that fails runs apart, until only the culprits fail.
#include <random>

#include "bench.h"

using namespace fakes;

namespace {

// So many requests of which those at `culprits` fail each batch that holds them.
struct Blame {
  Blame(std::size_t count, const std::set<std::size_t>& culprits) {
    std::vector<float> firsts;
    for (std::size_t place = 0; place < count; ++place) firsts.push_back(float(place));
    batch = bench.batch_of(firsts);
    bench.model->on_rows = [culprits](const std::vector<float>& rows) {
      for (const float row : rows) {
        if (culprits.count(std::size_t(row)) > 0) throw std::runtime_error("row " + std::to_string(int(row)));
      }
    };
    Execution execution(bench.backend, batch, bench.releases);
    execution.run(false);
    for (std::size_t place = 0; place < count; ++place) {
      const SliceResult& result = execution.results()[place];
      const bool culprit = culprits.count(place) > 0;
      CHECK_EQ(result.failed, culprit);
      if (culprit) {
        CHECK_EQ(result.failure.message, "row " + std::to_string(place));
      } else {
        CHECK(result.outputs.size() == 1 && holds_result(result.outputs[0], float(place), 1));
      }
    }
    runs = execution.runs().size();
    for (const RunRecord& ran : execution.runs()) failed += ran.failed;
  }
  Bench bench;
  Batch batch;
  std::size_t runs = 0;
  std::size_t failed = 0;
};

std::size_t log2_rounded_up(std::size_t count) {
  std::size_t log = 0;
  while ((std::size_t{1} << log) < count) ++log;
  return log;
}

}  // namespace

TEST("one culprit is found among any number by halves, and everybody else gets a result") {
  for (std::size_t count = 2; count <= 33; ++count) {
    for (std::size_t culprit = 0; culprit < count; ++culprit) {
      const Blame blame(count, {culprit});
      CHECK(blame.runs - 1 <= 2 * log2_rounded_up(count));
    }
  }
  CHECK_EQ(Blame(32, {17}).runs, 11u);
  CHECK_EQ(Blame(32, {}).runs, 1u);
}

TEST("several culprits are each found") {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    const std::size_t count = 2 + random() % 20;
    std::set<std::size_t> culprits;
    for (std::size_t place = 0; place < count; ++place) {
      if (random() % 4 == 0) culprits.insert(place);
    }
    const Blame blame(count, culprits);
    CHECK(blame.runs <= 2 * count);
  }
}

TEST("when all are culprits each fails with its own failure") {
  const Blame blame(8, {0, 1, 2, 3, 4, 5, 6, 7});
  CHECK_EQ(blame.failed, blame.runs);
  CHECK_EQ(blame.runs, 15u);
}

TEST("what fails together and not apart gives everybody a result") {
  Bench bench;
  const Batch batch = bench.batch_of({1, 2, 3, 4});
  bench.model->on_rows = [](const std::vector<float>& rows) {
    if (rows.size() > 1) throw std::runtime_error("too large");
  };
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  for (std::size_t place = 0; place < 4; ++place) {
    CHECK(!execution.results()[place].failed);
    CHECK(holds_result(execution.results()[place].outputs.at(0), float(place + 1), 1));
  }
  CHECK((rows_run(execution) == std::vector<std::int64_t>{4, 2, 1, 1, 2, 1, 1}));
}

TEST("who has ended is not run again alone, nor gets anything") {
  Bench bench;
  const Batch batch = bench.batch_of({1, 2, 3, 4});
  bench.model->on_rows = [&](const std::vector<float>& rows) {
    if (rows.size() == 4) batch[1].request->claim(Request::State::running);  // it gives up during the first run
    if (rows.size() == 1) CHECK(rows[0] != 2.0f);
    if (std::count(rows.begin(), rows.end(), 1.0f) > 0) throw std::runtime_error("no");
  };
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  CHECK((rows_run(execution) == std::vector<std::int64_t>{4, 2, 1, 2}));
  CHECK(execution.results()[0].failed);
  CHECK(execution.results()[1].outputs.empty() && !execution.results()[1].failed);
  CHECK(holds_result(execution.results()[3].outputs.at(0), 4, 1));
}

TEST("rows that differ only in a half run apart from there") {
  // Fails with four rows, and gives one row for any two.
  struct Odd final : Backend {
    void* input(std::size_t, DType dtype, const Shape& shape) override {
      rows = shape.dims[0];
      memory.resize(shape.bytes(dtype));
      return memory.data();
    }
    void run() override {
      if (rows == 4) throw std::runtime_error("too large");
    }
    TensorView output(std::size_t) override {
      TensorView view;
      view.shape.rank = 2;
      view.shape.dims[0] = 1;
      view.shape.dims[1] = 2;
      view.data = memory.data();
      return view;
    }
    std::int64_t rows = 0;
    std::vector<char> memory;
  } backend;
  Bench bench;
  const Batch batch = bench.batch_of({1, 2, 3, 4});
  Execution execution(backend, batch, bench.releases);
  execution.run(false);
  CHECK_EQ(execution.why_rows_differ(), "has the shape [1, 2] for 2 rows");
  for (const SliceResult& result : execution.results()) CHECK(!result.failed && result.outputs.size() == 1);
}

TEST("a failure anywhere in a batch is everybody's who has it alone, and gives the inputs back") {
  using At = BrokenBackend::At;
  for (const At at : {At::input, At::run, At::output}) {
    Bench bench;
    const Batch batch = bench.batch_of({1, 2});
    BrokenBackend backend(at, [] { throw std::runtime_error("broken"); });
    Execution execution(backend, batch, bench.releases);
    execution.run(false);
    for (const SliceResult& result : execution.results()) {
      CHECK(result.failed && result.outputs.empty());
      CHECK_EQ(result.failure.message, "broken");
    }
    CHECK_EQ(execution.runs().size(), 3u);
    bench.ledger.drain(bench.releases);
    CHECK_EQ(bench.ledger.held(), 0u);
  }
}

TEST("what is no C++ exception fails the request, too") {
  Bench bench;
  const Batch batch = bench.batch_of({1, 2});
  BrokenBackend backend(BrokenBackend::At::run, [] { throw 5; });
  Execution execution(backend, batch, bench.releases);
  execution.run(false);
  for (const SliceResult& result : execution.results()) CHECK(result.failed && !result.failure.message.empty());
}

TEST("a Python exception is kept, and let go of once") {
  Bench bench;
  int let_go = 0;
  {
    auto exception = std::shared_ptr<void>(&let_go, [](void* counter) { ++*static_cast<int*>(counter); });
    BrokenBackend backend(BrokenBackend::At::run, [&] { throw PythonFailure("ValueError: no", exception); });
    const Batch batch = bench.batch_of({1});
    Execution execution(backend, batch, bench.releases);
    execution.run(false);
    CHECK_EQ(execution.results()[0].failure.message, "ValueError: no");
    CHECK(execution.results()[0].failure.exception == exception);
    exception.reset();
    CHECK_EQ(let_go, 0);
  }
  CHECK_EQ(let_go, 1);
}

TEST("failed runs are noted as such, with their rows") {
  Bench bench;
  const Batch batch = {Bench::whole(bench.started(1, 3)), Bench::whole(bench.started(10, 2))};
  bench.model->on_rows = [](const std::vector<float>& rows) {
    if (rows.back() == 11.0f) throw std::runtime_error("no");
  };
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  CHECK((rows_run(execution) == std::vector<std::int64_t>{5, 3, 2}));
  CHECK(execution.runs()[0].failed && !execution.runs()[1].failed && execution.runs()[2].failed);
}
