// onnxruntime's C interface, with a fake of it: what is loaded, run and released, and what failures become.
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

std::shared_ptr<const ort::LoadedModel> loaded(FakeOrt& fake, int threads = 1) {
  return std::make_shared<const ort::LoadedModel>(ort::Api::of(fake.base()), "model.onnx", threads);
}

const ort::TensorNames kNames = {{"x"}, {"doubled"}};

}  // namespace

TEST("a library that is not there, and one that is another, are said to be so") {
  CHECK(!ort::Api::load("libonnxruntime-that-is-not-there.so").usable());
  CHECK_EQ(ort::Api::load("libc.so.6").problem, "it does not export OrtGetApiBase");
  CHECK_EQ(ort::Api::of(nullptr).problem, "its OrtGetApiBase gives nothing");
}

TEST("a version with another interface is refused by its name") {
  FakeOrt fake;
  for (const char* version : {"0.9.0", "1.12.1", "2.0.0", "1.", "", "one"}) {
    fake.version = version;
    CHECK_EQ(ort::Api::of(fake.base()).problem, "its version " + fake.version + " is not one of 1.13 to 1.x");
  }
  for (const char* version : {"1.13.0", "1.32.0", "1.100"}) {
    fake.version = version;
    CHECK(ort::Api::of(fake.base()).usable());
  }
  fake.has_table = false;
  CHECK_EQ(ort::Api::of(fake.base()).problem, "it does not have version 13 of its C interface");
}

TEST("a table without a function is refused by the function's name") {
  FakeOrt fake;
  const ort::ApiBase* const base = fake.base();
  static std::vector<const void*> table;
  table.assign(base->table(13), base->table(13) + 102);
  table[9] = nullptr;
  const ort::ApiBase lacking = {[](std::uint32_t) -> const void* const* { return table.data(); }, base->version};
  CHECK_EQ(ort::Api::of(&lacking).problem, "it has no Run");
}

TEST("a model says what its tensors are, and all is released with it") {
  FakeOrt fake;
  fake.inputs = {{"x", 1, {-1, 3, 48, -1}, true}, {"ids", 7, {}, true}};
  fake.outputs = {{"y", 16, {-1}, true}, {"boxes", 1, {}, false}};
  {
    const auto model = loaded(fake, 3);
    CHECK_EQ(fake.path, "model.onnx");
    CHECK_EQ(fake.threads, 3);
    CHECK_EQ(model->inputs().size(), 2u);
    CHECK_EQ(model->inputs()[0].name, "x");
    CHECK(model->inputs()[0].dims == (std::vector<std::int64_t>{-1, 3, 48, -1}));
    CHECK_EQ(model->inputs()[1].type, 7);
    CHECK_EQ(model->outputs()[0].type, 16);
    CHECK_EQ(model->outputs()[1].type, 0);  // a sequence, say
    CHECK_EQ(fake.objects.load(), 3);       // environment, memory and session
  }
  CHECK_EQ(fake.objects.load(), 0);
}

TEST("a model that cannot be loaded leaves nothing, and its message is the failure's") {
  FakeOrt fake;
  fake.fail_load = true;
  std::string message;
  try {
    loaded(fake);
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  CHECK_EQ(message, "Load model failed");
  CHECK_EQ(fake.objects.load(), 0);
}

TEST("each dtype has ONNX's number, and back") {
  for (std::size_t number = 0; number < kDTypes; ++number) {
    DType found = DType::float32;
    CHECK(ort::find_dtype(ort::element_type(DType(number)), found));
    CHECK_EQ(int(found), int(number));
  }
  DType found = DType::float32;
  for (const int type : {0, 4, 8, 12, 13, 14, 15, 17, -1}) CHECK(!ort::find_dtype(type, found));
}

TEST("runs of one shape use one tensor over the same memory, and another shape gets its own") {
  FakeOrt fake;
  {
    ort::OrtBackend backend(loaded(fake), kNames);
    check_a_tensor_for_each_shape(backend, fake.tensors_made);
  }
  CHECK_EQ(fake.objects.load(), 0);
}

TEST("an input that the ONNX model does not have is not handed over") {
  FakeOrt fake;
  ort::OrtBackend backend(loaded(fake), {{"", "x"}, {"doubled"}});
  backend.input(0, DType::int64, shape_of(1, 2));
  float* const input = static_cast<float*>(backend.input(1, DType::float32, shape_of(1, 2)));
  input[0] = input[1] = 7;
  backend.run();
  CHECK_EQ(static_cast<const float*>(backend.output(0).data)[1], 14.f);
  CHECK_EQ(fake.tensors_made.load(), 1);
}

TEST("a run that fails throws the library's message, and the next one is unharmed") {
  FakeOrt fake;
  {
    ort::OrtBackend backend(loaded(fake), kNames);
    fill(backend, 1, 1.f);
    fake.fail_run = "Non-zero status code returned while running Add node";
    CHECK_THROWS(std::runtime_error, backend.run());
    fake.fail_run.clear();
    fill(backend, 1, 1.f);
    backend.run();
    CHECK_EQ(static_cast<const float*>(backend.output(0).data)[0], 2.f);
  }
  CHECK_EQ(fake.objects.load(), 0);
}

TEST("a lack of memory is said in the core's words") {
  FakeOrt fake;
  ort::OrtBackend backend(loaded(fake), kNames);
  fill(backend, 1, 1.f);
  fake.fail_run = "Failed to allocate memory for requested buffer of size 1099511627776";
  std::string message;
  try {
    backend.run();
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  CHECK(says_out_of_memory(message));
}

TEST("outputs of a dtype or a rank that the core does not have are refused") {
  FakeOrt fake;
  ort::OrtBackend backend(loaded(fake), kNames);
  fill(backend, 1, 1.f);
  fake.result_type = 8;
  backend.run();
  CHECK_THROWS(std::invalid_argument, backend.output(0));
  fake.result_type = 1;
  fake.result_rank = 10;
  backend.run();
  CHECK_THROWS(std::length_error, backend.output(0));
}

TEST("instances share one session, which ends with the last of them") {
  FakeOrt fake;
  {
    DispatcherOptions options;
    options.outputs = {"doubled"};
    const auto dispatcher = std::make_shared<Dispatcher>(options);
    {
      const auto model = loaded(fake);
      for (const bool root : {true, false, false}) dispatcher->start_instance(root, ort::ort_backend(model, kNames));
    }
    Ledger ledger;
    for (int round = 0; round < int(scaled(200)); ++round) {
      std::vector<RequestPtr> requests;
      for (int each = 0; each < 6; ++each) requests.push_back(request_for(ledger, float(each), 1 + each % 3));
      std::vector<Admission> admissions;
      CHECK(dispatcher->admit(requests, admissions));
      for (int each = 0; each < 6; ++each) {
        while (!requests[std::size_t(each)]->done()) requests[std::size_t(each)]->wait(kNever);
        CHECK_EQ(requests[std::size_t(each)]->outcome, Outcome::result);
        CHECK_EQ(floats(requests[std::size_t(each)]->outputs[0])[0], 2.f * float(each));
      }
    }
    CHECK(fake.objects.load() >= 3);
    dispatcher->close(/*drain=*/true, kNever);
    ledger.drain(*dispatcher->releases());
    CHECK_EQ(ledger.held(), 0u);
    CHECK_EQ(fake.objects.load(), 0);
  }
}

TEST("a request whose run fails ends with the library's message") {
  FakeOrt fake;
  DispatcherOptions options;
  options.outputs = {"doubled"};
  const auto dispatcher = std::make_shared<Dispatcher>(options);
  dispatcher->start_instance(true, ort::ort_backend(loaded(fake), kNames));
  fake.fail_run = "Got invalid dimensions for input: x";
  Ledger ledger;
  std::vector<RequestPtr> requests = {request_for(ledger, 1)};
  std::vector<Admission> admissions;
  CHECK(dispatcher->admit(requests, admissions));
  while (!requests[0]->done()) requests[0]->wait(kNever);
  CHECK_EQ(requests[0]->outcome, Outcome::error);
  CHECK(requests[0]->failure.message.find("Got invalid dimensions") != std::string::npos);
  dispatcher->close(/*drain=*/true, kNever);
  ledger.drain(*dispatcher->releases());
}
