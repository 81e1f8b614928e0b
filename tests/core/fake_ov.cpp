#include "fake_ov.h"

#include <cstdarg>
#include <cstring>

namespace fakes {

namespace {

using paddleinfer::openvino::Api;
using paddleinfer::openvino::Dimension;
using paddleinfer::openvino::PartialSizes;
using paddleinfer::openvino::Sizes;
using paddleinfer::openvino::Version;

FakeOv* ov = nullptr;

constexpr int kFailed = -1;

struct FakeTensor {
  int type = 4;
  std::vector<std::int64_t> dims;
  void* data = nullptr;  // the caller's, or its request's
};

struct FakeRequest {
  std::vector<FakeTensor> inputs;
  std::vector<std::vector<float>> results;
  std::vector<FakeTensor> outputs;
};

template <typename T>
T* counted(T* object) {
  ++ov->objects;
  return object;
}

template <typename T>
void release(T* object) {
  if (object == nullptr) return;
  --ov->objects;
  delete object;
}

template <typename T>
int make(T** out) {
  *out = counted(new T());
  return 0;
}

int failed(const std::string& message) {
  const std::lock_guard lock(ov->mu);
  ov->last_error = message == "-" ? "" : message;
  return kFailed;
}

char* copy_of(const std::string& text) {
  char* const copy = counted(new char[text.size() + 1]);
  std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

const char* error_info(int status) { return status == kFailed ? "general error" : "unknown exception"; }

const char* last_error() {
  const std::lock_guard lock(ov->mu);
  return ov->last_error.empty() ? nullptr : copy_of(ov->last_error);
}

void free_text(const char* text) {
  if (text == nullptr) return;
  --ov->objects;
  delete[] text;
}

int version(Version* out) {
  if (!ov->has_version) return kFailed;
  *out = {copy_of(ov->version), copy_of("OpenVINO Runtime")};
  return 0;
}

void free_version(Version* version) {
  free_text(version->number);
  free_text(version->description);
}

int read_model(const int*, const char* path, const char*, int** out) {
  if (!ov->fail_read.empty()) return failed(ov->fail_read);
  ov->path = path;
  return make(out);
}

int compile(const int*, const int*, const char*, std::size_t texts, int** out, ...) {
  std::va_list given;
  va_start(given, out);
  for (std::size_t pair = 0; pair < texts / 2; ++pair) {
    const char* const name = va_arg(given, const char*);
    ov->properties[name] = va_arg(given, const char*);
  }
  va_end(given);
  ++ov->compiled;
  return make(out);
}

int property(const int*, const char* name, char** out) {
  const auto found = ov->properties.find(name);
  if (found == ov->properties.end()) return failed("no such property");
  *out = copy_of(found->second);
  return 0;
}

int input_count(const int*, std::size_t* out) {
  *out = ov->inputs.size();
  return 0;
}

int output_count(const int*, std::size_t* out) {
  *out = ov->outputs.size();
  return 0;
}

int input_port(const int*, std::size_t index, FakeOv::Described** out) {
  *out = counted(new FakeOv::Described(ov->inputs.at(index)));
  return 0;
}

int named_input(const int*, const char* name, FakeOv::Described** out) {
  for (const FakeOv::Described& input : ov->inputs) {
    if (input.name != name && input.other_name != name) continue;
    *out = counted(new FakeOv::Described(input));
    return 0;
  }
  return failed("no such input");
}

int output_port(const int*, std::size_t index, FakeOv::Described** out) {
  *out = counted(new FakeOv::Described(ov->outputs.at(index)));
  return 0;
}

int port_name(const FakeOv::Described* port, char** out) {
  *out = copy_of(port->name);
  return 0;
}

int port_type(const FakeOv::Described* port, int* out) {
  *out = port->type;
  return 0;
}

int port_sizes(const FakeOv::Described* port, PartialSizes* out) {
  const auto rank = std::int64_t(port->dims.size());
  out->rank = port->ranked ? Dimension{rank, rank} : Dimension{0, -1};
  out->dims = nullptr;
  if (!port->ranked || rank == 0) return 0;
  out->dims = counted(new Dimension[port->dims.size()]);
  for (std::size_t axis = 0; axis < port->dims.size(); ++axis) {
    const std::int64_t size = port->dims[axis];
    out->dims[axis] = size < 0 ? Dimension{0, -1} : Dimension{size, size};
  }
  return 0;
}

void free_partial_sizes(PartialSizes* sizes) {
  if (sizes->dims == nullptr) return;
  --ov->objects;
  delete[] sizes->dims;
}

int create_request(const int*, FakeRequest** out) {
  *out = counted(new FakeRequest);
  (*out)->inputs.resize(ov->inputs.size());
  return 0;
}

int set_input(FakeRequest* request, std::size_t index, const FakeTensor* tensor) {
  request->inputs.at(index) = *tensor;
  return 0;
}

// Output N is the doubled input N, or of the last one.
int infer(FakeRequest* request) {
  ++ov->runs;
  if (!ov->fail_run.empty()) return failed(ov->fail_run);
  request->results.resize(ov->outputs.size());
  request->outputs.resize(ov->outputs.size());
  for (std::size_t place = 0; place < ov->outputs.size(); ++place) {
    const FakeTensor& given = request->inputs[place < request->inputs.size() ? place : request->inputs.size() - 1];
    std::int64_t elements = 1;
    for (const std::int64_t size : given.dims) elements *= size;
    const float* const numbers = static_cast<const float*>(given.data);
    std::vector<float>& result = request->results[place];
    result.assign(numbers, numbers + elements);
    for (float& each : result) each *= 2;
    request->outputs[place] = {ov->result_type, given.dims, result.data()};
    if (ov->result_rank > 0) request->outputs[place].dims.assign(ov->result_rank, 1);
    if (ov->scalar_result) request->outputs[place].dims.clear();
  }
  return 0;
}

int output(const FakeRequest* request, std::size_t index, FakeTensor** out) {
  *out = counted(new FakeTensor(request->outputs.at(index)));
  return 0;
}

int create_tensor(int type, Sizes sizes, void* data, FakeTensor** out) {
  if (data == nullptr) return failed("no memory");
  ++ov->tensors_made;
  *out = counted(new FakeTensor{type, {sizes.dims, sizes.dims + sizes.rank}, data});
  return 0;
}

int tensor_type(const FakeTensor* tensor, int* out) {
  *out = tensor->type;
  return 0;
}

int tensor_sizes(const FakeTensor* tensor, Sizes* out) {
  if (tensor->dims.empty()) return paddleinfer::openvino::kInvalidParameter;  // as OpenVINO's own does
  *out = {std::int64_t(tensor->dims.size()), counted(new std::int64_t[tensor->dims.size()])};
  for (std::size_t axis = 0; axis < tensor->dims.size(); ++axis) out->dims[axis] = tensor->dims[axis];
  return 0;
}

int tensor_elements(const FakeTensor* tensor, std::size_t* out) {
  *out = 1;
  for (const std::int64_t size : tensor->dims) *out *= std::size_t(size);
  return 0;
}

int free_sizes(Sizes* sizes) {
  --ov->objects;
  delete[] sizes->dims;
  return 0;
}

int tensor_data(const FakeTensor* tensor, void** out) {
  *out = tensor->data;
  return 0;
}

// As SharedLibrary.
class FakeLibrary {
 public:
  template <typename Function>
  void find(Function& function, const char* name) {
    const auto found = functions_.find(name);
    if (found != functions_.end() && ov->lacking != name) {
      function = reinterpret_cast<Function>(found->second);
    } else if (problem_.empty()) {
      problem_ = std::string("it does not export ") + name;
    }
  }

  const std::string& problem() const { return problem_; }

 private:
  template <typename Function>
  static void (*any(Function* function))() {
    return reinterpret_cast<void (*)()>(function);
  }

  std::string problem_;
  const std::map<std::string, void (*)()> functions_ = {
      {"ov_get_error_info", any(error_info)},
      {"ov_get_last_err_msg", any(last_error)},
      {"ov_free", any(free_text)},
      {"ov_get_openvino_version", any(version)},
      {"ov_version_free", any(free_version)},
      {"ov_core_create", any(make<int>)},
      {"ov_core_free", any(release<int>)},
      {"ov_core_read_model", any(read_model)},
      {"ov_model_free", any(release<int>)},
      {"ov_core_compile_model", any(compile)},
      {"ov_compiled_model_free", any(release<int>)},
      {"ov_compiled_model_get_property", any(property)},
      {"ov_compiled_model_inputs_size", any(input_count)},
      {"ov_compiled_model_outputs_size", any(output_count)},
      {"ov_compiled_model_input_by_index", any(input_port)},
      {"ov_compiled_model_input_by_name", any(named_input)},
      {"ov_compiled_model_output_by_index", any(output_port)},
      {"ov_output_const_port_free", any(release<FakeOv::Described>)},
      {"ov_port_get_any_name", any(port_name)},
      {"ov_port_get_element_type", any(port_type)},
      {"ov_port_get_partial_shape", any(port_sizes)},
      {"ov_partial_shape_free", any(free_partial_sizes)},
      {"ov_compiled_model_create_infer_request", any(create_request)},
      {"ov_infer_request_free", any(release<FakeRequest>)},
      {"ov_infer_request_set_input_tensor_by_index", any(set_input)},
      {"ov_infer_request_infer", any(infer)},
      {"ov_infer_request_get_output_tensor_by_index", any(output)},
      {"ov_tensor_create_from_host_ptr", any(create_tensor)},
      {"ov_tensor_free", any(release<FakeTensor>)},
      {"ov_tensor_get_element_type", any(tensor_type)},
      {"ov_tensor_get_shape", any(tensor_sizes)},
      {"ov_tensor_get_size", any(tensor_elements)},
      {"ov_shape_free", any(free_sizes)},
      {"ov_tensor_data", any(tensor_data)},
  };
};

}  // namespace

Api FakeOv::api() {
  ov = this;
  FakeLibrary library;
  return Api::of(library);
}

}  // namespace fakes
