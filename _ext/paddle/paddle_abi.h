// Paddle's own C++ inference API, found at run time in the library its Python wheel brings.
//
// The wheel ships no headers, so nothing here knows a class layout of Paddle's: only member functions on
// pointers that Paddle made, and std::vector, std::string, std::shared_ptr and std::unique_ptr as the
// platform's libstdc++ passes them (Itanium C++ ABI: a non-trivial result goes through a hidden pointer,
// `this` is the first argument). Whatever is missing is named, and the caller falls back to Python's run().
#pragma once

#include <dlfcn.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "requests/tensor_copy.h"
#include "requests/thread_safety.h"
#include "running/shared_library.h"

namespace paddleinfer::paddle {

struct Predictor;    // paddle_infer::Predictor
struct Tensor;       // paddle_infer::Tensor
struct Config;       // paddle::AnalysisConfig
struct DenseTensor;  // phi::DenseTensor
struct Place;        // phi::Place

struct KeepAlive {
  template <typename T>
  void operator()(T*) const noexcept {}
};
template <typename T>
using Released = std::unique_ptr<T, KeepAlive>;  // passed like a unique_ptr, deletes nothing

// Cloning, and making and destroying predictors, is not thread-safe in Paddle. Never destroyed, so that a
// thread which outlives main() may still take it.
inline Mutex& predictor_lock() noexcept {
  static Mutex* const lock = new Mutex;
  return *lock;
}

// The copies between a tensor and host memory, which follow the tensor to a device or out of oneDNN's layout.
struct TypedSymbols {
  void (*copy_from_cpu)(Tensor*, const void*) = nullptr;
  void (*copy_to_cpu)(const Tensor*, void*) = nullptr;
};

// phi::DataType, in its declared order.
constexpr int phi_code(DType dtype) noexcept {
  switch (dtype) {
    case DType::boolean:
      return 1;
    case DType::uint8:
      return 2;
    case DType::int8:
      return 3;
    case DType::int16:
      return 5;
    case DType::int32:
      return 7;
    case DType::int64:
      return 9;
    case DType::float32:
      return 10;
    case DType::float64:
      return 11;
    case DType::float16:
      return 15;
    case DType::bfloat16:
      return 16;
  }
  return 0;
}

struct Abi {
  std::shared_ptr<Predictor> (*create)(const Config&) = nullptr;
  Released<Predictor> (*clone)(Predictor*, void* stream) = nullptr;
  bool (*run)(Predictor*) = nullptr;
  Released<Tensor> (*input_handle)(Predictor*, const std::string&) = nullptr;
  Released<Tensor> (*output_handle)(Predictor*, const std::string&) = nullptr;
  std::vector<std::string> (*input_names)(Predictor*) = nullptr;
  std::vector<std::string> (*output_names)(Predictor*) = nullptr;
  const std::string& (*program_file)(const Config*) = nullptr;
  void (*reshape)(Tensor*, const std::vector<int>&) = nullptr;
  std::vector<int> (*shape)(const Tensor*) = nullptr;
  DenseTensor* (*dense)(const Tensor*) = nullptr;
  void* (*mutable_data)(DenseTensor*, const Place&, int type, std::size_t bytes) = nullptr;
  const void* (*data)(const DenseTensor*) = nullptr;
  int (*type)(const DenseTensor*) = nullptr;
  // std::_Sp_counted_ptr<Predictor*>::_M_dispose: the one exported function that deletes a Predictor.
  void (*dispose)(void* control_block) = nullptr;
  std::array<TypedSymbols, kDTypes> typed{};

  void* library = nullptr;
  std::vector<std::string> missing;  // mangled names

  bool complete() const noexcept { return library != nullptr && missing.empty(); }

  // `path` names a library that is loaded already.
  static Abi load(const char* path) {
    Abi abi;
    abi.library = dlopen(path, RTLD_NOLOAD | RTLD_LAZY);
    if (abi.library == nullptr) {
      abi.missing.push_back(path);
      return abi;
    }
    abi.find(abi.create, "_ZN12paddle_infer15CreatePredictorERKN6paddle14AnalysisConfigE");
    abi.find(abi.clone, "_ZN12paddle_infer9Predictor5CloneEPv");
    abi.find(abi.run, "_ZN12paddle_infer9Predictor3RunEv");
    abi.find(abi.input_handle, "_ZN12paddle_infer9Predictor14GetInputHandleE" + kStringRef);
    abi.find(abi.output_handle, "_ZN12paddle_infer9Predictor15GetOutputHandleE" + kStringRef);
    abi.find(abi.input_names, "_ZN12paddle_infer9Predictor13GetInputNamesB5cxx11Ev");
    abi.find(abi.output_names, "_ZN12paddle_infer9Predictor14GetOutputNamesB5cxx11Ev");
    abi.find(abi.program_file, "_ZNK6paddle14AnalysisConfig9prog_fileB5cxx11Ev");
    abi.find(abi.reshape, "_ZN12paddle_infer6Tensor7ReshapeERKSt6vectorIiSaIiEE");
    abi.find(abi.shape, "_ZNK12paddle_infer6Tensor5shapeEv");
    abi.find(abi.dense, "_ZNK12paddle_infer6Tensor10FindTensorIN3phi11DenseTensorEEEPvv");
    abi.find(abi.mutable_data, "_ZN3phi11DenseTensor12mutable_dataERKNS_5PlaceENS_8DataTypeEm");
    abi.find(abi.data, "_ZNK3phi11DenseTensor4dataEv");
    abi.find(abi.type, "_ZNK3phi11DenseTensor5dtypeEv");
    abi.find(abi.dispose,
             "_ZNSt15_Sp_counted_ptrIPN12paddle_infer9PredictorELN9__gnu_cxx12_Lock_policyE2EE10_M_disposeEv");
    for (const auto& [dtype, code] : kCodes) {
      TypedSymbols& typed = abi.typed[static_cast<std::size_t>(dtype)];
      abi.find(typed.copy_from_cpu, "_ZN12paddle_infer6Tensor11CopyFromCpuI" + code + "EEvPKT_");
      abi.find(typed.copy_to_cpu, "_ZNK12paddle_infer6Tensor9CopyToCpuI" + code + "EEvPT_");
    }
    return abi;
  }

  // Deletes a clone: a control block as libstdc++ lays it out, whose pointer is at the third word.
  void destroy(Predictor* predictor) const {
    struct ControlBlock {
      void* vtable = nullptr;
      int use_count = 1;
      int weak_count = 1;
      Predictor* pointer;
    } block{nullptr, 1, 1, predictor};
    dispose(&block);
  }

 private:
  inline static const std::string kStringRef = "RKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE";
  // How the Itanium ABI spells the element types. Paddle's inference tensors copy no int16.
  inline static const std::vector<std::pair<DType, std::string>> kCodes = {
      {DType::float32, "f"},
      {DType::float64, "d"},
      {DType::float16, "N3phi5dtype7float16E"},
      {DType::bfloat16, "N3phi5dtype8bfloat16E"},
      {DType::int8, "a"},
      {DType::int32, "i"},
      {DType::int64, "l"},
      {DType::uint8, "h"},
      {DType::boolean, "b"},
  };

  template <typename Function>
  void find(Function& function, const std::string& name) {
    if (!find_symbol(library, function, name.c_str())) missing.push_back(name);
  }
};

}  // namespace paddleinfer::paddle
