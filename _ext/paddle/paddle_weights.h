// One copy of the weights for all clones of a `.json` model.
//
// Paddle loads the parameters anew into every clone's own scope. Right after a clone is made, and before it
// runs, its parameters become aliases of the first predictor's. This is the one place that rests on class
// layouts, three of them, so each step is checked, and the first doubt leaves the copies as they are:
//   paddle_infer::Predictor   holds one pointer, to a paddle::AnalysisPredictor
//   framework::Variable       holds a shared_ptr to a placeholder
//   its placeholder           holds a vtable pointer, then the pointer to a phi::DenseTensor
#pragma once

#include <cstdint>
#include <cstring>
#include <iterator>
#include <list>
#include <string>
#include <vector>

#include "paddle/paddle_abi.h"

namespace paddleinfer::paddle {

struct WeightReport {
  std::size_t shared = 0;
  std::size_t bytes = 0;  // of memory that is no longer held twice
  std::string refusal;    // why nothing (more) is shared; empty when all is
};

class WeightSharing {
 public:
  explicit WeightSharing(const Abi& abi) {
    bool all = true;
    const auto find = [&](auto& function, const char* name) { all = find_symbol(abi.library, function, name) && all; };
    find(analysis_vtable_, "_ZTVN6paddle17AnalysisPredictorE");
    find(tensor_vtable_, "_ZTVN3phi11DenseTensorE");
    find(scope_, "_ZN6paddle17AnalysisPredictor5scopeEv");
    find(kids_, "_ZNK6paddle9framework5Scope4kidsB5cxx11Ev");
    find(find_local_,
         "_ZNK6paddle9framework5Scope12FindLocalVarERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE");
    find(elements_, "_ZNK3phi11DenseTensor5numelEv");
    find(type_, "_ZNK3phi11DenseTensor5dtypeEv");
    find(memory_size_, "_ZNK3phi11DenseTensor11memory_sizeEv");
    find(data_, "_ZNK3phi11DenseTensor4dataEv");
    find(share_, "_ZN3phi11DenseTensor13ShareDataWithERKS0_");
    complete_ = all;
  }

  // Under the predictor lock; neither predictor runs.
  WeightReport share(Predictor* root, Predictor* clone, const std::vector<std::string>& names) const {
    WeightReport report;
    if (!complete_) return refuse(report, "this Paddle does not export what sharing needs");
    void* analysis = first_word(root);
    if (!is_a(analysis, analysis_vtable_) || !is_a(first_word(clone), analysis_vtable_)) {
      return refuse(report, "the predictor is not laid out as expected");
    }
    Scope* parent = scope_(analysis);
    if (parent == nullptr || parent != scope_(first_word(clone))) {
      return refuse(report, "the clone has a scope of its own");
    }
    const std::list<Scope*>& kids = kids_(parent);
    if (kids.size() < 2) return refuse(report, "the clone's scope was not found");
    for (const std::string& name : names) {
      const DenseTensor* ours = tensor(kids.front(), name);
      DenseTensor* theirs = tensor(kids.back(), name);
      // A parameter that a pass folded away is in neither scope.
      if (ours == nullptr && theirs == nullptr) continue;
      if (ours == nullptr || theirs == nullptr) return refuse(report, "parameter " + name + " is in one scope only");
      if (!same_bytes(ours, theirs)) return refuse(report, "parameter " + name + " differs between the predictors");
      const std::size_t bytes = bytes_of(theirs);
      const bool copied = data_(ours) != data_(theirs);
      share_(theirs, *ours);
      if (data_(theirs) != data_(ours)) return refuse(report, "parameter " + name + " could not be aliased");
      ++report.shared;
      if (copied) report.bytes += bytes;
    }
    return report;
  }

 private:
  struct Scope;
  struct Variable;
  struct DenseTensor;
  struct Placeholder {
    void* vtable;
    void* pointer;
  };

  static WeightReport& refuse(WeightReport& report, std::string why) {
    report.refusal = std::move(why);
    return report;
  }
  static void* first_word(const void* object) noexcept {
    return object == nullptr ? nullptr : *static_cast<void* const*>(object);
  }
  // An object points two words into its class's vtable (Itanium C++ ABI).
  static bool is_a(const void* object, const void* vtable) noexcept {
    return first_word(object) == static_cast<const void*>(static_cast<const char*>(vtable) + 2 * sizeof(void*));
  }

  DenseTensor* tensor(const Scope* scope, const std::string& name) const {
    Variable* variable = find_local_(scope, name);
    if (variable == nullptr) return nullptr;
    const auto* placeholder = static_cast<const Placeholder*>(first_word(variable));
    if (placeholder == nullptr || !is_a(placeholder->pointer, tensor_vtable_)) return nullptr;
    return static_cast<DenseTensor*>(placeholder->pointer);
  }

  // Bytes of one element by phi::DataType, in its declared order; 0: not a type of plain numbers.
  static std::size_t element_bytes(int type) noexcept {
    constexpr std::size_t kBytes[] = {0, 1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 8, 16, 0, 2, 2};
    return type >= 0 && type < int(std::size(kBytes)) ? kBytes[type] : 0;
  }

  // The bytes of the elements; memory_size_ may round up.
  std::size_t bytes_of(const DenseTensor* tensor) const {
    return static_cast<std::size_t>(elements_(tensor)) * element_bytes(type_(tensor));
  }

  bool same_bytes(const DenseTensor* a, const DenseTensor* b) const {
    if (elements_(a) != elements_(b) || type_(a) != type_(b)) return false;
    const std::size_t bytes = bytes_of(a);
    if (bytes == 0 || memory_size_(a) < bytes || memory_size_(b) < bytes) return false;
    const void* bytes_a = data_(a);
    const void* bytes_b = data_(b);
    return bytes_a == bytes_b || std::memcmp(bytes_a, bytes_b, bytes) == 0;
  }

  bool complete_ = false;
  const void* analysis_vtable_ = nullptr;
  const void* tensor_vtable_ = nullptr;
  Scope* (*scope_)(void*) = nullptr;
  const std::list<Scope*>& (*kids_)(const Scope*) = nullptr;
  Variable* (*find_local_)(const Scope*, const std::string&) = nullptr;
  std::int64_t (*elements_)(const DenseTensor*) = nullptr;
  int (*type_)(const DenseTensor*) = nullptr;
  std::size_t (*memory_size_)(const DenseTensor*) = nullptr;
  const void* (*data_)(const DenseTensor*) = nullptr;
  void (*share_)(DenseTensor*, const DenseTensor&) = nullptr;
};

}  // namespace paddleinfer::paddle
