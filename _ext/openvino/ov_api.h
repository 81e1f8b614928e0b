// OpenVINO's C interface, found at run time in the library that its Python wheel brings.
//
// The structures below are those of its headers, and the numbers of element types those of ov_common.h. The latter
// have changed before 2026, so other years are left to Python's interface.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "requests/tensor_copy.h"
#include "running/shared_library.h"

namespace paddleinfer::openvino {

struct Core;
struct Model;
struct CompiledModel;
struct InferRequest;
struct Port;  // ov_output_const_port_t
struct Tensor;

struct Version {
  const char* number;  // such as 2026.4.1-22982-e213a147257-releases/2026/4
  const char* description;
};

struct Sizes {  // ov_shape_t
  std::int64_t rank;
  std::int64_t* dims;
};

struct Dimension {
  std::int64_t min;
  std::int64_t max;
};

struct PartialSizes {  // ov_partial_shape_t
  Dimension rank;
  Dimension* dims;  // null where the rank is free
};

inline constexpr int kInvalidParameter = -14;  // of ov_status_e

// ov_element_type_e
constexpr int element_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::boolean:
      return 1;
    case DType::bfloat16:
      return 2;
    case DType::float16:
      return 3;
    case DType::float32:
      return 4;
    case DType::float64:
      return 5;
    case DType::int8:
      return 7;
    case DType::int16:
      return 8;
    case DType::int32:
      return 9;
    case DType::int64:
      return 10;
    case DType::uint8:
      return 16;
  }
  return 0;
}

// The reverse; false for a type that the core does not have.
constexpr bool find_dtype(int type, DType& dtype) noexcept { return find_numbered(element_type, type, dtype); }

struct Api {
  const char* (*error_info)(int status) = nullptr;
  const char* (*last_error)() = nullptr;  // a copy of the process's last one, or null
  void (*free_text)(const char*) = nullptr;
  int (*openvino_version)(Version*) = nullptr;
  void (*free_version)(Version*) = nullptr;
  int (*create_core)(Core**) = nullptr;
  void (*free_core)(Core*) = nullptr;
  int (*read_model)(const Core*, const char* path, const char* weights, Model**) = nullptr;
  void (*free_model)(Model*) = nullptr;
  // After them as many texts as `properties` says: names and values in turn.
  int (*compile)(const Core*, const Model*, const char* device, std::size_t properties, CompiledModel**, ...) = nullptr;
  void (*free_compiled)(CompiledModel*) = nullptr;
  int (*property)(const CompiledModel*, const char* name, char** value) = nullptr;
  int (*input_count)(const CompiledModel*, std::size_t*) = nullptr;
  int (*output_count)(const CompiledModel*, std::size_t*) = nullptr;
  int (*input_port)(const CompiledModel*, std::size_t index, Port**) = nullptr;
  int (*named_input)(const CompiledModel*, const char* name, Port**) = nullptr;
  int (*output_port)(const CompiledModel*, std::size_t index, Port**) = nullptr;
  void (*free_port)(Port*) = nullptr;
  int (*port_name)(const Port*, char**) = nullptr;
  int (*port_type)(const Port*, int*) = nullptr;
  int (*port_sizes)(const Port*, PartialSizes*) = nullptr;
  void (*free_partial_sizes)(PartialSizes*) = nullptr;
  int (*create_request)(const CompiledModel*, InferRequest**) = nullptr;
  void (*free_request)(InferRequest*) = nullptr;
  int (*set_input)(InferRequest*, std::size_t index, const Tensor*) = nullptr;
  int (*infer)(InferRequest*) = nullptr;
  int (*output)(const InferRequest*, std::size_t index, Tensor**) = nullptr;
  int (*create_tensor)(int type, Sizes, void* data, Tensor**) = nullptr;
  void (*free_tensor)(Tensor*) = nullptr;
  int (*tensor_type)(const Tensor*, int*) = nullptr;
  int (*tensor_sizes)(const Tensor*, Sizes*) = nullptr;  // fails for a scalar
  int (*tensor_elements)(const Tensor*, std::size_t*) = nullptr;
  int (*free_sizes)(Sizes*) = nullptr;
  int (*tensor_data)(const Tensor*, void**) = nullptr;

  std::string version;  // up to the first dash
  std::string problem;  // why this library cannot be used; empty if it can

  // `path` names the library, which is loaded if it is not yet, and stays.
  static Api load(const char* path) {
    SharedLibrary library(path);
    return of(library);
  }

  // `library` finds functions as SharedLibrary does.
  template <typename Library>
  static Api of(Library& library) {
    Api api;
    api.take(library);
    api.problem = library.problem();
    if (api.usable()) api.check_version();
    return api;
  }

  bool usable() const noexcept { return problem.empty(); }

  // Throws what a call failed with. The library keeps one message for all threads: where two calls fail at a time,
  // both may be told the later one's.
  void check(int status) const {
    if (status == 0) return;
    const Held<const char> message(last_error(), free_text);
    const char* const text = message == nullptr || *message == '\0' ? error_info(status) : message.get();
    throw std::runtime_error(text);
  }

 private:
  template <typename Library>
  void take(Library& library) {
    library.find(error_info, "ov_get_error_info");
    library.find(last_error, "ov_get_last_err_msg");
    library.find(free_text, "ov_free");
    library.find(openvino_version, "ov_get_openvino_version");
    library.find(free_version, "ov_version_free");
    library.find(create_core, "ov_core_create");
    library.find(free_core, "ov_core_free");
    library.find(read_model, "ov_core_read_model");
    library.find(free_model, "ov_model_free");
    library.find(compile, "ov_core_compile_model");
    library.find(free_compiled, "ov_compiled_model_free");
    library.find(property, "ov_compiled_model_get_property");
    library.find(input_count, "ov_compiled_model_inputs_size");
    library.find(output_count, "ov_compiled_model_outputs_size");
    library.find(input_port, "ov_compiled_model_input_by_index");
    library.find(named_input, "ov_compiled_model_input_by_name");
    library.find(output_port, "ov_compiled_model_output_by_index");
    library.find(free_port, "ov_output_const_port_free");
    library.find(port_name, "ov_port_get_any_name");
    library.find(port_type, "ov_port_get_element_type");
    library.find(port_sizes, "ov_port_get_partial_shape");
    library.find(free_partial_sizes, "ov_partial_shape_free");
    library.find(create_request, "ov_compiled_model_create_infer_request");
    library.find(free_request, "ov_infer_request_free");
    library.find(set_input, "ov_infer_request_set_input_tensor_by_index");
    library.find(infer, "ov_infer_request_infer");
    library.find(output, "ov_infer_request_get_output_tensor_by_index");
    library.find(create_tensor, "ov_tensor_create_from_host_ptr");
    library.find(free_tensor, "ov_tensor_free");
    library.find(tensor_type, "ov_tensor_get_element_type");
    library.find(tensor_sizes, "ov_tensor_get_shape");
    library.find(tensor_elements, "ov_tensor_get_size");
    library.find(free_sizes, "ov_shape_free");
    library.find(tensor_data, "ov_tensor_data");
  }

  void check_version() {
    Version found{};
    if (openvino_version(&found) != 0 || found.number == nullptr) {
      problem = "its ov_get_openvino_version gives nothing";
      return;
    }
    version = found.number;
    free_version(&found);
    version = version.substr(0, version.find('-'));
    if (version.rfind("2026.", 0) != 0) problem = "its version " + version + " is not one of 2026";
  }
};

}  // namespace paddleinfer::openvino
