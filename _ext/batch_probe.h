// Whether the rows of a model's outputs are in a batch what they are alone: found out by running a few.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "backend.h"
#include "execution.h"
#include "request.h"

namespace paddleinfer {

// The design's tolerance: max|a - b| <= tolerance * max|b| over an output; integers must be equal.
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

}  // namespace detail

// The largest difference of two arrays of one dtype over the largest magnitude of the second; infinity where one
// is not a number and the other is, or where integers differ at all.
inline double relative_difference(DType dtype, const void* a, const void* b, std::size_t elements) noexcept {
  if (tolerance_of(dtype) == 0) {
    const std::size_t bytes = elements * element_size(dtype);
    return bytes == 0 || std::memcmp(a, b, bytes) == 0 ? 0 : HUGE_VAL;
  }
  double difference = 0;
  double magnitude = 0;
  for (std::size_t place = 0; place < elements; ++place) {
    const double left = detail::float_at(dtype, a, place);
    const double right = detail::float_at(dtype, b, place);
    if (left == right || (std::isnan(left) && std::isnan(right))) {
      if (std::isfinite(right)) magnitude = std::max(magnitude, std::fabs(right));
      continue;
    }
    if (!std::isfinite(left) || !std::isfinite(right)) return HUGE_VAL;
    difference = std::max(difference, std::fabs(left - right));
    magnitude = std::max(magnitude, std::fabs(right));
  }
  if (difference == 0) return 0;
  return magnitude == 0 ? HUGE_VAL : difference / magnitude;
}

struct ProbeVerdict {
  enum class Kind { same, different, unclear };
  Kind kind = Kind::same;
  std::string reason;  // of `different`
};

// Runs rows of the batch alone, then two and three of them together, and compares every output.
class BatchProbe {
 public:
  BatchProbe(Backend& backend, const std::vector<std::string>& outputs, const Batch& batch)
      : backend_(backend), outputs_(outputs) {
    for (const Slice& slice : batch) {
      for (std::int64_t row = 0; row < slice.rows && rows_.size() < kRows; ++row) {
        rows_.push_back({slice.request, slice.first_row + row, 1});
      }
    }
    for (std::size_t place = 0; rows_.size() < kRows; ++place) rows_.push_back(rows_[place]);
  }

  ProbeVerdict run() {
    std::vector<std::vector<OwnedTensor>> alone;
    try {
      for (const Slice& row : rows_) alone.push_back(outputs_of({row}));
    } catch (abi::__forced_unwind&) {
      throw;
    } catch (...) {
      return {ProbeVerdict::Kind::unclear, ""};  // that row may be at fault
    }
    std::string reason = compare(alone, 1);
    for (std::size_t count = 2; count <= kRows && reason.empty(); ++count) {
      const std::string fails = "it fails with " + std::to_string(count) + " rows together, and not with each alone";
      try {
        together_ = outputs_of(Batch(rows_.begin(), rows_.begin() + std::ptrdiff_t(count)));
      } catch (abi::__forced_unwind&) {
        throw;
      } catch (const std::exception& error) {
        reason = fails + ": " + error.what();
        break;
      } catch (...) {
        reason = fails;
        break;
      }
      reason = compare(alone, count);
    }
    if (reason.empty()) return {ProbeVerdict::Kind::same, ""};
    return {ProbeVerdict::Kind::different, reason};
  }

 private:
  static constexpr std::size_t kRows = 3;

  std::vector<OwnedTensor> outputs_of(const Batch& rows) {
    gather(backend_, rows);
    backend_.run();
    std::vector<OwnedTensor> outputs;
    for (std::uint32_t index = 0; index < outputs_.size(); ++index) {
      outputs.push_back(copy_whole(backend_.output(index)));
    }
    return outputs;
  }

  // Why the first `count` rows are not together what they are alone; empty when they are.
  std::string compare(const std::vector<std::vector<OwnedTensor>>& alone, std::size_t count) const {
    const std::vector<OwnedTensor>& together = count == 1 ? alone.front() : together_;
    for (std::size_t index = 0; index < outputs_.size(); ++index) {
      const OwnedTensor& output = together[index];
      const std::string name = "output " + outputs_[index] + " ";
      const TensorView view{output.dtype, output.shape, output.data.get()};
      if (!holds_rows(view, std::int64_t(count))) {
        return name + RowsDiffer(std::uint32_t(index), output.shape, std::int64_t(count)).what();
      }
      const std::size_t elements = std::size_t(output.shape.with_rows(1).elements());
      for (std::size_t row = 0; row < count; ++row) {
        const OwnedTensor& single = alone[row][index];
        if (single.dtype != output.dtype || !(single.shape == output.shape.with_rows(1))) {
          return name + "changes its shape with the number of rows";
        }
        const void* mine = static_cast<const char*>(output.data.get()) + row * elements * element_size(output.dtype);
        const double difference = relative_difference(output.dtype, mine, single.data.get(), elements);
        if (difference > tolerance_of(output.dtype)) {
          return name + "of a row differs by " + std::to_string(difference) +
                 " of its magnitude between the row alone and " + std::to_string(count) + " rows together";
        }
      }
    }
    return "";
  }

  Backend& backend_;
  const std::vector<std::string>& outputs_;
  std::vector<Slice> rows_;
  std::vector<OwnedTensor> together_;
};

}  // namespace paddleinfer
