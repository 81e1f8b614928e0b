// A Paddle predictor as an instance's backend: driven through paddle_abi.h, without Python.
#pragma once

#include <climits>
#include <cstdio>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "backend.h"
#include "onednn_cache.h"
#include "paddle_abi.h"
#include "paddle_weights.h"
#include "request.h"

namespace paddleinfer::paddle {

struct ModelOptions {
  std::vector<std::string> inputs;   // the order in which the engine numbers them
  std::vector<std::string> outputs;  // likewise
  std::vector<std::string> parameters;
  const Place* cpu_place = nullptr;  // lives for ever
  bool on_cpu = true;
  bool share_weights = false;
  bool onednn = false;
  OneDnnSymbols onednn_symbols;
  std::size_t max_onednn_shapes = 1;
};

// What all instances of one engine have in common: the library, the names, the root predictor.
class Model {
 public:
  Model(Abi library, ModelOptions model_options) : abi(std::move(library)), options(std::move(model_options)) {}

  const Abi abi;
  const ModelOptions options;

  // The last clone's; read once the instances have started.
  WeightReport weights() {
    const std::lock_guard<std::mutex> lock(predictor_lock());
    return weights_;
  }

 private:
  friend class PaddleBackend;
  Predictor* root_ = nullptr;  // guarded by predictor_lock(); owned by instance 0's backend
  WeightReport weights_;       // guarded by predictor_lock()
};

class PaddleBackend final : public Backend {
 public:
  // The root, from a config that outlives the call.
  PaddleBackend(std::shared_ptr<Model> model, const Config& config) : model_(std::move(model)) {
    const std::lock_guard<std::mutex> lock(predictor_lock());
    {
      const OneDnnShelter shelter(model_->options.onednn_symbols);
      root_ = model_->abi.create(config);
    }
    if (!root_) throw std::runtime_error("Paddle made no predictor");
    predictor_ = root_.get();
    model_->root_ = predictor_;
    open_or_let_go();
  }

  // A clone of the root. The root must not run meanwhile: engines open only when all instances are there.
  explicit PaddleBackend(std::shared_ptr<Model> model) : model_(std::move(model)) {
    const std::lock_guard<std::mutex> lock(predictor_lock());
    predictor_ = model_->abi.clone(model_->root_, nullptr).get();
    if (predictor_ == nullptr) throw std::runtime_error("Paddle made no clone");
    if (model_->options.share_weights) {
      model_->weights_ = WeightSharing(model_->abi).share(model_->root_, predictor_, model_->options.parameters);
    }
    open_or_let_go();
  }

  // Tensor handles are not deleted: Paddle exports nothing that does, and they are a few dozen bytes.
  ~PaddleBackend() override {
    const std::lock_guard<std::mutex> lock(predictor_lock());
    let_go();
  }

  void* input(std::size_t index, DType dtype, const Shape& shape) override {
    if (index == 0) signature_ = 0xcbf29ce484222325u;
    std::vector<int> dims(shape.rank);
    for (std::size_t axis = 0; axis < shape.rank; ++axis) {
      if (shape.dims[axis] > INT_MAX) throw std::length_error("a dimension is larger than Paddle can take");
      dims[axis] = static_cast<int>(shape.dims[axis]);
      signature_ = (signature_ ^ static_cast<std::uint64_t>(dims[axis])) * 0x100000001b3u;
    }
    Staged& staged = inputs_[index];
    const Abi& abi = model_->abi;
    abi.reshape(staged.handle, dims);
    staged.dtype = dtype;
    if (model_->options.on_cpu) {
      return abi.mutable_data(abi.dense(staged.handle), *model_->options.cpu_place, phi_code(dtype), 0);
    }
    staged.resize(shape.bytes(dtype));
    return staged.memory.get();
  }

  void run() override {
    if (!model_->options.on_cpu) {
      for (Staged& staged : inputs_) copies(staged.dtype).copy_from_cpu(staged.handle, staged.memory.get());
    }
    if (onednn_) onednn_->before_run(signature_);
    const bool fine = model_->abi.run(predictor_);
    if (!fine) throw std::runtime_error("Paddle's run() returned false");
  }

  TensorView output(std::size_t index) override {
    if (outputs_.empty()) open_outputs();
    Staged& staged = outputs_[index];
    const Abi& abi = model_->abi;
    TensorView view;
    const DenseTensor* dense = abi.dense(staged.handle);
    view.dtype = dtype_of(abi.type(dense));
    const std::vector<int> dims = abi.shape(staged.handle);
    if (dims.size() > kMaxRank) throw std::length_error("an output has more than nine dimensions");
    view.shape.rank = dims.size();
    for (std::size_t axis = 0; axis < dims.size(); ++axis) view.shape.dims[axis] = dims[axis];
    if (view.bytes() == 0) return view;
    // With oneDNN the bytes may lie in a layout of its own, which the copy undoes. It has no int16.
    const bool as_it_lies = model_->options.on_cpu && (!onednn_ || view.dtype == DType::int16);
    if (as_it_lies) {
      view.data = abi.data(dense);
    } else {
      staged.resize(view.bytes());
      copies(view.dtype).copy_to_cpu(staged.handle, staged.memory.get());
      view.data = staged.memory.get();
    }
    return view;
  }

 private:
  // A handle, and for a device memory of ours on the host side of the copy.
  struct Staged {
    Tensor* handle = nullptr;
    DType dtype = DType::float32;
    Memory memory;
    std::size_t bytes = 0;

    void resize(std::size_t wanted) {
      if (memory && wanted <= bytes) return;
      memory = allocate(wanted);
      bytes = wanted;
    }
  };

  const TypedSymbols& copies(DType dtype) const {
    const TypedSymbols& typed = model_->abi.typed[static_cast<std::size_t>(dtype)];
    if (typed.copy_to_cpu == nullptr) throw std::invalid_argument("Paddle's inference tensors cannot copy this dtype");
    return typed;
  }

  static DType dtype_of(int code) {
    for (std::size_t number = 0; number < kDTypes; ++number) {
      if (phi_code(DType(number)) == code) return DType(number);
    }
    throw std::invalid_argument("an output has a dtype that is not supported");
  }

  // Under the predictor lock, as is all that follows here.
  void open_or_let_go() {
    try {
      open();
    } catch (...) {  // a constructor that throws runs no destructor
      let_go();
      throw;
    }
  }

  void let_go() noexcept {
    try {
      onednn_.reset();
      if (root_) {
        model_->root_ = nullptr;
        root_.reset();
      } else {
        model_->abi.destroy(predictor_);
      }
    } catch (...) {
      std::fputs("paddleinfer: Paddle failed while it freed a predictor; its memory stays\n", stderr);
    }
  }

  void open() {
    if (model_->options.onednn) {
      onednn_ = std::make_unique<OneDnnCache>(model_->options.onednn_symbols, model_->options.max_onednn_shapes);
    }
    for (const std::string& name : model_->options.inputs) {
      inputs_.push_back({model_->abi.input_handle(predictor_, name).get(), DType::float32, nullptr, 0});
    }
  }

  // Paddle makes an output's variable no later than in the first run.
  void open_outputs() {
    for (const std::string& name : model_->options.outputs) {
      outputs_.push_back({model_->abi.output_handle(predictor_, name).get(), DType::float32, nullptr, 0});
    }
  }

  const std::shared_ptr<Model> model_;
  std::shared_ptr<Predictor> root_;  // set in instance 0 only
  Predictor* predictor_ = nullptr;
  std::vector<Staged> inputs_;
  std::vector<Staged> outputs_;
  std::unique_ptr<OneDnnCache> onednn_;
  std::uint64_t signature_ = 0;  // of the shapes of the batch being gathered
};

}  // namespace paddleinfer::paddle
