// The inputs that a backend was given for its next run, which may go to another backend instead.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "requests/tensor_copy.h"
#include "running/backend.h"

namespace paddleinfer {

class GatheredInputs {
 public:
  // A hash of all dtypes and shapes.
  class Signature {
   public:
    void add(DType dtype, const Shape& shape) noexcept {
      mix(std::uint64_t(dtype));
      mix(shape.rank);
      for (std::size_t axis = 0; axis < shape.rank; ++axis) mix(static_cast<std::uint64_t>(shape.dims[axis]));
    }
    std::uint64_t value() const noexcept { return value_; }

   private:
    void mix(std::uint64_t number) noexcept { value_ = (value_ ^ number) * 0x100000001b3u; }

    std::uint64_t value_ = 0xcbf29ce484222325u;
  };

  // `data`: where the rows of this input go.
  void note(std::size_t index, DType dtype, const Shape& shape, void* data) {
    if (inputs_.size() <= index) inputs_.resize(index + 1);
    inputs_[index] = {dtype, shape, data};
  }

  bool empty() const noexcept { return inputs_.empty(); }
  bool has_empty_input() const noexcept {
    return std::any_of(inputs_.begin(), inputs_.end(), [](const Input& input) { return input.bytes() == 0; });
  }

  std::uint64_t signature() const noexcept {
    Signature found;
    for (const Input& input : inputs_) found.add(input.dtype, input.shape);
    return found.value();
  }

  void copy_to(Backend& other) const {
    for (std::size_t index = 0; index < inputs_.size(); ++index) {
      const Input& input = inputs_[index];
      void* const target = other.input(index, input.dtype, input.shape);
      if (input.bytes() > 0) std::memcpy(target, input.data, input.bytes());
    }
  }

 private:
  struct Input {
    DType dtype = DType::float32;
    Shape shape;
    void* data = nullptr;

    std::size_t bytes() const noexcept { return shape.bytes(dtype); }
  };

  std::vector<Input> inputs_;
};

}  // namespace paddleinfer
