// Whether two results of a model are equal, within the design's tolerance.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "requests/tensor_copy.h"

namespace paddleinfer {

// Relative to the largest magnitude of an output; integers must be equal.
constexpr double tolerance_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32:
    case DType::float64:
      return 1e-5;
    case DType::float16:
      return 1e-2;
    case DType::bfloat16:
      return 3e-2;
    default:
      return 0;
  }
}

namespace detail {

inline double half_value(std::uint16_t bits) noexcept {
  const int exponent = (bits >> 10) & 0x1f;
  const double fraction = bits & 0x3ff;
  double value = 0;
  if (exponent == 0x1f) {
    value = fraction == 0 ? HUGE_VAL : std::nan("");
  } else {
    value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

template <typename T>
T load(const void* data, std::size_t place) noexcept {
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + place * sizeof(T), sizeof(T));
  return value;
}

inline double float_at(DType dtype, const void* data, std::size_t place) noexcept {
  if (dtype == DType::float64) return load<double>(data, place);
  if (dtype == DType::float16) return half_value(load<std::uint16_t>(data, place));
  if (dtype == DType::float32) return load<float>(data, place);
  const std::uint32_t bits = std::uint32_t{load<std::uint16_t>(data, place)} << 16;  // bfloat16
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline std::int64_t integer_at(DType dtype, const void* data, std::size_t place) noexcept {
  switch (element_size(dtype)) {
    case 8:
      return load<std::int64_t>(data, place);
    case 4:
      return load<std::int32_t>(data, place);
    case 2:
      return load<std::int16_t>(data, place);
    default:
      return dtype == DType::int8 ? load<std::int8_t>(data, place) : load<std::uint8_t>(data, place);
  }
}

}  // namespace detail

struct Comparison {
  double difference = 0;  // the largest; infinite where only one is a number, and where integers differ at all
  double magnitude = 0;   // the largest finite one of the second
};

// Of two arrays of one dtype.
inline Comparison compare(DType dtype, const void* a, const void* b, std::size_t elements) noexcept {
  Comparison found;
  if (tolerance_of(dtype) == 0) {
    const std::size_t bytes = elements * element_size(dtype);
    if (bytes > 0 && std::memcmp(a, b, bytes) != 0) found.difference = HUGE_VAL;
    return found;
  }
  for (std::size_t place = 0; place < elements; ++place) {
    const double left = detail::float_at(dtype, a, place);
    const double right = detail::float_at(dtype, b, place);
    if (std::isfinite(right)) found.magnitude = std::max(found.magnitude, std::fabs(right));
    if (left == right || (std::isnan(left) && std::isnan(right))) continue;
    const bool finite = std::isfinite(left) && std::isfinite(right);
    found.difference = std::max(found.difference, finite ? std::fabs(left - right) : HUGE_VAL);
  }
  return found;
}

// The largest finite magnitude; 0 of integers.
inline double largest_magnitude(const TensorView& view) noexcept {
  if (tolerance_of(view.dtype) == 0) return 0;
  const auto elements = std::size_t(view.shape.elements());
  double largest = 0;
  for (std::size_t place = 0; place < elements; ++place) {
    const double magnitude = std::fabs(detail::float_at(view.dtype, view.data, place));
    if (magnitude > largest && std::isfinite(magnitude)) largest = magnitude;
  }
  return largest;
}

// What two equal results of this magnitude may differ by. `largest`: the largest value that the output has had in any
// run. What is a thousandth of a tolerance of that is noise, however near to zero the output is this time.
inline double allowed_difference(DType dtype, double magnitude, double largest) noexcept {
  constexpr double kLeast = 1e-6;
  const double tolerance = tolerance_of(dtype);
  if (tolerance == 0) return 0;
  return tolerance * magnitude + std::max(kLeast, tolerance / 1'000 * std::max(largest, magnitude));
}

// The largest difference over the largest magnitude of the second; infinite where one is not a number and the other
// is, or where integers differ at all.
inline double relative_difference(DType dtype, const void* a, const void* b, std::size_t elements) noexcept {
  const Comparison found = compare(dtype, a, b, elements);
  if (found.difference == 0) return 0;
  return found.magnitude == 0 ? HUGE_VAL : found.difference / found.magnitude;
}

// Whether the places where an integer output differs each name values of one float output that are as good as equal:
// an argmax, or a top-k, of it. `a` and `b` are the integers of the two results, `source` the floats of the second.
// Where all values of a row are equal nothing can be told, and that is no tie.
inline bool differs_by_ties(const TensorView& a, const TensorView& b, const TensorView& source,
                            double largest) noexcept {
  if (tolerance_of(source.dtype) == 0 || source.shape.rank == 0) return false;
  const Shape& shape = b.shape;
  const std::size_t last = source.shape.rank - 1;
  const bool per_group = shape.rank == last;  // one integer for each group of floats; else the last axis names several
  if (!per_group && shape.rank != source.shape.rank) return false;
  for (std::size_t axis = 0; axis < last; ++axis) {
    if (shape.dims[axis] != source.shape.dims[axis]) return false;
  }
  const std::int64_t each = per_group ? 1 : shape.dims[last];
  const std::int64_t choices = source.shape.dims[last];
  const double allowed = allowed_difference(source.dtype, largest_magnitude(source), largest);
  const auto value = [&](std::int64_t place) {
    return detail::float_at(source.dtype, source.data, std::size_t(place));
  };
  const std::int64_t elements = shape.elements();
  for (std::int64_t place = 0; place < elements; ++place) {
    const std::int64_t left = detail::integer_at(a.dtype, a.data, std::size_t(place));
    const std::int64_t right = detail::integer_at(b.dtype, b.data, std::size_t(place));
    if (left == right) continue;
    if (left < 0 || right < 0 || left >= choices || right >= choices) return false;
    const std::int64_t group = place / each * choices;
    if (!(std::fabs(value(group + left) - value(group + right)) <= allowed)) return false;
    double least = HUGE_VAL;
    double most = -HUGE_VAL;
    for (std::int64_t choice = 0; choice < choices; ++choice) {
      least = std::min(least, value(group + choice));
      most = std::max(most, value(group + choice));
    }
    if (!(most - least > allowed)) return false;
  }
  return true;
}

}  // namespace paddleinfer
