// A Python callable as an instance's backend. The binding gives the functions that take the GIL.
#pragma once

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "backend.h"
#include "request.h"

namespace paddleinfer {

// One input of one execution; the callee takes the memory over.
struct HandedInput {
  DType dtype = DType::float32;
  Shape shape;
  Memory memory;
};

// What the callable gave: views into arrays that `owner` keeps alive.
struct CallResult {
  std::vector<TensorView> outputs;
  void* owner = nullptr;      // a Python object
  void* exception = nullptr;  // a Python exception, with `message`
  std::string message;
};

// Called without the GIL; `context` is a Python object.
struct PythonFunctions {
  // Once, on the instance's thread, before the first call. Makes the object that `call` gets.
  void (*open)(void* context, std::size_t instance, void** model, CallResult* result) = nullptr;
  void (*call)(void* model, std::vector<HandedInput>* inputs, CallResult* result) = nullptr;
  // Once, on the instance's thread, after the last call.
  void (*close)(void* model) = nullptr;
};

// Set at interpreter exit: from then on a thread that took the GIL would be killed where it stands.
inline std::atomic<bool>& interpreter_ending() noexcept {
  static std::atomic<bool>* const ending = new std::atomic<bool>(false);
  return *ending;
}

class PythonBackend final : public Backend {
 public:
  PythonBackend(const PythonFunctions& functions, std::shared_ptr<void> context, std::size_t instance,
                std::shared_ptr<ReleaseList> releases)
      : functions_(functions), context_(std::move(context)), releases_(std::move(releases)) {
    CallResult result;
    functions_.open(context_.get(), instance, &model_, &result);
    fail_if_raised(result);
  }

  ~PythonBackend() override {
    if (interpreter_ending().load()) return;
    releases_->push(owner_);
    if (model_ != nullptr) functions_.close(model_);
  }

  void* input(std::size_t index, DType dtype, const Shape& shape) override {
    if (inputs_.size() <= index) inputs_.resize(index + 1);
    inputs_[index] = {dtype, shape, allocate(shape.bytes(dtype))};
    return inputs_[index].memory.get();
  }

  void run() override {
    releases_->push(std::exchange(owner_, nullptr));
    outputs_.clear();
    if (interpreter_ending().load()) throw std::runtime_error("the interpreter is ending");
    CallResult result;
    functions_.call(model_, &inputs_, &result);
    fail_if_raised(result);
    outputs_ = std::move(result.outputs);
    owner_ = result.owner;
  }

  TensorView output(std::size_t index) override { return outputs_.at(index); }

 private:
  void fail_if_raised(CallResult& result) {
    if (result.exception == nullptr) return;
    std::shared_ptr<void> exception(result.exception, [list = releases_](void* object) { list->push(object); });
    throw PythonFailure(std::move(result.message), std::move(exception));
  }

  const PythonFunctions functions_;
  const std::shared_ptr<void> context_;
  const std::shared_ptr<ReleaseList> releases_;
  void* model_ = nullptr;
  void* owner_ = nullptr;
  std::vector<HandedInput> inputs_;
  std::vector<TensorView> outputs_;
};

}  // namespace paddleinfer
