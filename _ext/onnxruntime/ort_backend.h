// onnxruntime as an instance's backend: the shared session runs on this instance's inputs.
#pragma once

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "onnxruntime/ort_session.h"
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
      : model_(std::move(model)), names_(std::move(names)), inputs_(names_.inputs.size()) {
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
    Input& input = inputs_.at(index);
    if (input.value && input.dtype == dtype && input.shape == shape) return input.memory.get();
    input.value.reset();
    const std::size_t bytes = shape.bytes(dtype);
    if (!input.memory || input.bytes < bytes) {
      input.memory = allocate(bytes);
      input.bytes = bytes;
    }
    input.dtype = dtype;
    input.shape = shape;
    return input.memory.get();
  }

  void run() override {
    const Api& api = model_->api();
    outputs_.clear();
    outputs_.reserve(output_names_.size());
    values_.clear();
    for (const std::size_t place : handed_over_) values_.push_back(value_of(inputs_[place]));
    results_.assign(output_names_.size(), nullptr);
    Status* const status = api.run(model_->session(), nullptr, input_names_.data(), values_.data(), values_.size(),
                                   output_names_.data(), results_.size(), results_.data());
    for (Value* const result : results_) outputs_.emplace_back(result, api.release_value);
    api.check(status);
  }

  // The session's own memory, which lasts as long as its value.
  TensorView output(std::size_t index) override {
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
    if (view.bytes() == 0) return view;
    void* data = nullptr;
    api.check(api.tensor_data(value, &data));
    view.data = data;
    return view;
  }

 private:
  struct Input {
    DType dtype = DType::float32;
    Shape shape;
    Memory memory;
    std::size_t bytes = 0;
    Held<Value> value{nullptr, nullptr};  // over `memory`, of this dtype and shape
  };

  const Value* value_of(Input& input) {
    if (!input.value) {
      const Api& api = model_->api();
      input.value = made<Value>(api, api.release_value, [&](Value** out) {
        return api.create_tensor(model_->memory(), input.memory.get(), input.shape.bytes(input.dtype), input.shape.dims,
                                 input.shape.rank, element_type(input.dtype), out);
      });
    }
    return input.value.get();
  }

  const std::shared_ptr<const LoadedModel> model_;
  const TensorNames names_;
  std::vector<const char*> input_names_;
  std::vector<const char*> output_names_;
  std::vector<std::size_t> handed_over_;
  std::vector<Input> inputs_;
  std::vector<const Value*> values_;  // of one run
  std::vector<Value*> results_;       // likewise
  std::vector<Held<Value>> outputs_;
};

inline BackendFactory ort_backend(std::shared_ptr<const LoadedModel> model, const TensorNames& names) {
  return [model = std::move(model), names]() -> std::unique_ptr<Backend> {
    return std::make_unique<OrtBackend>(model, names);
  };
}

}  // namespace paddleinfer::onnxruntime
