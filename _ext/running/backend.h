// What an instance drives: a Paddle predictor, a Python callable, or a test's fake.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "requests/tensor_copy.h"
#include "requests/time.h"

namespace paddleinfer {

// Created, run and destroyed on one instance thread; never used by two threads at once.
// Everything may throw; a throw during a run fails that batch alone.
class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  // Where the batch's rows of one input go, until run().
  virtual void* input(std::size_t index, DType dtype, const Shape& shape) = 0;
  virtual void run() = 0;
  // How much of the last run() went into another run, to compare the two.
  virtual Nanos comparison_ns() const noexcept { return 0; }
  // Valid until the next input().
  virtual TensorView output(std::size_t index) = 0;
  // The memory of an output that has been asked for, if it comes from allocate() and holds nothing else: its caller's
  // from now on, and read by nobody but him. Null where the output is to be copied.
  virtual Memory take_output(std::size_t) { return nullptr; }
};

// Makes an instance's backend, on its thread.
using BackendFactory = std::function<std::unique_ptr<Backend>()>;

// A Python exception on its way through native code. The owner gives the object back with the GIL held.
class PythonFailure : public std::exception {
 public:
  PythonFailure(std::string message, std::shared_ptr<void> exception)
      : message_(std::move(message)), exception_(std::move(exception)) {}
  const char* what() const noexcept override { return message_.c_str(); }
  const std::shared_ptr<void>& exception() const noexcept { return exception_; }

 private:
  std::string message_;
  std::shared_ptr<void> exception_;
};

}  // namespace paddleinfer
