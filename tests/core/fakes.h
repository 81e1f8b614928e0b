// What the tests put in place of Paddle and Python: a model to script, and a gate to stop threads at.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "backend.h"
#include "check.h"
#include "ledger.h"

namespace fakes {

using namespace paddleinfer;

// Threads stand at it until the test opens it.
class Gate {
 public:
  void open() {
    const std::lock_guard<std::mutex> lock(mu_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock<std::mutex> lock(mu_);
    ++came_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  // Until so many threads have come to it, in all. False after ten seconds.
  bool await(int count) {
    std::unique_lock<std::mutex> lock(mu_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return came_ >= count; });
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  bool open_ = false;  // guarded by mu_
  int came_ = 0;       // guarded by mu_
};

// What one backend went through. Its thread writes it without a lock, so that the ThreadSanitizer would see
// a second one.
struct Life {
  std::size_t instance = 0;
  std::thread::id made;
  std::thread::id destroyed;
  std::vector<std::thread::id> elsewhere;  // other threads that ran it
  int runs = 0;
};

class FakeBackend;

// Output 0 is input 0 plus one; output 1 numbers the rows of the batch (int64, one a row), so that its rows are not
// what they are alone; output 2 is one number, however many rows there are.
class FakeModel {
 public:
  // Called in each run with the first number of the batch. May throw, sleep, or stand at a gate.
  std::function<void(float first)> on_run;
  // The same, with the first number of each row.
  std::function<void(const std::vector<float>& rows)> on_rows;
  std::function<void()> on_destroy;

  std::atomic<int> runs{0};      // begun
  std::atomic<int> overlaps{0};  // uses of a backend while another thread used it

  int alive() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return static_cast<int>(alive_.size());
  }
  // Of destroyed backends, in that order.
  std::vector<Life> lives() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return lives_;
  }
  // The first numbers of the rows of each run, in the order the runs began.
  std::vector<std::vector<float>> batches() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return batches_;
  }
  std::size_t most_rows() const {
    std::size_t most = 0;
    for (const std::vector<float>& batch : batches()) most = std::max(most, batch.size());
    return most;
  }
  void forget_batches() {
    const std::lock_guard<std::mutex> lock(mu_);
    batches_.clear();
  }
  std::atomic<bool> keeps_batches{true};
  std::atomic<paddleinfer::Nanos> run_ns{0};  // what a run costs beside, however many its rows
  inline void destroy_what_is_left();

 private:
  friend class FakeBackend;
  mutable std::mutex mu_;
  std::set<FakeBackend*> alive_;  // guarded by mu_; keeps a deliberately lost root in the LeakSanitizer's sight
  std::vector<Life> lives_;       // guarded by mu_
  std::vector<std::vector<float>> batches_;  // guarded by mu_
};

class FakeBackend final : public Backend {
 public:
  FakeBackend(std::shared_ptr<FakeModel> model, std::size_t instance) : model_(std::move(model)) {
    life_.instance = instance;
    life_.made = std::this_thread::get_id();
    const std::lock_guard<std::mutex> lock(model_->mu_);
    model_->alive_.insert(this);
  }
  ~FakeBackend() override {
    const Use use(*this);
    if (model_->on_destroy) model_->on_destroy();
    life_.destroyed = std::this_thread::get_id();
    const std::lock_guard<std::mutex> lock(model_->mu_);
    model_->alive_.erase(this);
    model_->lives_.push_back(std::move(life_));
  }
  void* input(std::size_t index, DType dtype, const Shape& shape) override {
    const Use use(*this);
    if (inputs_.size() <= index) inputs_.resize(index + 1);
    inputs_[index].shape = shape;
    inputs_[index].memory.resize(std::max<std::size_t>(1, shape.bytes(dtype)));
    return inputs_[index].memory.data();
  }
  void run() override {
    const Use use(*this);
    const std::thread::id here = std::this_thread::get_id();
    std::vector<std::thread::id>& others = life_.elsewhere;
    if (here != life_.made && std::find(others.begin(), others.end(), here) == others.end()) others.push_back(here);
    ++life_.runs;
    model_->runs.fetch_add(1, std::memory_order_relaxed);
    const float* numbers = reinterpret_cast<const float*>(inputs_[0].memory.data());
    const auto count = static_cast<std::size_t>(inputs_[0].shape.elements());
    note(numbers, count);
    if (model_->on_run) model_->on_run(count > 0 ? numbers[0] : 0.0f);
    if (model_->on_rows) model_->on_rows(rows_);
    if (model_->run_ns > 0) harness::sleep_ns(model_->run_ns);
    plus_one_.resize(count);
    std::transform(numbers, numbers + count, plus_one_.begin(), [](float number) { return number + 1; });
    row_numbers_.resize(static_cast<std::size_t>(inputs_[0].shape.dims[0]));
    std::iota(row_numbers_.begin(), row_numbers_.end(), 0);
  }
  TensorView output(std::size_t index) override {
    const Use use(*this);
    TensorView view;
    view.shape.rank = 1;
    if (index == 0) {
      view = {DType::float32, inputs_[0].shape, plus_one_.data()};
    } else if (index == 1) {
      view.dtype = DType::int64;
      view.shape.dims[0] = static_cast<std::int64_t>(row_numbers_.size());
      view.data = row_numbers_.data();
    } else if (index == 2) {
      view.shape.dims[0] = 1;
      view.data = plus_one_.data();
    } else {
      throw std::out_of_range("the fake model has three outputs");
    }
    return view;
  }

 private:
  struct Use {
    explicit Use(FakeBackend& used) : backend(used) {
      if (backend.used_.exchange(true, std::memory_order_relaxed)) ++backend.model_->overlaps;
    }
    ~Use() { backend.used_.store(false, std::memory_order_relaxed); }
    FakeBackend& backend;
  };
  struct Input {
    Shape shape;
    std::vector<char> memory;
  };

  void note(const float* numbers, std::size_t count) {
    const auto rows = static_cast<std::size_t>(inputs_[0].shape.dims[0]);
    rows_.clear();
    for (std::size_t row = 0; row < rows; ++row) rows_.push_back(numbers[row * count / rows]);
    if (!model_->keeps_batches) return;
    const std::lock_guard<std::mutex> lock(model_->mu_);
    model_->batches_.push_back(rows_);
  }

  const std::shared_ptr<FakeModel> model_;
  std::atomic<bool> used_{false};
  Life life_;
  std::vector<Input> inputs_;
  std::vector<float> rows_;
  std::vector<float> plus_one_;
  std::vector<std::int64_t> row_numbers_;
};

inline void FakeModel::destroy_what_is_left() {
  for (;;) {
    FakeBackend* backend = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      if (alive_.empty()) return;
      backend = *alive_.begin();
    }
    delete backend;
  }
}

}  // namespace fakes
