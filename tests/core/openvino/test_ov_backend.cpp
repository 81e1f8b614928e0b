// OpenVINO's C interface, with a fake of it: what is loaded, run and freed, and what failures become.
#include <memory>
#include <string>
#include <vector>

#include "doubling.h"
#include "fake_ov.h"
#include "ledger.h"
#include "openvino/ov_backend.h"
#include "running/dispatcher.h"

using namespace harness;
using namespace fakes;
namespace ov = paddleinfer::openvino;

namespace {

std::shared_ptr<const ov::LoadedModel> loaded(FakeOv& fake, const ov::Threads& threads = {}) {
  return std::make_shared<const ov::LoadedModel>(fake.api(), "model.onnx", threads);
}

const std::vector<ov::InputPlace> kPlaces = {{"x", 0}};

template <typename Call>
std::string failure_of(const Call& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "none";
}

}  // namespace

TEST("a library of OpenVINO that is not there, and one that is another, are said to be so") {
  CHECK(!ov::Api::load("libopenvino_c-that-is-not-there.so").usable());
  CHECK_EQ(ov::Api::load("libc.so.6").problem, "it does not export ov_get_error_info");
}

TEST("a version of OpenVINO with other numbers is refused by its name") {
  FakeOv fake;
  for (const char* version : {"2025.4.1", "2024.6.0-17404", "2027.0.0", "2026", "", "one"}) {
    fake.version = version;
    const std::string number = fake.version.substr(0, fake.version.find('-'));
    CHECK_EQ(fake.api().problem, "its version " + number + " is not one of 2026");
  }
  for (const char* version : {"2026.0.0-20965", "2026.4.1"}) {
    fake.version = version;
    CHECK(fake.api().usable());
  }
  CHECK_EQ(fake.api().version, "2026.4.1");
  fake.has_version = false;
  CHECK_EQ(fake.api().problem, "its ov_get_openvino_version gives nothing");
  CHECK_EQ(fake.objects.load(), 0);
}

TEST("a library without a function of OpenVINO's is refused by the function's name") {
  FakeOv fake;
  for (const char* name : {"ov_get_openvino_version", "ov_infer_request_infer", "ov_tensor_data"}) {
    fake.lacking = name;
    CHECK_EQ(fake.api().problem, std::string("it does not export ") + name);
  }
}

TEST("a compiled model says what its tensors are, and all is freed with it") {
  FakeOv fake;
  fake.inputs = {{"x", 4, {-1, 3, 48, -1}, true, ""}, {"ids", 10, {}, true, ""}};
  fake.outputs = {{"y", 2, {-1}, true, ""}, {"any", 4, {}, false, ""}};
  {
    const auto model = loaded(fake);
    CHECK_EQ(fake.path, "model.onnx");
    CHECK_EQ(model->inputs().size(), 2u);
    CHECK_EQ(model->inputs()[0].name, "x");
    CHECK(model->inputs()[0].dims == (std::vector<std::int64_t>{-1, 3, 48, -1}));
    CHECK_EQ(model->inputs()[1].type, 10);
    CHECK_EQ(model->outputs()[0].type, 2);
    CHECK(model->outputs()[1].dims.empty());
    CHECK_EQ(fake.objects.load(), 2);  // core and compiled model
  }
  CHECK_EQ(fake.objects.load(), 0);
}

TEST("an input is found by any of its names") {
  FakeOv fake;
  fake.inputs = {{"x", 4, {-1}, true, "image"}, {"auto.cast.0", 4, {-1}, true, "past"}};
  const auto model = loaded(fake);
  CHECK_EQ(model->input_index("x"), 0);
  CHECK_EQ(model->input_index("image"), 0);
  CHECK_EQ(model->input_index("past"), 1);
  CHECK_EQ(model->input_index("future"), -1);
}

TEST("a shared model computes in one stream for each instance, and those apart in one each") {
  FakeOv fake;
  {
    const auto model = loaded(fake, {3, 2, /*apart=*/false});
    CHECK_EQ(fake.compiled.load(), 1);
    CHECK_EQ(model->property("NUM_STREAMS"), "3");
    CHECK_EQ(model->property("INFERENCE_NUM_THREADS"), "6");
    CHECK_EQ(model->property("INFERENCE_PRECISION_HINT"), "f32");
    CHECK_EQ(model->property("EXECUTION_MODE_HINT"), "ACCURACY");
    CHECK_EQ(model->property("ENABLE_CPU_PINNING"), "NO");
    CHECK_EQ(model->property("CPU_RUNTIME_CACHE_CAPACITY"), "256");
    CHECK_EQ(failure_of([&] { model->property("COLOUR"); }), "no such property");
  }
  {
    const auto model = loaded(fake, {3, 2, /*apart=*/true});
    CHECK_EQ(fake.compiled.load(), 1 + 3);
    CHECK_EQ(model->property("NUM_STREAMS"), "1");
    CHECK_EQ(model->property("INFERENCE_NUM_THREADS"), "2");
  }
  CHECK_EQ(fake.objects.load(), 0);
}

TEST("a model that OpenVINO cannot read leaves nothing, and its message is the failure's") {
  FakeOv fake;
  fake.fail_read = "No conversion rule found for operations: MatMux-17";
  CHECK_EQ(failure_of([&] { loaded(fake); }), fake.fail_read);
  fake.fail_read = "-";
  CHECK_EQ(failure_of([&] { loaded(fake); }), "general error");
  CHECK_EQ(fake.objects.load(), 0);
}

TEST("each dtype has a number of OpenVINO's, and back") {
  for (std::size_t number = 0; number < kDTypes; ++number) {
    DType found = DType::float32;
    CHECK(ov::find_dtype(ov::element_type(DType(number)), found));
    CHECK_EQ(int(found), int(number));
  }
  DType found = DType::float32;
  for (const int type : {0, 6, 11, 12, 15, 17, 23, -1}) CHECK(!ov::find_dtype(type, found));
}

TEST("runs of one shape use one tensor of OpenVINO's over the same memory, and another shape gets its own") {
  FakeOv fake;
  {
    ov::OvBackend backend(loaded(fake), 0, kPlaces);
    check_a_tensor_for_each_shape(backend, fake.tensors_made);
  }
  CHECK_EQ(fake.objects.load(), 0);
}

TEST("a scalar goes in and out, although OpenVINO does not tell its shape") {
  FakeOv fake;
  {
    ov::OvBackend backend(loaded(fake), 0, kPlaces);
    *static_cast<float*>(backend.input(0, DType::float32, Shape{})) = 4;
    fake.scalar_result = true;
    backend.run();
    const TensorView view = backend.output(0);
    CHECK_EQ(text_of(view.shape), "[]");
    CHECK_EQ(*static_cast<const float*>(view.data), 8.f);
  }
  CHECK_EQ(fake.objects.load(), 0);
}

TEST("an input that the compiled model does not have is not handed over") {
  FakeOv fake;
  ov::OvBackend backend(loaded(fake), 0, {{"gone", -1}, {"x", 0}});
  backend.input(0, DType::int64, shape_of(1, 2));
  float* const input = static_cast<float*>(backend.input(1, DType::float32, shape_of(1, 2)));
  input[0] = input[1] = 7;
  backend.run();
  CHECK_EQ(static_cast<const float*>(backend.output(0).data)[1], 14.f);
  CHECK_EQ(fake.tensors_made.load(), 1);
}

TEST("integers that OpenVINO would cut to 32 bits are refused by name") {
  FakeOv fake;
  ov::OvBackend backend(loaded(fake), 0, {{"ids", 0}});
  auto* const ids = static_cast<std::int64_t*>(backend.input(0, DType::int64, shape_of(1, 2)));
  ids[0] = -(std::int64_t{1} << 31);
  ids[1] = std::int64_t{1} << 31;
  CHECK_EQ(failure_of([&] { backend.run(); }),
           "input 'ids' holds 2147483648, and OpenVINO computes with integers of 32 bits");
  CHECK_EQ(fake.runs.load(), 0);
  ids[1] -= 1;
  backend.run();
  CHECK_EQ(fake.runs.load(), 1);
}

TEST("a run that fails throws OpenVINO's message, and the next one is unharmed") {
  FakeOv fake;
  {
    ov::OvBackend backend(loaded(fake), 0, kPlaces);
    fill(backend, 1, 1.f);
    fake.fail_run = "Gather index 1000 is out of range";
    CHECK_EQ(failure_of([&] { backend.run(); }), fake.fail_run);
    fake.fail_run = "-";
    CHECK_EQ(failure_of([&] { backend.run(); }), "general error");
    fake.fail_run.clear();
    fill(backend, 1, 1.f);
    backend.run();
    CHECK_EQ(static_cast<const float*>(backend.output(0).data)[0], 2.f);
  }
  CHECK_EQ(fake.objects.load(), 0);
}

TEST("outputs of OpenVINO's of a dtype or a rank that the core does not have are refused") {
  FakeOv fake;
  ov::OvBackend backend(loaded(fake), 0, kPlaces);
  fill(backend, 1, 1.f);
  fake.result_type = 23;
  backend.run();
  CHECK_THROWS(std::invalid_argument, backend.output(0));
  fake.result_type = 4;
  fake.result_rank = 10;
  backend.run();
  CHECK_THROWS(std::length_error, backend.output(0));
}

TEST("instances have requests of one model of OpenVINO's, which ends with the last of them") {
  for (const bool apart : {false, true}) {
    FakeOv fake;
    DispatcherOptions options;
    options.outputs = {"doubled"};
    const auto dispatcher = std::make_shared<Dispatcher>(options);
    {
      const auto model = loaded(fake, {3, 1, apart});
      for (std::size_t instance = 0; instance < 3; ++instance) {
        dispatcher->start_instance(instance == 0, ov::ov_backend(model, instance, kPlaces));
      }
    }
    Ledger ledger;
    for (int round = 0; round < int(scaled(100)); ++round) {
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
    dispatcher->close(/*drain=*/true, kNever);
    ledger.drain(*dispatcher->releases());
    CHECK_EQ(ledger.held(), 0u);
    CHECK_EQ(fake.objects.load(), 0);
  }
}
