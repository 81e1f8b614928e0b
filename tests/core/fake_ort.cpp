#include "fake_ort.h"

namespace fakes {

namespace {

using paddleinfer::onnxruntime::ApiBase;

constexpr std::size_t kPlaces = 102;

FakeOrt* ort = nullptr;

struct FakeStatus {
  std::string message;
};

void* counted(void* object) {
  ++ort->objects;
  return object;
}

FakeStatus* failure(const std::string& message) { return static_cast<FakeStatus*>(counted(new FakeStatus{message})); }

template <typename T>
void release(T* object) {
  if (object == nullptr) return;
  --ort->objects;
  delete object;
}

template <typename T>
FakeStatus* make(T** out) {
  *out = static_cast<T*>(counted(new T()));
  return nullptr;
}

const char* message_of(const FakeStatus* status) { return status->message.c_str(); }

FakeStatus* create_env(int, const char*, int** out) { return make(out); }

FakeStatus* create_options(int** out) { return make(out); }

FakeStatus* set_log_level(int*, int) { return nullptr; }

FakeStatus* set_threads(int*, int threads) {
  ort->threads = threads;
  return nullptr;
}

FakeStatus* create_session(const int*, const char* path, const int*, int** out) {
  if (ort->fail_load) return failure("Load model failed");
  ort->path = path;
  return make(out);
}

FakeStatus* input_count(const int*, std::size_t* out) {
  *out = ort->inputs.size();
  return nullptr;
}

FakeStatus* output_count(const int*, std::size_t* out) {
  *out = ort->outputs.size();
  return nullptr;
}

char* copy_of(const std::string& name) {
  char* const text = static_cast<char*>(counted(new char[name.size() + 1]));
  std::memcpy(text, name.c_str(), name.size() + 1);
  return text;
}

FakeStatus* input_name(const int*, std::size_t place, int*, char** out) {
  *out = copy_of(ort->inputs[place].name);
  return nullptr;
}

FakeStatus* output_name(const int*, std::size_t place, int*, char** out) {
  *out = copy_of(ort->outputs[place].name);
  return nullptr;
}

FakeStatus* free_allocated(int*, void* text) {
  --ort->objects;
  delete[] static_cast<char*>(text);
  return nullptr;
}

FakeStatus* default_allocator(int** out) {
  static int allocator = 0;
  *out = &allocator;
  return nullptr;
}

FakeStatus* type_of(const FakeOrt::Described& described, FakeTensor** out) {
  *out = static_cast<FakeTensor*>(counted(new FakeTensor));
  (*out)->type = described.tensor ? described.type : 0;
  (*out)->dims = described.dims;
  return nullptr;
}

FakeStatus* input_type(const int*, std::size_t place, FakeTensor** out) { return type_of(ort->inputs[place], out); }

FakeStatus* output_type(const int*, std::size_t place, FakeTensor** out) { return type_of(ort->outputs[place], out); }

FakeStatus* tensor_info_of_type(const FakeTensor* described, const FakeTensor** out) {
  *out = described->type == 0 ? nullptr : described;
  return nullptr;
}

FakeStatus* element_type_of(const FakeTensor* tensor, int* out) {
  *out = tensor->type;
  return nullptr;
}

FakeStatus* rank(const FakeTensor* tensor, std::size_t* out) {
  *out = tensor->dims.size();
  return nullptr;
}

FakeStatus* dims(const FakeTensor* tensor, std::int64_t* out, std::size_t given) {
  if (given != tensor->dims.size()) return failure("another number of dimensions");
  for (std::size_t axis = 0; axis < given; ++axis) out[axis] = tensor->dims[axis];
  return nullptr;
}

FakeStatus* tensor_info(const FakeTensor* value, FakeTensor** out) {
  *out = static_cast<FakeTensor*>(counted(new FakeTensor));
  (*out)->type = value->type;
  (*out)->dims = value->dims;
  return nullptr;
}

FakeStatus* tensor_data(FakeTensor* value, void** out) {
  *out = value->data;
  return nullptr;
}

FakeStatus* cpu_memory(int, int, int** out) { return make(out); }

FakeStatus* create_tensor(const int*, void* data, std::size_t bytes, const std::int64_t* sizes, std::size_t number,
                          int type, FakeTensor** out) {
  std::int64_t elements = 1;
  for (std::size_t axis = 0; axis < number; ++axis) elements *= sizes[axis];
  if (type == 1 && bytes != std::size_t(elements) * sizeof(float)) return failure("another number of bytes");
  ++ort->tensors_made;
  *out = static_cast<FakeTensor*>(counted(new FakeTensor));
  (*out)->type = type;
  (*out)->dims.assign(sizes, sizes + number);
  (*out)->data = data;
  return nullptr;
}

// Output N is the doubled input N, or of the last one.
FakeStatus* run(int*, const void*, const char* const*, const FakeTensor* const* values, std::size_t number,
                const char* const*, std::size_t wanted, FakeTensor** results) {
  ++ort->runs;
  if (!ort->fail_run.empty()) return failure(ort->fail_run);
  for (std::size_t place = 0; place < wanted; ++place) {
    const FakeTensor& given = *values[place < number ? place : number - 1];
    std::vector<std::int64_t> dims = given.dims;
    if (ort->result_rank > 0) dims.assign(ort->result_rank, 1);
    if (ort->result_rows > 0) dims[0] = ort->result_rows;
    std::int64_t elements = 1;
    for (const std::int64_t size : dims) elements *= size;
    if (results[place] == nullptr) {
      results[place] = static_cast<FakeTensor*>(counted(new FakeTensor));
      results[place]->type = ort->result_type;
      results[place]->dims = dims;
      results[place]->own.resize(std::size_t(elements));
      results[place]->data = results[place]->own.data();
    } else if (results[place]->dims != dims) {
      return failure("OrtValue shape verification failed");
    } else {
      ++ort->results_given;
    }
    const float* const numbers = static_cast<const float*>(given.data);
    float* const doubled = static_cast<float*>(results[place]->data);
    for (std::int64_t each = 0; each < elements; ++each) doubled[each] = 2 * numbers[each];
  }
  return nullptr;
}

const void* table[kPlaces] = {};

template <typename Function>
void put(std::size_t place, Function* function) {
  table[place] = reinterpret_cast<const void*>(function);
}

const void* const* table_of(std::uint32_t version) { return ort->has_table && version <= 32 ? table : nullptr; }

const char* version_text() { return ort->version.c_str(); }

const ApiBase kBase = {table_of, version_text};

}  // namespace

const ApiBase* FakeOrt::base() {
  ort = this;
  put(2, message_of);
  put(3, create_env);
  put(7, create_session);
  put(9, run);
  put(10, create_options);
  put(22, set_log_level);
  put(24, set_threads);
  put(30, input_count);
  put(31, output_count);
  put(33, input_type);
  put(34, output_type);
  put(36, input_name);
  put(37, output_name);
  put(49, create_tensor);
  put(51, tensor_data);
  put(55, tensor_info_of_type);
  put(60, element_type_of);
  put(61, rank);
  put(62, dims);
  put(65, tensor_info);
  put(69, cpu_memory);
  put(76, free_allocated);
  put(78, default_allocator);
  put(92, release<int>);
  put(93, release<FakeStatus>);
  put(94, release<int>);
  put(95, release<int>);
  put(96, release<FakeTensor>);
  put(98, release<FakeTensor>);
  put(99, release<FakeTensor>);
  put(100, release<int>);
  return &kBase;
}

}  // namespace fakes
