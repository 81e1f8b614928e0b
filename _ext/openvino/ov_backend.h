// OpenVINO as an instance's backend: a request of the shared model runs on this instance's inputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "openvino/ov_model.h"
#include "running/backend.h"

namespace paddleinfer::openvino {

// Where an input of the engine's goes.
struct InputPlace {
  std::string name;
  int index = -1;  // among the model's inputs; negative where the model does not have it
};

class OvBackend final : public Backend {
 public:
  OvBackend(std::shared_ptr<const LoadedModel> model, std::size_t instance, std::vector<InputPlace> places)
      : model_(std::move(model)),
        places_(std::move(places)),
        request_(model_->request(instance)),
        inputs_(places_.size()) {}

  // The rows are gathered into memory of ours, which the request reads where it lies.
  void* input(std::size_t index, DType dtype, const Shape& shape) override {
    if (index == 0) outputs_.clear();
    Input& input = inputs_.at(index);
    if (input.memory && input.dtype == dtype && input.shape == shape) return input.memory.get();
    const std::size_t bytes = shape.bytes(dtype);
    if (!input.memory || input.bytes < bytes) {
      input.memory = allocate(bytes);
      input.bytes = bytes;
    }
    input.dtype = dtype;
    input.shape = shape;
    input.bound = false;
    return input.memory.get();
  }

  void run() override {
    const Api& api = model_->api();
    outputs_.clear();
    for (std::size_t place = 0; place < inputs_.size(); ++place) {
      if (places_[place].index < 0) continue;
      refuse_wide(place);
      bind(place);
    }
    api.check(api.infer(request_.get()));
  }

  // The request's own memory, which its next run writes to.
  TensorView output(std::size_t index) override {
    const Api& api = model_->api();
    outputs_.push_back(
        made<Tensor>(api, api.free_tensor, [&](Tensor** out) { return api.output(request_.get(), index, out); }));
    const Tensor* const tensor = outputs_.back().get();
    TensorView view;
    int type = 0;
    api.check(api.tensor_type(tensor, &type));
    if (!find_dtype(type, view.dtype)) throw std::invalid_argument("an output has a dtype that is not supported");
    view.shape = shape_of(tensor);
    if (view.bytes() == 0) return view;
    void* data = nullptr;
    api.check(api.tensor_data(tensor, &data));
    view.data = data;
    return view;
  }

 private:
  struct Input {
    DType dtype = DType::float32;
    Shape shape;
    Memory memory;
    std::size_t bytes = 0;
    bool bound = false;  // the request reads `memory`, as of this dtype and shape
  };

  Shape shape_of(const Tensor* tensor) const {
    const Api& api = model_->api();
    Sizes sizes{};
    const int status = api.tensor_sizes(tensor, &sizes);
    std::size_t elements = 0;
    if (status == kInvalidParameter && api.tensor_elements(tensor, &elements) == 0 && elements == 1) return {};
    api.check(status);
    const std::unique_ptr<Sizes, int (*)(Sizes*)> held(&sizes, api.free_sizes);
    if (sizes.rank > std::int64_t(kMaxRank)) throw std::length_error("an output has more than nine dimensions");
    Shape shape;
    shape.rank = std::size_t(sizes.rank);
    for (std::size_t axis = 0; axis < shape.rank; ++axis) shape.dims[axis] = sizes.dims[axis];
    return shape;
  }

  void bind(std::size_t place) {
    const Api& api = model_->api();
    Input& input = inputs_[place];
    if (input.bound) return;
    const Sizes sizes{std::int64_t(input.shape.rank), input.shape.dims};
    const auto tensor = made<Tensor>(api, api.free_tensor, [&](Tensor** out) {
      return api.create_tensor(element_type(input.dtype), sizes, input.memory.get(), out);
    });
    api.check(api.set_input(request_.get(), std::size_t(places_[place].index), tensor.get()));
    input.bound = true;
  }

  // OpenVINO's CPU kernels have no integers of 64 bits: it takes the lower 32, and says nothing.
  void refuse_wide(std::size_t place) const {
    const Input& input = inputs_[place];
    if (input.dtype != DType::int64) return;
    const auto* const numbers = static_cast<const std::int64_t*>(input.memory.get());
    for (std::int64_t each = 0; each < input.shape.elements(); ++each) {
      const std::int64_t number = numbers[each];
      if (number == std::int64_t(std::int32_t(number))) continue;
      throw std::out_of_range("input '" + places_[place].name + "' holds " + std::to_string(number) +
                              ", and OpenVINO computes with integers of 32 bits");
    }
  }

  const std::shared_ptr<const LoadedModel> model_;
  const std::vector<InputPlace> places_;
  const Held<InferRequest> request_;
  std::vector<Input> inputs_;
  std::vector<Held<Tensor>> outputs_;
};

inline BackendFactory ov_backend(std::shared_ptr<const LoadedModel> model, std::size_t instance,
                                 const std::vector<InputPlace>& places) {
  return [model = std::move(model), instance, places]() -> std::unique_ptr<Backend> {
    return std::make_unique<OvBackend>(model, instance, places);
  };
}

}  // namespace paddleinfer::openvino
