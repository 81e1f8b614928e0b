// Runs each batch on one of two predictors of a model: Paddle with oneDNN, or without, by what kernel_choice.h says.
//
// While nothing is decided for a batch's shapes it runs with oneDNN, and once more without, which is timed and
// compared. So does one of many runs after that.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <numeric>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "paddle/kernel_choice.h"
#include "requests/time.h"
#include "running/backend.h"
#include "running/batch_probe.h"
#include "running/gathered_inputs.h"

namespace paddleinfer::paddle {

class ChoosingBackend final : public Backend {
 public:
  using Maker = std::function<std::unique_ptr<Backend>()>;
  using Clock = Nanos (*)();

  // `outputs`: their names.
  ChoosingBackend(const Maker& with_onednn, const Maker& without, std::vector<std::string> outputs,
                  std::shared_ptr<KernelChoice> choice, Clock clock = monotonic_now)
      : choice_(std::move(choice)), clock_(clock), outputs_(std::move(outputs)), every_output_(outputs_.size()) {
    std::iota(every_output_.begin(), every_output_.end(), 0u);
    try {
      plain_ = without();
    } catch (const std::bad_alloc&) {
      choice_->give_up("there was no memory for a predictor without it");
    } catch (const std::exception& error) {
      choice_->give_up(std::string("no predictor without it can be made: ") + error.what());
    }
    onednn_ = with_onednn();  // the last: a load takes the thread's part of oneDNN's cache, and this keeps it
    gathered_ = used_ = onednn_.get();
  }

  void* input(std::size_t index, DType dtype, const Shape& shape) override {
    // Most often the next batch has the shapes of the one before; if not, its inputs are copied.
    if (index == 0) gathered_ = is_away() ? plain_.get() : used_;
    void* const data = gathered_->input(index, dtype, shape);
    inputs_.note(index, dtype, shape, data);
    return data;
  }

  void run() override {
    const std::uint64_t shapes = inputs_.signature();
    const KernelChoice::Way way = choice_->way(shapes);
    comparison_ns_ = 0;
    const bool is_decided = way == KernelChoice::Way::onednn || way == KernelChoice::Way::plain;
    const bool is_checked = way == KernelChoice::Way::open || (is_decided && choice_->count_run(shapes));
    if (is_away()) {  // also where another way was chosen since the caller was let in
      run_on(*plain_);
    } else if (is_checked && plain_ && !inputs_.has_empty_input() && (is_decided || has_run(shapes))) {
      const Nanos began = clock_();
      const Nanos usual_ns = run_both(shapes, way);
      comparison_ns_ = clock_() - began - usual_ns;
    } else {
      run_on(way == KernelChoice::Way::plain ? *plain_ : *onednn_);
    }
  }

  Nanos comparison_ns() const noexcept override { return comparison_ns_; }
  TensorView output(std::size_t index) override { return used_->output(index); }

 private:
  struct Runs {
    bool onednn = false;
    bool plain = false;
  };

  // On a caller's thread, to which oneDNN's kernels are not tied.
  bool is_away() const noexcept { return std::this_thread::get_id() != home_; }

  void run_on(Backend& backend) {
    if (gathered_ != &backend) inputs_.copy_to(backend);
    used_ = &backend;
    backend.run();
  }

  // A predictor's first run of a shape makes what later ones use, and most shapes of some models come once.
  bool has_run(std::uint64_t shapes) {
    if (runs_.size() >= KernelChoice::kShapes && runs_.find(shapes) == runs_.end()) return false;
    return std::exchange(runs_[shapes].onednn, true);
  }

  // The result is oneDNN's. Paddle may write to its inputs, so that both have theirs before either runs. How long the
  // run took that will be made as a rule.
  Nanos run_both(std::uint64_t shapes, KernelChoice::Way way) {
    inputs_.copy_to(gathered_ == onednn_.get() ? *plain_ : *onednn_);
    used_ = onednn_.get();
    const Nanos began = clock_();
    onednn_->run();
    const Nanos onednn_ns = clock_() - began;
    if (onednn_ns > KernelChoice::kLongRun) {
      choice_->note_long(shapes, onednn_ns);
      return onednn_ns;
    }
    Nanos plain_ns = 0;
    try {
      plain_ns = plain_run_ns();
      const std::string difference = differ();
      if (!difference.empty()) {
        choice_->give_up(difference);
        return onednn_ns;
      }
    } catch (...) {  // these shapes fail without oneDNN, and have their result with it
      choice_->keep_onednn(shapes);
      return onednn_ns;
    }
    if (std::exchange(runs_[shapes].plain, true)) choice_->note(shapes, onednn_ns, plain_ns);
    if (way == KernelChoice::Way::open) return std::min(onednn_ns, plain_ns);
    return way == KernelChoice::Way::plain ? plain_ns : onednn_ns;
  }

  Nanos plain_run_ns() {
    const Nanos began = clock_();
    plain_->run();
    return clock_() - began;
  }

  std::string differ() {
    std::vector<TensorView> with, without;
    for (const std::uint32_t index : every_output_) {
      without.push_back(plain_->output(index));
      with.push_back(onednn_->output(index));
    }
    return RowComparison(outputs_, nullptr).differ(every_output_, without, with, "without it");
  }

  const std::shared_ptr<KernelChoice> choice_;
  const Clock clock_;
  const std::vector<std::string> outputs_;
  std::vector<std::uint32_t> every_output_;
  const std::thread::id home_ = std::this_thread::get_id();
  std::unique_ptr<Backend> onednn_;
  std::unique_ptr<Backend> plain_;
  Backend* gathered_ = nullptr;  // has the inputs of the next run
  Backend* used_ = nullptr;      // ran last
  GatheredInputs inputs_;
  std::unordered_map<std::uint64_t, Runs> runs_;
  Nanos comparison_ns_ = 0;
};

}  // namespace paddleinfer::paddle
