// What a model's outputs have looked like in the runs seen.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "requests/thread_safety.h"
#include "running/tensor_compare.h"

namespace paddleinfer {

// Shared by all instances of one engine. Rows of one bucket may share runs only while every run, of one row or of
// many, gives rows of one size and dtype: where the size follows what is in the rows, the longest row of a batch would
// decide for all.
class OutputRecord {
 public:
  // The rows of an output in a run of this bucket. Gives the shape that they had in another run, where it differs.
  std::optional<Shape> note_rows(std::uint64_t bucket, std::uint32_t output, const TensorView& view) {
    const MutexLock lock(mu_);
    if (rows_.size() >= kMostBuckets && rows_.count(bucket) == 0) rows_.clear();
    std::vector<Rows>& known = rows_[bucket];
    if (known.size() <= output) known.resize(output + 1);
    Rows& rows = known[output];
    if (!rows.seen) {
      rows = {true, view.dtype, view.shape};
      return std::nullopt;
    }
    if (rows.dtype == view.dtype && rows.shape.same_beyond_rows(view.shape)) return std::nullopt;
    return rows.shape;
  }

  // Whether the values of a run are worth a look: of the first runs, and of a few later on.
  bool wants_values() noexcept {
    const std::uint64_t run = runs_.fetch_add(1, std::memory_order_relaxed);
    return run < kRunsBetweenLooks || run % kRunsBetweenLooks == 0;
  }
  void note_values(std::uint32_t output, const TensorView& view) {
    const double largest = largest_magnitude(view);
    const MutexLock lock(mu_);
    if (largest_.size() <= output) largest_.resize(output + 1);
    largest_[output] = std::max(largest_[output], largest);
  }
  // The largest value seen of an output.
  double largest(std::uint32_t output) {
    const MutexLock lock(mu_);
    return output < largest_.size() ? largest_[output] : 0;
  }

 private:
  static constexpr std::size_t kMostBuckets = 4096;
  static constexpr std::uint64_t kRunsBetweenLooks = 16;

  struct Rows {
    bool seen = false;
    DType dtype = DType::float32;
    Shape shape;
  };

  Mutex mu_;
  std::unordered_map<std::uint64_t, std::vector<Rows>> rows_ GUARDED_BY(mu_);  // by bucket, then output
  std::vector<double> largest_ GUARDED_BY(mu_);                                // by output
  std::atomic<std::uint64_t> runs_{0};
};

}  // namespace paddleinfer
