// Finds out whether rows give the same in a batch as alone, by running both.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <new>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "requests/request.h"
#include "running/backend.h"
#include "running/execution.h"
#include "running/gather.h"
#include "running/output_record.h"
#include "running/tensor_compare.h"
#include "scheduling/scheduler_types.h"

namespace paddleinfer {

struct ProbeVerdict {
  enum class Kind { same, different, unclear };
  Kind kind = Kind::same;
  std::string reason;  // of `different`
};

// Compares what some rows gave alone with what they give among others, by the tolerance.
class RowComparison {
 public:
  // `names`: of the outputs. `record`: null where nothing is known of other runs.
  RowComparison(const std::vector<std::string>& names, OutputRecord* record) : names_(names), record_(record) {}

  // `wanted`: which outputs `among_others` are; `alone` are all of them, for an integer may come from a float output
  // that is not wanted. Why they differ; empty when they do not. `where` ends the sentence.
  std::string differ(const std::vector<std::uint32_t>& wanted, const std::vector<TensorView>& among_others,
                     const std::vector<TensorView>& alone, const std::string& where) const {
    for (std::size_t place = 0; place < wanted.size(); ++place) {
      const TensorView& mine = among_others[place];
      const TensorView& single = alone[wanted[place]];
      const std::string name = "output " + names_.at(wanted[place]) + " ";
      if (mine.dtype != single.dtype || !(mine.shape == single.shape)) {
        return name + "changes its shape with the rows beside it: " + text_of(mine.shape) + " and " +
               text_of(single.shape) + " " + where;
      }
      if (record_ != nullptr) {
        record_->note_values(wanted[place], mine);
        record_->note_values(wanted[place], single);
      }
    }
    for (std::size_t place = 0; place < wanted.size(); ++place) {
      const TensorView& mine = among_others[place];
      const TensorView& single = alone[wanted[place]];
      const Comparison found = compare(mine.dtype, mine.data, single.data, std::size_t(single.shape.elements()));
      if (found.difference <= allowed_difference(mine.dtype, found.magnitude, largest(wanted[place]))) continue;
      if (tolerance_of(mine.dtype) == 0 && is_tie(mine, wanted[place], alone)) continue;
      return "output " + names_.at(wanted[place]) + " of a row " + said(mine.dtype, found) + " " + where;
    }
    return "";
  }

 private:
  double largest(std::uint32_t output) const { return record_ == nullptr ? 0 : record_->largest(output); }

  bool is_tie(const TensorView& mine, std::uint32_t output, const std::vector<TensorView>& alone) const {
    for (std::uint32_t source = 0; source < alone.size(); ++source) {
      if (differs_by_ties(mine, alone[output], alone[source], largest(source))) return true;
    }
    return false;
  }

  static std::string said(DType dtype, const Comparison& found) {
    if (tolerance_of(dtype) == 0) return "differs";
    if (std::isinf(found.difference)) return "is finite in only one of two runs,";
    const bool from_zero = found.magnitude == 0;
    char number[32];
    std::snprintf(number, sizeof number, "%.2g", found.difference / (from_zero ? 1 : found.magnitude));
    return std::string("differs by ") + number + (from_zero ? " from zero" : " of its magnitude");
  }

  const std::vector<std::string>& names_;
  OutputRecord* const record_;
};

// Runs what has run alone again together, for the comparison only.
class BatchProbe {
 public:
  BatchProbe(Backend& backend, const std::vector<std::string>& outputs, OutputRecord* record = nullptr)
      : backend_(backend), outputs_(outputs), comparison_(outputs, record) {
    for (std::uint32_t index = 0; index < outputs_.size(); ++index) every_output_.push_back(index);
  }

  // Some rows of one large request, from its beginning to its end: each alone, then all of them together.
  ProbeVerdict probe(const Slice& large) {
    Batch rows;
    for (std::int64_t place = 0; place < kRows; ++place) {
      rows.push_back({large.request, large.first_row + place * (large.rows - 1) / (kRows - 1), 1});
    }
    std::vector<std::vector<OwnedTensor>> alone;
    try {
      for (const Slice& row : rows) alone.push_back(outputs_of({row}));
    } catch (...) {
      return {ProbeVerdict::Kind::unclear, ""};  // that row may be at fault
    }
    return together(rows, alone);
  }

  // `alone`: every output of each slice. They run together twice, in reversed order, too: a model that sorts its rows
  // gives each its own where they come in order, and cannot do so both ways.
  ProbeVerdict together(const Batch& slices, const std::vector<std::vector<OwnedTensor>>& alone) {
    for (std::size_t place = 0; place < slices.size(); ++place) {
      for (const std::uint32_t output : every_output_) {
        const OwnedTensor& single = alone[place][output];
        if (!holds_rows(view_of(single), slices[place].rows)) {
          return different(name(output) + RowsDiffer(output, single.shape, slices[place].rows).what());
        }
      }
    }
    std::vector<std::size_t> order(slices.size());
    std::iota(order.begin(), order.end(), std::size_t(0));
    const ProbeVerdict forwards = compared(slices, alone, order);
    if (forwards.kind != ProbeVerdict::Kind::same || slices.size() < 2) return forwards;
    std::reverse(order.begin(), order.end());
    return compared(slices, alone, order);
  }

  // The runs of all together; nothing where there was none, or the first failed.
  const std::vector<RunRecord>& runs() const noexcept { return runs_; }

 private:
  static constexpr std::int64_t kRows = 4;

  ProbeVerdict compared(const Batch& slices, const std::vector<std::vector<OwnedTensor>>& alone,
                        const std::vector<std::size_t>& order) {
    Batch ordered;
    for (const std::size_t place : order) ordered.push_back(slices[place]);
    const std::int64_t rows = rows_of(ordered);
    const std::string where = "between its run alone and with " + std::to_string(rows) + " rows together";
    std::vector<OwnedTensor> outputs;
    try {
      outputs = outputs_of(ordered);
    } catch (const std::bad_alloc&) {
      return {ProbeVerdict::Kind::unclear, ""};
    } catch (const std::exception& error) {
      if (says_out_of_memory(error.what())) return {ProbeVerdict::Kind::unclear, ""};
      return different(fails(rows) + ": " + error.what());
    } catch (...) {
      return different(fails(rows));
    }
    for (const std::uint32_t output : every_output_) {
      if (!holds_rows(view_of(outputs[output]), rows)) {
        return different(name(output) + RowsDiffer(output, outputs[output].shape, rows).what());
      }
    }
    std::int64_t first = 0;
    for (const std::size_t place : order) {
      std::vector<TensorView> mine, single;
      for (const std::uint32_t output : every_output_) {
        mine.push_back(rows_in(outputs[output], first, slices[place].rows));
        single.push_back(view_of(alone[place][output]));
      }
      const std::string reason = comparison_.differ(every_output_, mine, single, where);
      if (!reason.empty()) return different(reason);
      first += slices[place].rows;
    }
    return {ProbeVerdict::Kind::same, ""};
  }

  static ProbeVerdict different(std::string reason) { return {ProbeVerdict::Kind::different, std::move(reason)}; }
  static std::string fails(std::int64_t rows) {
    return "it fails with " + std::to_string(rows) + " rows together, and not with each alone";
  }
  std::string name(std::uint32_t output) const { return "output " + outputs_[output] + " "; }

  static TensorView rows_in(const OwnedTensor& output, std::int64_t first, std::int64_t rows) noexcept {
    const std::size_t row_bytes = output.shape.with_rows(1).bytes(output.dtype);
    const char* data = static_cast<const char*>(output.data.get()) + row_bytes * std::size_t(first);
    return {output.dtype, output.shape.with_rows(rows), data};
  }

  std::vector<OwnedTensor> outputs_of(const Batch& slices) {
    RunRecord run;
    run.requests = slices.size();
    run.rows = run.padded_rows = rows_of(slices);
    run.internal = true;
    run.began = monotonic_now();
    gather(backend_, slices);
    const Nanos gather_end = monotonic_now();
    backend_.run();
    const Nanos run_end = monotonic_now();
    std::vector<OwnedTensor> outputs;
    for (const std::uint32_t index : every_output_) outputs.push_back(copy_whole(backend_.output(index)));
    run.gather_ns = gather_end - run.began;
    run.run_ns = run_end - gather_end;
    run.comparison_ns = backend_.comparison_ns();
    run.scatter_ns = monotonic_now() - run_end;
    runs_.push_back(run);
    return outputs;
  }

  Backend& backend_;
  const std::vector<std::string>& outputs_;
  const RowComparison comparison_;
  std::vector<std::uint32_t> every_output_;
  std::vector<RunRecord> runs_;
};

}  // namespace paddleinfer
