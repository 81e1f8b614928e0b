// Copies a batch's rows into the inputs of the backend that runs them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "requests/request.h"
#include "running/backend.h"

namespace paddleinfer {

// Copies the slices' rows of each input one after the other into the backend's; its last row again up to
// `padded_rows`.
inline void gather(Backend& backend, const Batch& batch, std::int64_t padded_rows) {
  const Request& head = *batch.front().request;
  const std::int64_t rows = rows_of(batch);
  const bool as_it_is = batch.size() == 1 && batch.front().whole() && padded_rows == rows;
  for (std::size_t index = 0; index < head.inputs.size(); ++index) {
    const TensorView& first = head.inputs[index];
    const Shape shape = as_it_is ? first.shape : first.shape.with_rows(padded_rows);
    const std::size_t row_bytes = first.shape.with_rows(1).bytes(first.dtype);
    char* target = static_cast<char*>(backend.input(index, first.dtype, shape));
    for (const Slice& slice : batch) {
      const TensorView& view = slice.request->inputs[index];
      const std::size_t bytes = as_it_is ? view.bytes() : row_bytes * std::size_t(slice.rows);
      const char* source = static_cast<const char*>(view.data) + row_bytes * std::size_t(slice.first_row);
      if (bytes > 0) std::memcpy(target, source, bytes);
      target += bytes;
    }
    for (std::int64_t row = rows; row < padded_rows && row_bytes > 0; ++row) {
      std::memcpy(target, target - row_bytes, row_bytes);
      target += row_bytes;
    }
  }
}
inline void gather(Backend& backend, const Batch& batch) { gather(backend, batch, rows_of(batch)); }

}  // namespace paddleinfer
