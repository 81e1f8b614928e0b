// Element types, shapes, and the copies between callers' rows and a batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace paddleinfer {

enum class DType : std::uint8_t {
  float32,
  float64,
  float16,
  bfloat16,
  int8,
  int16,
  int32,
  int64,
  uint8,
  boolean,
};

inline constexpr std::size_t kDTypes = std::size_t(DType::boolean) + 1;

constexpr const char* to_string(DType value) noexcept {
  switch (value) {
    case DType::float32:
      return "float32";
    case DType::float64:
      return "float64";
    case DType::float16:
      return "float16";
    case DType::bfloat16:
      return "bfloat16";
    case DType::int8:
      return "int8";
    case DType::int16:
      return "int16";
    case DType::int32:
      return "int32";
    case DType::int64:
      return "int64";
    case DType::uint8:
      return "uint8";
    case DType::boolean:
      return "bool";
  }
  return "";
}

// The dtype that `number_of` gives this number to; false if it gives it to none.
template <typename NumberOf>
constexpr bool find_numbered(NumberOf number_of, int number, DType& dtype) noexcept {
  for (std::size_t each = 0; each < kDTypes; ++each) {
    if (number_of(DType(each)) != number) continue;
    dtype = DType(each);
    return true;
  }
  return false;
}

constexpr std::size_t element_size(DType dtype) noexcept {
  switch (dtype) {
    case DType::float64:
    case DType::int64:
      return 8;
    case DType::float32:
    case DType::int32:
      return 4;
    case DType::float16:
    case DType::bfloat16:
    case DType::int16:
      return 2;
    case DType::int8:
    case DType::uint8:
    case DType::boolean:
      return 1;
  }
  return 0;
}

// Paddle's DDim holds at most nine dimensions.
inline constexpr std::size_t kMaxRank = 9;

struct Shape {
  std::int64_t dims[kMaxRank] = {};
  std::size_t rank = 0;

  std::int64_t elements() const noexcept {
    std::int64_t count = 1;
    for (std::size_t axis = 0; axis < rank; ++axis) count *= dims[axis];
    return count;
  }
  std::size_t bytes(DType dtype) const noexcept { return static_cast<std::size_t>(elements()) * element_size(dtype); }
  Shape with_rows(std::int64_t rows) const noexcept {
    Shape shape = *this;
    if (rank > 0) shape.dims[0] = rows;
    return shape;
  }
  bool same_beyond_rows(const Shape& other) const noexcept {
    if (rank != other.rank) return false;
    for (std::size_t axis = 1; axis < rank; ++axis) {
      if (dims[axis] != other.dims[axis]) return false;
    }
    return true;
  }
  bool operator==(const Shape& other) const noexcept {
    return same_beyond_rows(other) && (rank == 0 || dims[0] == other.dims[0]);
  }
};

inline std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < shape.rank; ++axis) {
    text += (axis == 0 ? "" : ", ") + std::to_string(shape.dims[axis]);
  }
  return text + "]";
}

// Memory that somebody else owns.
struct TensorView {
  DType dtype = DType::float32;
  Shape shape;
  const void* data = nullptr;

  std::size_t bytes() const noexcept { return shape.bytes(dtype); }
};

struct FreeMemory {
  void operator()(void* memory) const noexcept { std::free(memory); }
};
using Memory = std::unique_ptr<void, FreeMemory>;

// malloc, so that NumPy can own the memory and free() it.
inline Memory allocate(std::size_t bytes) {
  Memory memory(std::malloc(bytes == 0 ? 1 : bytes));
  if (!memory) throw std::bad_alloc();
  return memory;
}

// Memory of its own, handed over to one result array.
struct OwnedTensor {
  DType dtype = DType::float32;
  Shape shape;
  Memory data;
  bool recycled = false;  // its caller gives `data` to SpareBlocks
};

inline TensorView view_of(const OwnedTensor& tensor) noexcept {
  return {tensor.dtype, tensor.shape, tensor.data.get()};
}

inline OwnedTensor copy_whole(const TensorView& view) {
  OwnedTensor copy{view.dtype, view.shape, allocate(view.bytes())};
  if (view.bytes() > 0) std::memcpy(copy.data.get(), view.data, view.bytes());
  return copy;
}

// Memory for `rows` rows like those of a batched tensor.
inline OwnedTensor allocate_rows(const TensorView& like, std::int64_t rows) {
  const Shape shape = like.shape.with_rows(rows);
  return {like.dtype, shape, allocate(shape.bytes(like.dtype))};
}

// Whether axis 0 counts so many rows.
inline bool holds_rows(const TensorView& view, std::int64_t rows) noexcept {
  return view.shape.rank > 0 && view.shape.dims[0] == rows;
}

// Rows [from_row, from_row + rows) of a batched tensor to rows [to_row, ...) of another. Throws when either does
// not hold them, or their rows differ in size or dtype.
inline void copy_rows_into(OwnedTensor& target, std::int64_t to_row, const TensorView& view, std::int64_t from_row,
                           std::int64_t rows) {
  const auto inside = [rows](const Shape& shape, std::int64_t first) {
    return shape.rank > 0 && first >= 0 && rows >= 0 && first <= shape.dims[0] - rows;
  };
  if (!inside(view.shape, from_row) || !inside(target.shape, to_row)) {
    throw std::out_of_range("an output does not hold the rows of its batch");
  }
  if (view.dtype != target.dtype || !view.shape.same_beyond_rows(target.shape)) {
    throw std::out_of_range("an output changed its shape or dtype between the parts of a request");
  }
  const std::size_t row_bytes = view.shape.with_rows(1).bytes(view.dtype);
  if (row_bytes == 0 || rows == 0) return;
  std::memcpy(static_cast<char*>(target.data.get()) + row_bytes * static_cast<std::size_t>(to_row),
              static_cast<const char*>(view.data) + row_bytes * static_cast<std::size_t>(from_row),
              row_bytes * static_cast<std::size_t>(rows));
}

// Rows [first, first + rows) of a batched tensor. Throws when the tensor does not hold them.
inline OwnedTensor copy_rows(const TensorView& view, std::int64_t first, std::int64_t rows) {
  OwnedTensor copy = allocate_rows(view, rows);
  copy_rows_into(copy, 0, view, first, rows);
  return copy;
}

}  // namespace paddleinfer
