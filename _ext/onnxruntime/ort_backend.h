// onnxruntime as an instance's backend: the shared session runs on this instance's inputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "onnxruntime/ort_session.h"
#include "onnxruntime/output_memory.h"
#include "requests/request.h"
#include "running/backend.h"

namespace paddleinfer::onnxruntime {

// What the engine's inputs and outputs are called in the ONNX model, in the engine's order. An input that the model
// does not have has an empty name, and is not handed over.
struct TensorNames {
  std::vector<std::string> inputs;
  std::vector<std::string> outputs;
};

class OrtBackend final : public Backend {
 public:
  OrtBackend(std::shared_ptr<const LoadedModel> model, TensorNames names)
      : model_(std::move(model)),
        names_(std::move(names)),
        inputs_(names_.inputs.size()),
        views_(names_.inputs.size()),
        memory_(model_, names_.outputs.size()) {
    for (std::size_t place = 0; place < inputs_.size(); ++place) {
      if (names_.inputs[place].empty()) continue;
      input_names_.push_back(names_.inputs[place].c_str());
      handed_over_.push_back(place);
    }
    for (const std::string& name : names_.outputs) output_names_.push_back(name.c_str());
  }

  // The rows are gathered into memory of ours, which the session reads where it lies.
  void* input(std::size_t index, DType dtype, const Shape& shape) override {
    if (index == 0) outputs_.clear();
    const TensorView view{dtype, shape, nullptr};
    Input& input = inputs_.at(index);
    TensorView& before = views_[index];
    if (input.value && before.dtype == dtype && before.shape == shape) return input.memory.get();
    input.value.reset();
    if (!input.memory || input.bytes < view.bytes()) {
      input.memory = allocate(view.bytes());
      input.bytes = view.bytes();
    }
    before = view;
    return input.memory.get();
  }

  void run() override {
    const Api& api = model_->api();
    outputs_.clear();
    outputs_.reserve(output_names_.size());
    values_.clear();
    for (const std::size_t place : handed_over_) values_.push_back(value_of(place));
    results_.assign(output_names_.size(), nullptr);
    shapes_ = signature_of(views_, /*with_rows=*/true);
    if (memory_.prepare(shapes_, results_)) {
      Held<Status> status(run_session(), api.release_status);
      if (status) {
        memory_.withdraw();
        results_.assign(output_names_.size(), nullptr);
        api.check(run_session());
        memory_.give_up();
      }
    } else {
      api.check(run_session());
    }
  }

  // The session's own memory, which lasts as long as its value, or what it was given to write to.
  TensorView output(std::size_t index) override {
    if (const TensorView* const written = memory_.written(index)) return *written;
    const Api& api = model_->api();
    Value* const value = outputs_.at(index).get();
    const auto info =
        made<TensorInfo>(api, api.release_tensor_info, [&](TensorInfo** out) { return api.tensor_info(value, out); });
    TensorView view;
    int type = 0;
    api.check(api.element_type_of(info.get(), &type));
    if (!find_dtype(type, view.dtype)) throw std::invalid_argument("an output has a dtype that is not supported");
    api.check(api.rank(info.get(), &view.shape.rank));
    if (view.shape.rank > kMaxRank) throw std::length_error("an output has more than nine dimensions");
    api.check(api.dims(info.get(), view.shape.dims, view.shape.rank));
    memory_.note(shapes_, index, view);
    if (view.bytes() == 0) return view;
    void* data = nullptr;
    api.check(api.tensor_data(value, &data));
    view.data = data;
    return view;
  }

  Memory take_output(std::size_t index) override { return memory_.take(index); }

 private:
  struct Input {
    Memory memory;
    std::size_t bytes = 0;
    Held<Value> value{nullptr, nullptr};  // over `memory`, of the dtype and shape of its view
  };

  const Value* value_of(std::size_t place) {
    Input& input = inputs_[place];
    if (!input.value) input.value = tensor_over(*model_, views_[place], input.memory.get());
    return input.value.get();
  }

  // Takes over what it makes, even where it fails.
  Status* run_session() {
    const Api& api = model_->api();
    Status* const status = api.run(model_->session(), nullptr, input_names_.data(), values_.data(), values_.size(),
                                   output_names_.data(), results_.size(), results_.data());
    outputs_.clear();
    for (std::size_t index = 0; index < results_.size(); ++index) {
      const bool own = memory_.written(index) == nullptr;
      outputs_.emplace_back(own ? results_[index] : nullptr, api.release_value);
    }
    return status;
  }

  const std::shared_ptr<const LoadedModel> model_;
  const TensorNames names_;
  std::vector<const char*> input_names_;
  std::vector<const char*> output_names_;
  std::vector<std::size_t> handed_over_;
  std::vector<Input> inputs_;
  std::vector<TensorView> views_;     // of the inputs, without their data
  std::vector<const Value*> values_;  // of one run
  std::vector<Value*> results_;       // likewise
  std::uint64_t shapes_ = 0;          // of its inputs
  std::vector<Held<Value>> outputs_;  // null where it wrote to memory of ours
  OutputMemory memory_;
};

inline BackendFactory ort_backend(std::shared_ptr<const LoadedModel> model, const TensorNames& names) {
  return [model = std::move(model), names]() -> std::unique_ptr<Backend> {
    return std::make_unique<OrtBackend>(model, names);
  };
}

}  // namespace paddleinfer::onnxruntime
