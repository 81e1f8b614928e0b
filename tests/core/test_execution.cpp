// One batch through a backend: gather, run, scatter, and the inputs given back.
#include "fakes.h"
#include "instance.h"

using namespace fakes;

namespace {

struct Bench {
  std::shared_ptr<FakeModel> model = std::make_shared<FakeModel>();
  FakeBackend backend{model, 0};
  ReleaseList releases;
  Ledger ledger;

  RequestPtr started(float first, std::int64_t rows = 1) {
    RequestPtr request = request_for(ledger, first, rows);
    request->start();
    return request;
  }
};

// Fails where the test says.
class BrokenBackend final : public Backend {
 public:
  enum class At { input, run, output };
  BrokenBackend(At at, std::function<void()> fail) : at_(at), fail_(std::move(fail)) {}
  void* input(std::size_t, DType dtype, const Shape& shape) override {
    if (at_ == At::input) fail_();
    memory_.resize(shape.bytes(dtype));
    return memory_.data();
  }
  void run() override {
    if (at_ == At::run) fail_();
  }
  TensorView output(std::size_t) override {
    if (at_ == At::output) fail_();
    return {};
  }

 private:
  const At at_;
  const std::function<void()> fail_;
  std::vector<char> memory_;
};

}  // namespace

TEST("each request of a batch gets its own rows back") {
  Bench bench;
  const Batch batch = {bench.started(10, 1), bench.started(20, 3), bench.started(30, 2)};
  const Execution execution = execute(bench.backend, batch, bench.releases);
  REQUIRE(!execution.failed && execution.outputs.size() == 3);
  for (std::size_t place = 0; place < batch.size(); ++place) {
    REQUIRE(execution.outputs[place].size() == 1);
    const OwnedTensor& tensor = execution.outputs[place][0];
    CHECK_EQ(tensor.shape.dims[0], batch[place]->rows);
    for (std::int64_t row = 0; row < batch[place]->rows; ++row) {
      CHECK_EQ(floats(tensor)[2 * row], float(10 * (place + 1)) + float(row) + 1);
    }
  }
  CHECK_EQ(bench.model->runs, 1);
  bench.ledger.drain(bench.releases);
}

TEST("outputs come in the order wanted, and as often") {
  Bench bench;
  const Batch batch = {bench.started(10, 2), bench.started(20, 2)};
  batch[0]->wanted = {1, 0, 1};
  batch[1]->wanted = {1};
  const Execution execution = execute(bench.backend, batch, bench.releases);
  REQUIRE(execution.outputs[0].size() == 3 && execution.outputs[1].size() == 1);
  CHECK(execution.outputs[0][0].dtype == DType::int64);
  CHECK(execution.outputs[0][1].dtype == DType::float32);
  CHECK_EQ(static_cast<const std::int64_t*>(execution.outputs[0][2].data.get())[1], 1);
  CHECK_EQ(static_cast<const std::int64_t*>(execution.outputs[1][0].data.get())[0], 2);
  bench.ledger.drain(bench.releases);
}

TEST("inputs are given back before the run, not after it") {
  Bench bench;
  const Batch batch = {bench.started(1), bench.started(2)};
  std::size_t released = 0;
  bench.model->on_run = [&](float) {
    const std::vector<void*> taken = bench.releases.take();
    released = taken.size();
    for (void* object : taken) bench.ledger.give_back(object);
  };
  execute(bench.backend, batch, bench.releases);
  CHECK_EQ(released, 2u);
  for (const RequestPtr& request : batch) CHECK(request->input_owner == nullptr);
  CHECK(bench.releases.take().empty());
}

TEST("nothing is copied out for who has ended meanwhile") {
  Bench bench;
  const Batch batch = {bench.started(10), bench.started(20), bench.started(30)};
  bench.model->on_run = [&](float) { batch[1]->claim(Request::State::running); };
  const Execution execution = execute(bench.backend, batch, bench.releases);
  CHECK(execution.outputs[1].empty());
  REQUIRE(execution.outputs[2].size() == 1);
  CHECK_EQ(floats(execution.outputs[2][0])[0], 31.0f);
  bench.ledger.drain(bench.releases);
}

TEST("a lone request gets the whole output, whatever its rows") {
  Bench bench;
  const RequestPtr request = bench.started(5, 4);
  request->rows = 1;  // as for a model whose rows do not follow the batch
  const Execution execution = execute(bench.backend, {request}, bench.releases);
  REQUIRE(!execution.failed);
  CHECK_EQ(execution.outputs[0][0].shape.dims[0], 4);
  bench.ledger.drain(bench.releases);
}

TEST("an output that does not hold the batch's rows fails the batch") {
  Bench bench;
  const Batch batch = {bench.started(1), bench.started(2)};
  BrokenBackend scalar(BrokenBackend::At::output, [] {});
  const Execution execution = execute(scalar, batch, bench.releases);
  CHECK(execution.failed);
  CHECK_EQ(execution.failure.message, "an output does not hold the rows of its batch");
  bench.ledger.drain(bench.releases);
}

TEST("a failure anywhere gives its message and the inputs back") {
  using At = BrokenBackend::At;
  for (const At at : {At::input, At::run, At::output}) {
    Bench bench;
    const Batch batch = {bench.started(1), bench.started(2)};
    BrokenBackend backend(at, [] { throw std::runtime_error("broken"); });
    const Execution execution = execute(backend, batch, bench.releases);
    CHECK(execution.failed);
    CHECK_EQ(execution.failure.message, "broken");
    CHECK(execution.outputs.empty());
    bench.ledger.drain(bench.releases);
    CHECK_EQ(bench.ledger.held(), 0u);
  }
}

TEST("what is no C++ exception fails the batch, too") {
  Bench bench;
  BrokenBackend backend(BrokenBackend::At::run, [] { throw 5; });
  const Execution execution = execute(backend, {bench.started(1)}, bench.releases);
  CHECK(execution.failed);
  CHECK(!execution.failure.message.empty());
  bench.ledger.drain(bench.releases);
}

TEST("a Python exception is kept, and let go of once") {
  Bench bench;
  int let_go = 0;
  {
    auto exception = std::shared_ptr<void>(&let_go, [](void* counter) { ++*static_cast<int*>(counter); });
    BrokenBackend backend(BrokenBackend::At::run, [&] { throw PythonFailure("ValueError: no", exception); });
    Execution execution = execute(backend, {bench.started(1)}, bench.releases);
    CHECK_EQ(execution.failure.message, "ValueError: no");
    CHECK(execution.failure.exception == exception);
    exception.reset();
    CHECK_EQ(let_go, 0);
  }
  CHECK_EQ(let_go, 1);
  bench.ledger.drain(bench.releases);
}

TEST("the time of the run alone is measured") {
  Bench bench;
  bench.model->on_run = [](float) { harness::sleep_ns(3 * harness::kMillisecond); };
  const Execution execution = execute(bench.backend, {bench.started(1)}, bench.releases);
  CHECK(execution.run_ns >= 3 * harness::kMillisecond);
  bench.ledger.drain(bench.releases);
}
