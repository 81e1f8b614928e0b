// Large outputs of onnxruntime's that callers keep without a copy, with a fake of its C interface.
#include <malloc.h>

#include <memory>
#include <string>
#include <vector>

#include "doubling.h"
#include "fake_ort.h"
#include "ledger.h"
#include "onnxruntime/ort_backend.h"
#include "running/dispatcher.h"

using namespace harness;
using namespace fakes;
namespace ort = paddleinfer::onnxruntime;

namespace {

constexpr std::int64_t kLargeRows = 1 << 13;  // of two numbers each: 64 KiB

std::shared_ptr<const ort::LoadedModel> loaded(FakeOrt& fake) {
  return std::make_shared<const ort::LoadedModel>(ort::Api::of(fake.base()), "model.onnx", 1);
}

const ort::TensorNames kNames = {{"x"}, {"doubled"}};

}  // namespace

TEST("a large output belongs to its caller from the second run of its shape on") {
  FakeOrt fake;
  {
    ort::OrtBackend backend(loaded(fake), kNames);
    run(backend, kLargeRows, 1);
    CHECK(backend.take_output(0) == nullptr);
    const TensorView view = run(backend, kLargeRows, 2);
    const Memory kept = backend.take_output(0);
    CHECK(kept.get() == view.data);
    CHECK(backend.take_output(0) == nullptr);
    const TensorView next = run(backend, kLargeRows, 3);
    CHECK(next.data != view.data);
    CHECK_EQ(last_of(next), 6.f);
    CHECK_EQ(last_of(view), 4.f);
    CHECK_EQ(text_of(next.shape), "[8192, 2]");
    CHECK_EQ(fake.results_given.load(), 2);
  }
  CHECK_EQ(fake.objects.load(), 0);
}

TEST("memory that no caller takes is written to again") {
  FakeOrt fake;
  ort::OrtBackend backend(loaded(fake), kNames);
  run(backend, kLargeRows, 1);
  const void* const first = run(backend, kLargeRows, 2).data;
  const int made = fake.tensors_made.load();
  const TensorView view = run(backend, kLargeRows, 3);
  CHECK(view.data == first);
  CHECK_EQ(last_of(view), 6.f);
  CHECK_EQ(fake.tensors_made.load(), made);
}

TEST("memory that a caller has let go of is written to again") {
  FakeOrt fake;
  ort::OrtBackend backend(loaded(fake), kNames);
  constexpr std::int64_t kRows = 32 * kLargeRows;  // of 2 MiB
  run(backend, kRows, 1);
  run(backend, kRows, 2);
  Memory kept = backend.take_output(0);
  const void* const given = kept.get();
  SpareBlocks::shared().give(std::move(kept));
  const TensorView view = run(backend, kRows, 3);
  CHECK(view.data == given);
  CHECK_EQ(last_of(view), 6.f);
}

TEST("small outputs stay the session's") {
  FakeOrt fake;
  ort::OrtBackend backend(loaded(fake), kNames);
  for (int round = 0; round < 3; ++round) {
    run(backend, kLargeRows - 1, 1);
    CHECK(backend.take_output(0) == nullptr);
  }
  CHECK_EQ(fake.results_given.load(), 0);
}

TEST("what a caller takes is at most twice as large as its output") {
  FakeOrt fake;
  ort::OrtBackend backend(loaded(fake), kNames);
  for (const std::int64_t rows : {8 * kLargeRows, kLargeRows, 2 * kLargeRows}) {
    run(backend, rows, 1);
    const std::size_t bytes = run(backend, rows, 2).bytes();
    CHECK_EQ(bytes, std::size_t(rows) * 8);
    if (rows == 8 * kLargeRows) continue;
    const Memory kept = backend.take_output(0);
    REQUIRE(kept != nullptr);
    CHECK(malloc_usable_size(kept.get()) <= 2 * bytes);
  }
}

TEST("outputs whose shape follows from the values are the session's once that shows") {
  FakeOrt fake;
  {
    ort::OrtBackend backend(loaded(fake), kNames);
    run(backend, 2 * kLargeRows, 1);
    fake.result_rows = kLargeRows;
    TensorView view = run(backend, 2 * kLargeRows, 2);  // is refused with memory of the first run's shape
    CHECK_EQ(text_of(view.shape), "[8192, 2]");
    CHECK_EQ(last_of(view), 4.f);
    CHECK(backend.take_output(0) == nullptr);
    CHECK_EQ(fake.runs.load(), 3);
    for (const std::int64_t rows : {kLargeRows, kLargeRows + 1, kLargeRows}) {
      fake.result_rows = rows;
      view = run(backend, 2 * kLargeRows, 3);
      CHECK_EQ(view.shape.dims[0], rows);
      CHECK(backend.take_output(0) == nullptr);
    }
    CHECK_EQ(fake.runs.load(), 6);
    CHECK_EQ(fake.results_given.load(), 0);
  }
  CHECK_EQ(fake.objects.load(), 0);
}

TEST("a run that fails leaves the next one its memory") {
  FakeOrt fake;
  {
    ort::OrtBackend backend(loaded(fake), kNames);
    run(backend, kLargeRows, 1);
    run(backend, kLargeRows, 2);
    fake.fail_run = "Non-zero status code returned while running Add node";
    CHECK_THROWS(std::runtime_error, run(backend, kLargeRows, 3));
    CHECK(backend.take_output(0) == nullptr);
    fake.fail_run.clear();
    CHECK_EQ(last_of(run(backend, kLargeRows, 4)), 8.f);
    CHECK(backend.take_output(0) != nullptr);
  }
  CHECK_EQ(fake.objects.load(), 0);
}

TEST("instances that give their large outputs away mix up none of them") {
  FakeOrt fake;
  {
    DispatcherOptions options;
    options.outputs = {"doubled"};
    const auto dispatcher = std::make_shared<Dispatcher>(options);
    {
      const auto model = loaded(fake);
      for (const bool root : {true, false}) dispatcher->start_instance(root, ort::ort_backend(model, kNames));
    }
    Ledger ledger;
    for (int round = 0; round < int(scaled(20)); ++round) {
      std::vector<RequestPtr> requests;
      for (int each = 0; each < 6; ++each)
        requests.push_back(request_for(ledger, float(each), 1, kNever, 2 * kLargeRows));
      std::vector<Admission> admissions;
      CHECK(dispatcher->admit(requests, admissions));
      for (int each = 0; each < 6; ++each) {
        while (!requests[std::size_t(each)]->done()) requests[std::size_t(each)]->wait(kNever);
        CHECK_EQ(requests[std::size_t(each)]->outcome, Outcome::result);
        const OwnedTensor& result = requests[std::size_t(each)]->outputs[0];
        CHECK_EQ(last_of(view_of(result)), last_of(requests[std::size_t(each)]->inputs[0]) * 2);
        CHECK_EQ(floats(result)[0], 2.f * float(each));
      }
    }
    dispatcher->close(/*drain=*/true, kNever);
    ledger.drain(*dispatcher->releases());
    CHECK_EQ(ledger.held(), 0u);
  }
  CHECK(fake.results_given.load() > 0);
  CHECK_EQ(fake.objects.load(), 0);
}
