// One batch through a backend: gather, run, scatter, and the inputs given back.
#include "bench.h"

using namespace fakes;

TEST("each request of a batch gets its own rows back, from one run") {
  Bench bench;
  const Batch batch = {Bench::whole(bench.started(10, 1)), Bench::whole(bench.started(20, 3)),
                       Bench::whole(bench.started(30, 2))};
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  REQUIRE(execution.results().size() == 3);
  for (std::size_t place = 0; place < 3; ++place) {
    const SliceResult& result = execution.results()[place];
    CHECK(!result.failed && !result.assembled);
    REQUIRE(result.outputs.size() == 1);
    CHECK(holds_result(result.outputs[0], float(10 * (place + 1)), batch[place].rows));
  }
  CHECK(rows_run(execution) == std::vector<std::int64_t>{6});
  CHECK(!execution.runs()[0].failed);
  CHECK_EQ(bench.model->runs, 1);
  CHECK(!execution.rows_differ());
}

TEST("several inputs are gathered each into their own") {
  struct Adder final : Backend {
    void* input(std::size_t index, DType dtype, const Shape& shape) override {
      CHECK(dtype == (index == 0 ? DType::float32 : DType::int32));
      shapes[index] = shape;
      memory[index].resize(shape.bytes(dtype));
      return memory[index].data();
    }
    void run() override {
      const auto* numbers = reinterpret_cast<const float*>(memory[0].data());
      const auto* more = reinterpret_cast<const std::int32_t*>(memory[1].data());
      sums.clear();
      for (std::int64_t row = 0; row < shapes[0].dims[0]; ++row) sums.push_back(numbers[row] + float(more[row]));
    }
    TensorView output(std::size_t) override {
      TensorView view;
      view.shape.rank = 1;
      view.shape.dims[0] = std::int64_t(sums.size());
      view.data = sums.data();
      return view;
    }
    Shape shapes[2];
    std::vector<char> memory[2];
    std::vector<float> sums;
  } backend;
  const std::vector<float> numbers = {1, 2, 3};
  const std::vector<std::int32_t> more = {10, 20, 30};
  const auto request_at = [&](std::int64_t first, std::int64_t rows) {
    auto request = std::make_shared<Request>();
    TensorView view;
    view.shape.rank = 1;
    view.shape.dims[0] = rows;
    view.data = numbers.data() + first;
    request->inputs.push_back(view);
    view.dtype = DType::int32;
    view.data = more.data() + first;
    request->inputs.push_back(view);
    request->rows = rows;
    request->wanted = {0};
    request->start();
    return request;
  };
  ReleaseList releases;
  const Batch batch = {Bench::whole(request_at(1, 2)), Bench::whole(request_at(0, 1))};
  Execution execution(backend, batch, releases);
  execution.run(false);
  CHECK_EQ(floats(execution.results()[0].outputs.at(0))[0], 22.0f);
  CHECK_EQ(floats(execution.results()[0].outputs.at(0))[1], 33.0f);
  CHECK_EQ(floats(execution.results()[1].outputs.at(0))[0], 11.0f);
}

TEST("outputs come in the order wanted, and as often") {
  Bench bench;
  const Batch batch = {Bench::whole(bench.started(10, 2)), Bench::whole(bench.started(20, 2))};
  batch[0].request->wanted = {1, 0, 1};
  batch[1].request->wanted = {1};
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  const std::vector<SliceResult>& ends = execution.results();
  REQUIRE(ends[0].outputs.size() == 3 && ends[1].outputs.size() == 1);
  CHECK(ends[0].outputs[0].dtype == DType::int64);
  CHECK(ends[0].outputs[1].dtype == DType::float32);
  CHECK_EQ(static_cast<const std::int64_t*>(ends[0].outputs[2].data.get())[1], 1);
  CHECK_EQ(static_cast<const std::int64_t*>(ends[1].outputs[0].data.get())[0], 2);
}

TEST("a backend's memory becomes the result of a request that runs alone, and of no other") {
  struct Giver final : Backend {
    void* input(std::size_t, DType dtype, const Shape& given) override {
      shape = given;
      memory = allocate(shape.bytes(dtype));
      return memory.get();
    }
    void run() override {}
    TensorView output(std::size_t) override { return {DType::float32, shape, memory.get()}; }
    Memory take_output(std::size_t) override {
      ++asked;
      return std::move(memory);
    }
    Shape shape;
    Memory memory;
    int asked = 0;
  } backend;
  Bench bench;
  const Batch alone = {Bench::whole(bench.started(10, 2))};
  alone[0].request->wanted = {0, 0};
  Execution execution(backend, alone, bench.releases);
  execution.run(false);
  const std::vector<OwnedTensor>& outputs = execution.results()[0].outputs;
  REQUIRE(outputs.size() == 2);
  CHECK_EQ(backend.asked, 2);
  CHECK(outputs[0].data.get() != outputs[1].data.get());
  CHECK(outputs[0].recycled && !outputs[1].recycled);
  for (const OwnedTensor& output : outputs) {
    CHECK_EQ(text_of(output.shape), "[2, 2]");
    CHECK_EQ(floats(output)[0], 10.f);
  }
  const Batch together = bench.batch_of({1, 2});
  Execution(backend, together, bench.releases).run(false);
  CHECK_EQ(backend.asked, 2);
}

TEST("the inputs of a lone request are given back before the run, not after it") {
  Bench bench;
  const Batch batch = bench.batch_of({1});
  std::size_t released = 0;
  bench.model->on_run = [&](float) {
    bench.ledger.drain(bench.releases);
    released = 1 - bench.ledger.held();
  };
  Execution(bench.backend, batch, bench.releases).run(false);
  CHECK_EQ(released, 1u);
  CHECK(bench.releases.take().empty());
}

TEST("the inputs of a batch of several are held until its last run") {
  Bench bench;
  const Batch batch = bench.batch_of({1, 2, 3, 4});
  int runs = 0;
  bench.model->on_rows = [&](const std::vector<float>& rows) {
    ++runs;
    CHECK(bench.releases.take().empty());
    if (std::count(rows.begin(), rows.end(), 3.0f) > 0) throw std::runtime_error("no");
  };
  Execution(bench.backend, batch, bench.releases).run(false);
  CHECK_EQ(runs, 5);
  const std::vector<void*> released = bench.releases.take();
  CHECK_EQ(released.size(), 4u);
  for (void* object : released) bench.ledger.give_back(object);
}

TEST("the inputs of a lone request that fails are given back, once") {
  using At = BrokenBackend::At;
  for (const At at : {At::input, At::run, At::output}) {
    Bench bench;
    const Batch batch = bench.batch_of({1});
    BrokenBackend backend(at, [] { throw std::runtime_error("broken"); });
    Execution execution(backend, batch, bench.releases);
    execution.run(false);
    CHECK(execution.results()[0].failed);
    CHECK_EQ(execution.results()[0].failure.message, "broken");
    bench.ledger.drain(bench.releases);
    CHECK_EQ(bench.ledger.held(), 0u);
  }
}

TEST("a lone request that has ended before its run does not run, and its inputs are given back") {
  Bench bench;
  const Batch batch = bench.batch_of({1});
  CHECK(batch[0].request->claim(Request::State::running));
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  CHECK_EQ(bench.model->runs, 0);
  CHECK(execution.runs().empty());
  bench.ledger.drain(bench.releases);
  CHECK_EQ(bench.ledger.held(), 0u);
}

TEST("nothing is copied out for who has ended meanwhile") {
  Bench bench;
  const Batch batch = bench.batch_of({10, 20, 30});
  bench.model->on_run = [&](float) { batch[1].request->claim(Request::State::running); };
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  CHECK(execution.results()[1].outputs.empty());
  REQUIRE(execution.results()[2].outputs.size() == 1);
  CHECK(holds_result(execution.results()[2].outputs[0], 30, 1));
}

TEST("a lone request gets the whole output, whatever its rows") {
  Bench bench;
  const RequestPtr request = bench.started(5, 4);
  request->rows = 1;  // as for a model whose rows do not follow the batch
  request->wanted = {0, 2};
  const Batch batch = {Bench::whole(request)};
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  CHECK(!execution.results()[0].failed);
  CHECK_EQ(execution.results()[0].outputs.at(0).shape.dims[0], 4);
  CHECK_EQ(execution.results()[0].outputs.at(1).shape.dims[0], 1);
  CHECK(!execution.rows_differ());
}

TEST("apart, each request runs by itself from the start") {
  Bench bench;
  const Batch batch = {Bench::whole(bench.started(10, 1)), Bench::whole(bench.started(20, 3)),
                       Bench::whole(bench.started(30, 2))};
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(/*apart=*/true);
  CHECK((rows_run(execution) == std::vector<std::int64_t>{1, 3, 2}));
  for (std::size_t place = 0; place < 3; ++place) {
    CHECK(holds_result(execution.results()[place].outputs.at(0), float(10 * (place + 1)), batch[place].rows));
  }
}

TEST("a model whose output does not have the batch's rows runs each request by itself, and says which output") {
  Bench bench;
  const Batch batch = bench.batch_of({10, 20, 30});
  for (const Slice& slice : batch) slice.request->wanted = {0, 2};
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  CHECK_EQ(execution.why_rows_differ(), "has the shape [1] for 3 rows");
  CHECK_EQ(execution.differing_output(), 2u);
  CHECK((rows_run(execution) == std::vector<std::int64_t>{3, 1, 1, 1}));
  for (std::size_t place = 0; place < 3; ++place) {
    CHECK(!execution.results()[place].failed);
    REQUIRE(execution.results()[place].outputs.size() == 2);
    CHECK(holds_result(execution.results()[place].outputs[0], float(10 * (place + 1)), 1));
  }
}

TEST("who had its rows copied before the batch turned out not to be mergeable gets each output once") {
  Bench bench;
  const Batch batch = bench.batch_of({10, 20});
  batch[1].request->wanted = {2};  // the first one's output is fine, and copied
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  CHECK(execution.rows_differ());
  REQUIRE(execution.results()[0].outputs.size() == 1);
  CHECK(holds_result(execution.results()[0].outputs[0], 10, 1));
  CHECK_EQ(execution.results()[1].outputs.size(), 1u);
}

TEST("an output that nobody wants may have whatever shape") {
  Bench bench;
  const Batch batch = bench.batch_of({10, 20});
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  CHECK(!execution.rows_differ());
  CHECK_EQ(execution.runs().size(), 1u);
}

TEST("the stage in which a run fails is measured as far as it came") {
  Bench bench;
  bench.model->on_run = [](float) {
    harness::sleep_ns(3 * harness::kMillisecond);
    throw std::runtime_error("no");
  };
  const Batch batch = bench.batch_of({1});
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  const RunRecord& ran = execution.runs().at(0);
  CHECK(ran.failed && ran.began > 0 && ran.gather_ns > 0);
  CHECK(ran.run_ns >= 3 * harness::kMillisecond);
  CHECK_EQ(ran.scatter_ns, 0);
}

TEST("the time of the run alone is measured") {
  Bench bench;
  bench.model->on_run = [](float) { harness::sleep_ns(3 * harness::kMillisecond); };
  const Batch batch = bench.batch_of({1, 2});
  Execution execution(bench.backend, batch, bench.releases);
  execution.run(false);
  CHECK(execution.runs().at(0).run_ns >= 3 * harness::kMillisecond);
}
