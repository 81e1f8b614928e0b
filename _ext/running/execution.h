// Takes a batch through a backend: gather, run, scatter. Where it fails together, its requests run apart.
#pragma once

#include <algorithm>
#include <array>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "requests/request.h"
#include "requests/room.h"
#include "running/backend.h"
#include "running/gather.h"
#include "running/memory_pressure.h"
#include "running/output_record.h"
#include "scheduling/scheduler_types.h"

namespace paddleinfer {

inline const std::vector<std::int64_t> kAnySize;

// What became of one slice.
struct SliceResult {
  bool failed = false;
  Failure failure;
  std::vector<OwnedTensor> outputs;  // of a whole request
  bool assembled = false;            // a part's rows are in their place
  bool in_one_run = false;           // a part that cannot be joined: its request has to run whole
  bool claimed = false;              // its request is to be told of this end
  std::size_t run = 0;               // the last that it was part of
};

// An output of a batch that does not have the batch's rows on axis 0, or whose rows are not those of other runs.
class RowsDiffer : public std::exception {
 public:
  RowsDiffer(std::uint32_t output, const Shape& shape, std::int64_t rows) : output_(output) {
    message_ = "has the shape " + text_of(shape) + " for " + std::to_string(rows) + " rows";
  }
  RowsDiffer(std::uint32_t output, const Shape& shape, std::int64_t rows, const Shape& other)
      : RowsDiffer(output, shape, rows) {
    message_ += ", and " + text_of(other) + " in another run of such rows";
  }
  const char* what() const noexcept override { return message_.c_str(); }
  std::uint32_t output() const noexcept { return output_; }

 private:
  std::uint32_t output_;
  std::string message_;
};

// One batch whose requests are in state `running`. It runs together; where that fails, its requests run again in
// halves, and those again, until only the culprits fail: at most 2 * log2(n), rounded up, more runs for one of n.
class Execution {
 public:
  // `sizes`: the rows that the model may see at once, rising; a batch is padded to the next of them.
  // `record`: of the model's outputs; null where rows never share a run.
  Execution(Backend& backend, const Batch& batch, ReleaseList& releases,
            const std::vector<std::int64_t>& sizes = kAnySize, OutputRecord* record = nullptr)
      : Execution(batch.size(), backend, batch, releases, sizes, record) {
    start();
  }

  // Of a batch that is still to be filled, with so many slices at most. Then comes start(), which needs no memory.
  Execution(std::size_t most, Backend& backend, const Batch& batch, ReleaseList& releases,
            const std::vector<std::int64_t>& sizes, OutputRecord* record)
      : backend_(backend), batch_(batch), releases_(releases), sizes_(sizes), record_(record) {
    results_.reserve(most);
  }
  void start() noexcept { results_.resize(batch_.size()); }

  // `apart`: each by itself from the start.
  void run(bool apart) {
    if (batch_.size() == 1) {
      run_alone(0);
    } else if (apart) {
      run_apart();
    } else {
      Failure failure;
      if (!run_together(0, batch_.size(), failure)) rows_differ_ ? run_apart() : run_halves(0, batch_.size());
    }
    if (!keeps_inputs_) release_inputs();
  }

  // Each by itself; parts not at all, for they cannot be joined then.
  void run_apart() {
    for (std::size_t place = 0; place < batch_.size(); ++place) {
      if (batch_[place].whole()) {
        run_alone(place);
      } else {
        results_[place].in_one_run = true;
      }
    }
  }

  // The same with those that have shared a run, after run() and with their inputs kept: it has turned out that the
  // results may be a neighbour's.
  void run_again_apart() {
    std::vector<std::size_t> again;
    again.reserve(batch_.size());
    for (std::size_t place = 0; place < batch_.size(); ++place) {
      if (!batch_[place].whole()) {
        results_[place].in_one_run = true;
      } else if (shared_a_run(place)) {
        results_[place].outputs.clear();
        again.push_back(place);
      }
    }
    for (const std::size_t place : again) run_alone(place);
  }

  // For where there was no memory to go on: what has no result fails, as does what may be a neighbour's.
  void fail_unfinished() noexcept {
    for (std::size_t place = 0; place < batch_.size(); ++place) {
      SliceResult& result = results_[place];
      const Request& request = *batch_[place].request;
      if (result.failed || request.ended()) continue;
      if (!batch_[place].whole()) {
        if (rows_differ_) result.in_one_run = true;
        if (result.in_one_run || result.assembled) continue;
      } else if (result.outputs.size() == request.wanted.size() && !(rows_differ_ && may_have_shared_a_run(place))) {
        continue;
      }
      result.failed = true;
      result.failure = out_of_memory();
    }
  }

  // Short enough to need none itself.
  static Failure out_of_memory() noexcept { return {kOutOfMemory, nullptr}; }

  // Whether its result comes out of a run with others, or it is a part.
  bool shared_a_run(std::size_t place) const noexcept {
    if (!batch_[place].whole()) return true;
    const SliceResult& result = results_[place];
    return !result.failed && result.run < runs_.size() && runs_[result.run].requests > 1;
  }

  // Before run(): the inputs are needed after it. Then release_inputs() is the caller's to call.
  void keep_inputs() noexcept { keeps_inputs_ = true; }
  void release_inputs() noexcept {
    if (std::exchange(let_go_, true)) return;
    std::array<void*, 32> owners;
    std::size_t count = 0;
    for (const Slice& slice : batch_) {
      owners[count] = slice.request->release_inputs();
      if (owners[count] != nullptr && ++count == owners.size())
        releases_.push_all(owners.data(), std::exchange(count, 0));
    }
    releases_.push_all(owners.data(), count);
  }

  // Before run(): also keeps every one of so many outputs of each slice that runs alone.
  void keep_outputs(std::size_t count) {
    for (std::uint32_t output = 0; output < count; ++output) kept_outputs_.push_back(output);
    kept_.resize(batch_.size());
  }
  // Of one slice; empty where its run failed.
  std::vector<OwnedTensor>& kept(std::size_t place) { return kept_.at(place); }

  // One for each slice, in order.
  std::vector<SliceResult>& results() noexcept { return results_; }
  const std::vector<RunRecord>& runs() const noexcept { return runs_; }

  // Whether its rows may not share a run, and why. And the output that shows it.
  const std::string& why_rows_differ() const noexcept { return why_rows_differ_; }
  bool rows_differ() const noexcept { return rows_differ_; }
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

  void run_alone(std::size_t place) {
    if (batch_[place].request->ended()) return;
    Failure failure;
    if (run_together(place, place + 1, failure)) return;
    if (run_differs_ && !batch_[place].whole()) {
      results_[place].in_one_run = true;
      return;
    }
    // Padded rows cannot be taken off again: it runs as it is.
    if (run_differs_ && run_together(place, place + 1, failure, /*as_it_is=*/true)) return;
    results_[place].failed = true;
    results_[place].failure = std::move(failure);
  }

  // Runs the slices [from, to) as one. False, with the failure, when they gave no result.
  bool run_together(std::size_t from, std::size_t to, Failure& failure, bool as_it_is = false) {
    run_differs_ = false;
    make_room(runs_);  // so that what has run is told, whatever comes
    const Batch slices(batch_.begin() + std::ptrdiff_t(from), batch_.begin() + std::ptrdiff_t(to));
    RunRecord run;
    run.requests = slices.size();
    run.rows = rows_of(slices);
    for (std::size_t place = from; place < to; ++place) results_[place].run = runs_.size();
    run.padded_rows = as_it_is ? run.rows : padded(run.rows);
    run.failed = true;
    run.began = monotonic_now();
    Nanos RunRecord::* stage = &RunRecord::gather_ns;  // that is under way
    Nanos stage_began = run.began;
    const auto end_stage = [&](Nanos RunRecord::* next) {
      const Nanos now = monotonic_now();
      run.*stage = now - stage_began;
      stage = next;
      stage_began = now;
    };
    const auto let_go = [&] {
      const bool may_run_again = batch_.size() > 1 || keeps_inputs_ || run.padded_rows != run.rows;
      if (!may_run_again) release_inputs();
    };
    try {
      gather(backend_, slices, run.padded_rows);
      let_go();
      if (all_ended(slices)) return true;
      end_stage(&RunRecord::run_ns);
      backend_.run();
      end_stage(&RunRecord::scatter_ns);
      run.comparison_ns = backend_.comparison_ns();
      scatter(slices, from, run.padded_rows);
      run.failed = false;
    } catch (const PythonFailure& error) {
      failure = told([&error] { return std::string(error.what()); });
      failure.exception = error.exception();
    } catch (const RowsDiffer& error) {
      run_differs_ = true;
      note_difference(error);
      failure = told([&] { return "output " + std::to_string(error.output()) + " " + error.what(); });
    } catch (const std::bad_alloc&) {
      failure = out_of_memory();
    } catch (const std::exception& error) {
      failure = told([&error] { return std::string(error.what()); });
    } catch (...) {
      failure = told([] { return std::string("the model threw something that is not a C++ exception"); });
    }
    end_stage(stage);
    let_go();
    if (says_nothing(failure.message) && memory_is_short()) failure.message = kOutOfMemory;
    run.out_of_memory = says_out_of_memory(failure.message);
    runs_.push_back(run);
    return !run.failed;
  }

  std::int64_t padded(std::int64_t rows) const noexcept {
    const auto size = std::lower_bound(sizes_.begin(), sizes_.end(), rows);
    return size == sizes_.end() ? rows : *size;
  }

  static bool all_ended(const Batch& slices) noexcept {
    return std::all_of(slices.begin(), slices.end(), [](const Slice& slice) { return slice.request->ended(); });
  }

  // Its text, or that there is no memory for that.
  template <typename Text>
  static Failure told(Text&& text) noexcept {
    try {
      return {text(), nullptr};
    } catch (const std::bad_alloc&) {
      return out_of_memory();
    }
  }

  void note_difference(const RowsDiffer& error) noexcept {
    if (!std::exchange(rows_differ_, true)) differing_output_ = error.output();
    if (why_rows_differ_.empty()) why_rows_differ_ = told([&error] { return std::string(error.what()); }).message;
  }

  bool may_have_shared_a_run(std::size_t place) const noexcept {
    return results_[place].run >= runs_.size() || runs_[results_[place].run].requests > 1;
  }

  // An output of a run of so many rows. Throws when its rows cannot be told apart; of one request as it is, for which
  // that does not matter, it is noted.
  TensorView checked(std::uint32_t output, std::uint64_t bucket, std::int64_t rows, bool as_it_is) {
    const TensorView view = backend_.output(output);
    if (as_it_is && record_ == nullptr) return view;
    const bool holds = holds_rows(view, rows);
    const std::optional<Shape> other =
        holds && record_ != nullptr ? record_->note_rows(bucket, output, view) : std::nullopt;
    if (holds && !other) return view;
    const RowsDiffer error =
        other ? RowsDiffer(output, view.shape, rows, *other) : RowsDiffer(output, view.shape, rows);
    if (!as_it_is) throw error;
    note_difference(error);
    return view;
  }

  // All outputs are looked at before any is copied.
  void scatter(const Batch& slices, std::size_t from, std::int64_t batch_rows) {
    const bool as_it_is = slices.size() == 1 && slices.front().whole() && batch_rows == slices.front().rows;
    bool keeps = !kept_outputs_.empty() && slices.size() == 1;
    std::vector<TensorView> views;  // by output, fetched once
    std::vector<bool> fetched;
    const auto fetch = [&](const std::vector<std::uint32_t>& outputs) {
      for (const std::uint32_t output : outputs) {
        if (views.size() <= output) {
          fetched.resize(output + 1, false);  // first: `views` says how many there are
          views.resize(output + 1);
        }
        if (fetched[output]) continue;
        views[output] = checked(output, slices.front().request->signature, batch_rows, as_it_is);
        fetched[output] = true;
      }
    };
    const auto wanted_of = [&](const Request& request) {
      std::vector<TensorView> wanted;
      for (const std::uint32_t output : request.wanted) wanted.push_back(views[output]);
      return wanted;
    };
    try {
      if (keeps) fetch(kept_outputs_);
    } catch (const RowsDiffer&) {
      throw;
    } catch (const std::exception&) {
      keeps = false;  // an output that nobody may want: the request does not fail for it
    }
    for (const Slice& slice : slices) {
      const Request& request = *slice.request;
      if (request.ended()) continue;
      fetch(request.wanted);
      if (slice.whole() || request.partial_result->fits(wanted_of(request))) continue;
      throw RowsDiffer(request.wanted.front(), views[request.wanted.front()].shape, batch_rows);
    }
    if (record_ != nullptr && record_->wants_values()) {
      for (std::uint32_t output = 0; output < views.size(); ++output) {
        if (fetched[output]) record_->note_values(output, views[output]);
      }
    }
    std::int64_t first = 0;
    for (std::size_t place = 0; place < slices.size(); ++place) {
      const Slice& slice = slices[place];
      const Request& request = *slice.request;
      SliceResult& result = results_[from + place];
      const auto copy_of = [&](std::uint32_t output) {
        return as_it_is ? copy_whole(views[output]) : copy_rows(views[output], first, slice.rows);
      };
      const auto result_of = [&](std::uint32_t output) {
        Memory whole = as_it_is ? backend_.take_output(output) : nullptr;
        if (!whole) return copy_of(output);
        return OwnedTensor{views[output].dtype, views[output].shape, std::move(whole), /*recycled=*/true};
      };
      if (keeps) {
        std::vector<OwnedTensor> all;
        for (const std::uint32_t output : kept_outputs_) all.push_back(copy_of(output));
        kept_[from + place] = std::move(all);
      }
      // Who has ended meanwhile (timed out, cancelled), and was not looked at for, gets nothing copied.
      const bool here = std::all_of(request.wanted.begin(), request.wanted.end(),
                                    [&](std::uint32_t output) { return output < fetched.size() && fetched[output]; });
      if (here && !request.ended()) {
        if (slice.whole()) {
          result.outputs.clear();  // of a run that failed after it
          result.outputs.reserve(request.wanted.size());
          for (const std::uint32_t output : request.wanted) result.outputs.push_back(result_of(output));
        } else {
          if (!result.assembled) request.partial_result->write(wanted_of(request), first, slice.first_row, slice.rows);
          result.assembled = true;
        }
      }
      first += slice.rows;
    }
  }

  Backend& backend_;
  const Batch& batch_;
  ReleaseList& releases_;
  const std::vector<std::int64_t>& sizes_;
  OutputRecord* const record_;
  std::vector<SliceResult> results_;
  std::vector<RunRecord> runs_;
  std::vector<std::uint32_t> kept_outputs_;
  std::vector<std::vector<OwnedTensor>> kept_;  // by place
  bool keeps_inputs_ = false;
  bool let_go_ = false;
  bool run_differs_ = false;  // the last run showed that rows differ
  bool rows_differ_ = false;  // some run did
  std::string why_rows_differ_;
  std::uint32_t differing_output_ = 0;
};

}  // namespace paddleinfer
