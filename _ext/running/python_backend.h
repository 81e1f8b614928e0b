// A Python callable as an instance's backend. The binding gives the functions that take the GIL.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "requests/request.h"
#include "running/backend.h"
#include "running/interpreter_gate.h"

namespace paddleinfer {

// One input of one execution; the callee takes the memory over.
struct OwnedInput {
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

// Called without the GIL, which they take; then they call the gate's entered(). `context` is a Python object.
struct PythonFunctions {
  // Once, on the instance's thread, before the first call. Makes the object that `call` gets.
  void (*open)(void* context, std::size_t instance, void** model, CallResult* result) = nullptr;
  void (*call)(void* model, std::vector<OwnedInput>* inputs, CallResult* result) = nullptr;
  // Once, on the instance's thread, after the last call.
  void (*close)(void* model) = nullptr;
  InterpreterGate* gate = &interpreter_gate();
};

class PythonBackend final : public Backend {
 public:
  PythonBackend(const PythonFunctions& functions, std::shared_ptr<void> context, std::size_t instance,
                std::shared_ptr<ReleaseList> releases)
      : functions_(functions), context_(std::move(context)), releases_(std::move(releases)) {
    CallResult result;
    releases_->promise();  // the exception
    if (!functions_.gate->call([&] { functions_.open(context_.get(), instance, &model_, &result); })) {
      releases_->withdraw();
      throw InterpreterEnds();
    }
    if (result.exception == nullptr) releases_->withdraw();
    fail_if_raised(result);
  }

  ~PythonBackend() override {
    if (functions_.gate->closed()) return;
    releases_->push(owner_);
    if (model_ != nullptr) functions_.gate->call([&] { functions_.close(model_); });
  }

  void* input(std::size_t index, DType dtype, const Shape& shape) override {
    if (inputs_.size() <= index) inputs_.resize(index + 1);
    inputs_[index] = {dtype, shape, allocate(shape.bytes(dtype))};
    return inputs_[index].memory.get();
  }

  void run() override {
    releases_->push(std::exchange(owner_, nullptr));
    outputs_.clear();
    CallResult result;
    releases_->promise();  // the exception, or what holds the outputs
    if (!functions_.gate->call([&] { functions_.call(model_, &inputs_, &result); })) {
      releases_->withdraw();
      throw InterpreterEnds();
    }
    fail_if_raised(result);
    outputs_ = std::move(result.outputs);
    owner_ = result.owner;
  }

  TensorView output(std::size_t index) override { return outputs_.at(index); }

 private:
  struct InterpreterEnds : std::runtime_error {
    InterpreterEnds() : runtime_error("the interpreter is ending") {}
  };

  void fail_if_raised(CallResult& result) {
    if (result.exception == nullptr) return;
    std::shared_ptr<void> exception(result.exception,
                                    [list = releases_](void* object) noexcept { list->push(object); });
    throw PythonFailure(std::move(result.message), std::move(exception));
  }

  const PythonFunctions functions_;
  const std::shared_ptr<void> context_;
  const std::shared_ptr<ReleaseList> releases_;
  void* model_ = nullptr;
  void* owner_ = nullptr;
  std::vector<OwnedInput> inputs_;
  std::vector<TensorView> outputs_;
};

inline BackendFactory python_backend(const PythonFunctions& functions, std::shared_ptr<void> context,
                                     std::size_t instance, std::shared_ptr<ReleaseList> releases) {
  return [=]() -> std::unique_ptr<Backend> {
    return std::make_unique<PythonBackend>(functions, context, instance, releases);
  };
}

}  // namespace paddleinfer
