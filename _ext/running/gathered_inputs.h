// The inputs that a backend was given for its next run, which may go to another backend instead.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "requests/request.h"
#include "requests/tensor_copy.h"
#include "running/backend.h"

namespace paddleinfer {

class GatheredInputs {
 public:
  // `data`: where the rows of this input go.
  void note(std::size_t index, DType dtype, const Shape& shape, const void* data) {
    if (inputs_.size() <= index) inputs_.resize(index + 1);
    inputs_[index] = {dtype, shape, data};
  }

  bool empty() const noexcept { return inputs_.empty(); }
  bool has_empty_input() const noexcept {
    return std::any_of(inputs_.begin(), inputs_.end(), [](const TensorView& input) { return input.bytes() == 0; });
  }

  // Of all dtypes and shapes.
  std::uint64_t signature() const noexcept { return signature_of(inputs_, /*with_rows=*/true); }

  void copy_to(Backend& other) const {
    for (std::size_t index = 0; index < inputs_.size(); ++index) {
      const TensorView& input = inputs_[index];
      void* const target = other.input(index, input.dtype, input.shape);
      if (input.bytes() > 0) std::memcpy(target, input.data, input.bytes());
    }
  }

 private:
  std::vector<TensorView> inputs_;
};

}  // namespace paddleinfer
