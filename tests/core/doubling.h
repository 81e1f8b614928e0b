// Runs of the fakes' model, which has rows of two numbers and doubles them.
#pragma once

#include <atomic>
#include <cstdint>

#include "check.h"
#include "requests/tensor_copy.h"
#include "running/backend.h"

namespace fakes {

inline paddleinfer::Shape shape_of(std::int64_t rows, std::int64_t width) {
  paddleinfer::Shape shape;
  shape.rank = 2;
  shape.dims[0] = rows;
  shape.dims[1] = width;
  return shape;
}

inline void fill(paddleinfer::Backend& backend, std::int64_t rows, float number) {
  auto* const input = static_cast<float*>(backend.input(0, paddleinfer::DType::float32, shape_of(rows, 2)));
  for (std::int64_t place = 0; place < rows * 2; ++place) input[place] = number;
}

inline paddleinfer::TensorView run(paddleinfer::Backend& backend, std::int64_t rows, float number) {
  fill(backend, rows, number);
  backend.run();
  return backend.output(0);
}

inline float last_of(const paddleinfer::TensorView& view) {
  return static_cast<const float*>(view.data)[view.shape.elements() - 1];
}

// `tensors_made`: by the library, over memory of ours.
inline void check_a_tensor_for_each_shape(paddleinfer::Backend& backend, const std::atomic<int>& tensors_made) {
  for (const float number : {1.f, 2.f, 3.f}) {
    const paddleinfer::TensorView view = run(backend, 2, number);
    CHECK_EQ(paddleinfer::text_of(view.shape), "[2, 2]");
    CHECK_EQ(last_of(view), 2 * number);
  }
  CHECK_EQ(tensors_made.load(), 1);
  CHECK_EQ(last_of(run(backend, 5, 4.f)), 8.f);
  CHECK_EQ(paddleinfer::text_of(run(backend, 1, 5.f).shape), "[1, 2]");
  CHECK_EQ(tensors_made.load(), 3);
  CHECK_EQ(paddleinfer::text_of(run(backend, 0, 0.f).shape), "[0, 2]");
}

}  // namespace fakes
