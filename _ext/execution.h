// How a batch goes through a predictor: gather, run, scatter; and apart, when together it fails.
#pragma once

#include <cxxabi.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "backend.h"
#include "request.h"
#include "schedule.h"

namespace paddleinfer {

inline const std::vector<std::int64_t> kAnySize;

// What became of one slice.
struct SliceEnd {
  bool failed = false;
  Failure failure;
  std::vector<OwnedTensor> outputs;  // of a whole request
  bool joined = false;               // a part's rows are in their place
  bool complete = true;              // false: other parts of the request are still to come
  std::size_t run = 0;               // the last that it was part of
};

// An output of a batch that does not have the batch's rows on axis 0.
class RowsDiffer : public std::exception {
 public:
  RowsDiffer(std::uint32_t output, const Shape& shape, std::int64_t rows) : output_(output) {
    message_ = "has the shape [";
    for (std::size_t axis = 0; axis < shape.rank; ++axis) {
      message_ += (axis == 0 ? "" : ", ") + std::to_string(shape.dims[axis]);
    }
    message_ += "] for " + std::to_string(rows) + " rows";
  }
  const char* what() const noexcept override { return message_.c_str(); }
  std::uint32_t output() const noexcept { return output_; }

 private:
  std::uint32_t output_;
  std::string message_;
};

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

// One batch whose requests are in state `running`. It runs together; where that fails, its requests run again in
// halves, and those again, until only the culprits fail: at most 2 * log2(n), rounded up, more runs for one of n.
class Execution {
 public:
  // `sizes`: the rows that the model may see at once, rising; a batch is padded to the next of them.
  Execution(Backend& backend, const Batch& batch, ReleaseList& releases,
            const std::vector<std::int64_t>& sizes = kAnySize)
      : backend_(backend), batch_(batch), releases_(releases), sizes_(sizes), ends_(batch.size()) {}

  // `apart`: each by itself from the start.
  void run(bool apart) {
    if (batch_.size() == 1) return run_alone(0);
    Failure failure;
    const bool together = !apart && run_together(0, batch_.size(), failure);
    if (!together && (apart || rows_differ_)) {
      for (std::size_t place = 0; place < batch_.size(); ++place) run_alone(place);
    } else if (!together) {
      run_halves(0, batch_.size());
    }
    let_go_of_inputs();
  }

  // One for each slice, in order.
  std::vector<SliceEnd>& ends() noexcept { return ends_; }
  const std::vector<Ran>& runs() const noexcept { return runs_; }

  // Why its rows may not share a run; empty when nothing speaks against it. And the output that shows it.
  const std::string& rows_differ() const noexcept { return why_rows_differ_; }
  std::uint32_t differing_output() const noexcept { return differing_output_; }

 private:
  void run_halves(std::size_t from, std::size_t to) {
    const std::size_t middle = from + (to - from) / 2;
    for (const auto& [begin, end] : {std::pair{from, middle}, std::pair{middle, to}}) {
      Failure failure;
      if (end - begin == 1) {
        run_alone(begin);
      } else if (!run_together(begin, end, failure)) {
        run_halves(begin, end);
      }
    }
  }

  void let_go_of_inputs() {
    std::vector<void*> owners;
    owners.reserve(batch_.size());
    for (const Slice& slice : batch_) {
      if (void* owner = slice.request->let_go_of_inputs()) owners.push_back(owner);
    }
    releases_.push_all(owners);
  }

  void run_alone(std::size_t place) {
    if (batch_[place].request->ended()) {
      if (batch_.size() == 1) batch_[place].request->let_go_of_inputs(releases_);
      return;
    }
    Failure failure;
    if (run_together(place, place + 1, failure)) return;
    ends_[place].failed = true;
    ends_[place].failure = std::move(failure);
  }

  // Runs the slices [from, to) as one. False, with the failure, when they gave no result.
  bool run_together(std::size_t from, std::size_t to, Failure& failure) {
    const Batch slices(batch_.begin() + std::ptrdiff_t(from), batch_.begin() + std::ptrdiff_t(to));
    Ran ran;
    ran.requests = slices.size();
    ran.rows = rows_of(slices);
    for (std::size_t place = from; place < to; ++place) ends_[place].run = runs_.size();
    ran.padded_rows = padded(ran.rows);
    ran.failed = true;
    ran.began = monotonic_now();
    Nanos Ran::* stage = &Ran::gather_ns;  // that is under way
    Nanos stage_began = ran.began;
    const auto end_stage = [&](Nanos Ran::* next) {
      const Nanos now = monotonic_now();
      ran.*stage = now - stage_began;
      stage = next;
      stage_began = now;
    };
    bool inputs_are_held = true;
    const auto let_go = [&] {
      if (batch_.size() > 1 || !std::exchange(inputs_are_held, false)) return;
      slices.front().request->let_go_of_inputs(releases_);  // it will not run again
    };
    try {
      gather(backend_, slices, ran.padded_rows);
      let_go();
      if (all_ended(slices)) return true;
      end_stage(&Ran::run_ns);
      backend_.run();
      end_stage(&Ran::scatter_ns);
      scatter(slices, from, ran.padded_rows);
      ran.failed = false;
    } catch (abi::__forced_unwind&) {  // the interpreter ends this thread: it must not be stopped
      throw;
    } catch (const PythonFailure& error) {
      failure = {error.what(), error.exception()};
    } catch (const RowsDiffer& error) {
      rows_differ_ = true;
      why_rows_differ_ = error.what();
      differing_output_ = error.output();
      failure = {"output " + std::to_string(error.output()) + " " + error.what() +
                     ", so the parts of a request cannot be joined; batchable=False runs such a model unmerged",
                 nullptr};
    } catch (const std::bad_alloc&) {
      failure = {"out of memory", nullptr};
      ran.out_of_memory = true;
    } catch (const std::exception& error) {
      failure = {error.what(), nullptr};
    } catch (...) {
      failure = {"the model threw something that is not a C++ exception", nullptr};
    }
    end_stage(stage);
    let_go();
    ran.out_of_memory = ran.out_of_memory || says_out_of_memory(failure.message);
    runs_.push_back(ran);
    return !ran.failed;
  }

  std::int64_t padded(std::int64_t rows) const noexcept {
    const auto size = std::lower_bound(sizes_.begin(), sizes_.end(), rows);
    return size == sizes_.end() ? rows : *size;
  }

  static bool all_ended(const Batch& slices) noexcept {
    return std::all_of(slices.begin(), slices.end(), [](const Slice& slice) { return slice.request->ended(); });
  }

  // Paddle's name for it, its allocators' words, and Python's name.
  static bool says_out_of_memory(const std::string& message) noexcept {
    for (const char* sign : {"ResourceExhausted", "Out of memory", "out of memory", "MemoryError"}) {
      if (message.find(sign) != std::string::npos) return true;
    }
    return false;
  }

  void scatter(const Batch& slices, std::size_t from, std::int64_t batch_rows) {
    const bool as_it_is = slices.size() == 1 && slices.front().whole() && batch_rows == slices.front().rows;
    std::vector<TensorView> views;  // by output, fetched once
    std::vector<bool> fetched;
    const auto view_of = [&](std::uint32_t output) -> const TensorView& {
      if (views.size() <= output) {
        views.resize(output + 1);
        fetched.resize(output + 1, false);
      }
      if (!fetched[output]) {
        views[output] = backend_.output(output);
        if (!as_it_is && !holds_rows(views[output], batch_rows)) {
          throw RowsDiffer(output, views[output].shape, batch_rows);
        }
        fetched[output] = true;
      }
      return views[output];
    };
    std::int64_t first = 0;
    for (std::size_t place = 0; place < slices.size(); ++place) {
      const Slice& slice = slices[place];
      const Request& request = *slice.request;
      // Who has ended meanwhile (timed out, cancelled) gets nothing copied.
      if (!request.ended()) {
        SliceEnd& end = ends_[from + place];
        if (slice.whole()) {
          end.outputs.clear();  // of a run that failed after it
          end.outputs.reserve(request.wanted.size());
          for (const std::uint32_t output : request.wanted) {
            const TensorView& view = view_of(output);
            end.outputs.push_back(as_it_is ? copy_whole(view) : copy_rows(view, first, slice.rows));
          }
        } else {
          std::vector<TensorView> wanted;
          for (const std::uint32_t output : request.wanted) wanted.push_back(view_of(output));
          if (!end.joined) end.complete = request.joined->write(wanted, first, slice.first_row, slice.rows);
          end.joined = true;
        }
      }
      first += slice.rows;
    }
  }

  Backend& backend_;
  const Batch& batch_;
  ReleaseList& releases_;
  const std::vector<std::int64_t>& sizes_;
  std::vector<SliceEnd> ends_;
  std::vector<Ran> runs_;
  bool rows_differ_ = false;
  std::string why_rows_differ_;
  std::uint32_t differing_output_ = 0;
};

}  // namespace paddleinfer
