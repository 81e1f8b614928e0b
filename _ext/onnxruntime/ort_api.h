// onnxruntime's C interface, found at run time in the library that its Python wheel brings.
//
// OrtGetApiBase() gives a table of functions for the version of the interface that is asked for. Tables only grow: a
// function keeps its place in all later versions (onnxruntime_c_api.h declares them in this order, and asserts the
// places at which the functions of each version end; 101, ReleaseCustomOpDomain, ends the first). So the places below
// are what has to be known of it, and all of them belong to the first version.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "requests/tensor_copy.h"
#include "running/memory_pressure.h"
#include "running/shared_library.h"

namespace paddleinfer::onnxruntime {

// The version whose table is asked for; every onnxruntime from 1.13 on has it.
inline constexpr std::uint32_t kApiVersion = 13;
inline constexpr int kFatal = 4;  // OrtLoggingLevel: failures come as messages, so nothing else is to be written

struct Env;
struct Status;
struct Session;
struct SessionOptions;
struct RunOptions;
struct Value;
struct MemoryInfo;
struct TypeInfo;
struct TensorInfo;  // OrtTensorTypeAndShapeInfo
struct Allocator;

struct ApiBase {
  const void* const* (*table)(std::uint32_t version);
  const char* (*version)();
};

// ONNX's element types, as TensorProto::DataType numbers them.
constexpr int element_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32:
      return 1;
    case DType::uint8:
      return 2;
    case DType::int8:
      return 3;
    case DType::int16:
      return 5;
    case DType::int32:
      return 6;
    case DType::int64:
      return 7;
    case DType::boolean:
      return 9;
    case DType::float16:
      return 10;
    case DType::float64:
      return 11;
    case DType::bfloat16:
      return 16;
  }
  return 0;
}

// The reverse; false for a type that the core does not have.
constexpr bool find_dtype(int type, DType& dtype) noexcept { return find_numbered(element_type, type, dtype); }

struct Api {
  const char* (*error_message)(const Status*) = nullptr;
  Status* (*create_env)(int level, const char* id, Env**) = nullptr;
  Status* (*create_session)(const Env*, const char* path, const SessionOptions*, Session**) = nullptr;
  Status* (*run)(Session*, const RunOptions*, const char* const* inputs, const Value* const* values, std::size_t,
                 const char* const* outputs, std::size_t, Value** results) = nullptr;
  Status* (*create_options)(SessionOptions**) = nullptr;
  Status* (*set_log_level)(SessionOptions*, int level) = nullptr;
  Status* (*set_threads)(SessionOptions*, int threads) = nullptr;
  Status* (*input_count)(const Session*, std::size_t*) = nullptr;
  Status* (*output_count)(const Session*, std::size_t*) = nullptr;
  Status* (*input_type)(const Session*, std::size_t index, TypeInfo**) = nullptr;
  Status* (*output_type)(const Session*, std::size_t index, TypeInfo**) = nullptr;
  Status* (*input_name)(const Session*, std::size_t index, Allocator*, char**) = nullptr;
  Status* (*output_name)(const Session*, std::size_t index, Allocator*, char**) = nullptr;
  Status* (*create_tensor)(const MemoryInfo*, void* data, std::size_t bytes, const std::int64_t* dims, std::size_t rank,
                           int type, Value**) = nullptr;
  Status* (*tensor_data)(Value*, void**) = nullptr;
  Status* (*tensor_info_of_type)(const TypeInfo*, const TensorInfo**) = nullptr;
  Status* (*element_type_of)(const TensorInfo*, int*) = nullptr;
  Status* (*rank)(const TensorInfo*, std::size_t*) = nullptr;
  Status* (*dims)(const TensorInfo*, std::int64_t*, std::size_t rank) = nullptr;
  Status* (*tensor_info)(const Value*, TensorInfo**) = nullptr;
  Status* (*cpu_memory)(int allocator_type, int memory_type, MemoryInfo**) = nullptr;
  Status* (*free_allocated)(Allocator*, void*) = nullptr;
  Status* (*default_allocator)(Allocator**) = nullptr;
  void (*release_env)(Env*) = nullptr;
  void (*release_status)(Status*) = nullptr;
  void (*release_memory_info)(MemoryInfo*) = nullptr;
  void (*release_session)(Session*) = nullptr;
  void (*release_value)(Value*) = nullptr;
  void (*release_type_info)(TypeInfo*) = nullptr;
  void (*release_tensor_info)(TensorInfo*) = nullptr;
  void (*release_options)(SessionOptions*) = nullptr;

  std::string version;
  std::string problem;  // why this library cannot be used; empty if it can

  // `path` names the library, which is loaded if it is not yet, and stays.
  static Api load(const char* path) {
    Api api;
    SharedLibrary library(path);
    const ApiBase* (*base)() = nullptr;
    library.find(base, "OrtGetApiBase");
    if (base != nullptr) return of(base());
    api.problem = library.problem();
    return api;
  }

  static Api of(const ApiBase* base) {
    Api api;
    if (base == nullptr || base->table == nullptr || base->version == nullptr) {
      api.problem = "its OrtGetApiBase gives nothing";
      return api;
    }
    api.version = base->version();
    if (!is_known(api.version)) {
      api.problem = "its version " + api.version + " is not one of 1.13 to 1.x";
      return api;
    }
    const void* const* const table = base->table(kApiVersion);
    if (table == nullptr) {
      api.problem = "it does not have version " + std::to_string(kApiVersion) + " of its C interface";
      return api;
    }
    api.take(table);
    return api;
  }

  bool usable() const noexcept { return problem.empty(); }

  // Throws what a call failed with.
  void check(Status* status) const {
    if (status == nullptr) return;
    const Held<Status> held(status, release_status);
    std::string message = error_message(status);
    if (message.find("Failed to allocate memory") != std::string::npos && !says_out_of_memory(message)) {
      message += std::string(": ") + kOutOfMemory;
    }
    throw std::runtime_error(message);
  }

 private:
  static bool is_known(const std::string& version) noexcept {
    if (version.rfind("1.", 0) != 0) return false;
    return std::strtol(version.c_str() + 2, nullptr, 10) >= long{kApiVersion};
  }

  template <typename Function>
  void find(const void* const* table, Function*& function, std::size_t place, const char* name) {
    function = reinterpret_cast<Function*>(const_cast<void*>(table[place]));
    if (function == nullptr && problem.empty()) problem = std::string("it has no ") + name;
  }

  void take(const void* const* table) {
    find(table, error_message, 2, "GetErrorMessage");
    find(table, create_env, 3, "CreateEnv");
    find(table, create_session, 7, "CreateSession");
    find(table, run, 9, "Run");
    find(table, create_options, 10, "CreateSessionOptions");
    find(table, set_log_level, 22, "SetSessionLogSeverityLevel");
    find(table, set_threads, 24, "SetIntraOpNumThreads");
    find(table, input_count, 30, "SessionGetInputCount");
    find(table, output_count, 31, "SessionGetOutputCount");
    find(table, input_type, 33, "SessionGetInputTypeInfo");
    find(table, output_type, 34, "SessionGetOutputTypeInfo");
    find(table, input_name, 36, "SessionGetInputName");
    find(table, output_name, 37, "SessionGetOutputName");
    find(table, create_tensor, 49, "CreateTensorWithDataAsOrtValue");
    find(table, tensor_data, 51, "GetTensorMutableData");
    find(table, tensor_info_of_type, 55, "CastTypeInfoToTensorInfo");
    find(table, element_type_of, 60, "GetTensorElementType");
    find(table, rank, 61, "GetDimensionsCount");
    find(table, dims, 62, "GetDimensions");
    find(table, tensor_info, 65, "GetTensorTypeAndShape");
    find(table, cpu_memory, 69, "CreateCpuMemoryInfo");
    find(table, free_allocated, 76, "AllocatorFree");
    find(table, default_allocator, 78, "GetAllocatorWithDefaultOptions");
    find(table, release_env, 92, "ReleaseEnv");
    find(table, release_status, 93, "ReleaseStatus");
    find(table, release_memory_info, 94, "ReleaseMemoryInfo");
    find(table, release_session, 95, "ReleaseSession");
    find(table, release_value, 96, "ReleaseValue");
    find(table, release_type_info, 98, "ReleaseTypeInfo");
    find(table, release_tensor_info, 99, "ReleaseTensorTypeAndShapeInfo");
    find(table, release_options, 100, "ReleaseSessionOptions");
  }
};

}  // namespace paddleinfer::onnxruntime
