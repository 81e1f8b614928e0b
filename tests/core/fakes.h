// What the tests put in place of Paddle and Python: a model to script, inputs that count their release.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <ostream>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "backend.h"
#include "check.h"
#include "dispatcher.h"
#include "request.h"

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

// Output 0 is input 0 plus one; output 1 numbers the rows of the batch (int64, one a row).
class FakeModel {
 public:
  // Called in each run with the first number of the batch. May throw, sleep, or stand at a gate.
  std::function<void(float first)> on_run;
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
  inline void destroy_what_is_left();

 private:
  friend class FakeBackend;
  mutable std::mutex mu_;
  std::set<FakeBackend*> alive_;  // guarded by mu_; keeps a deliberately lost root in the LeakSanitizer's sight
  std::vector<Life> lives_;       // guarded by mu_
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
    if (model_->on_run) model_->on_run(count > 0 ? numbers[0] : 0.0f);
    plus_one_.resize(count);
    std::transform(numbers, numbers + count, plus_one_.begin(), [](float number) { return number + 1; });
    row_numbers_.resize(static_cast<std::size_t>(inputs_[0].shape.dims[0]));
    std::iota(row_numbers_.begin(), row_numbers_.end(), 0);
  }
  TensorView output(std::size_t index) override {
    const Use use(*this);
    TensorView view;
    if (index == 0) {
      view = {DType::float32, inputs_[0].shape, plus_one_.data()};
    } else if (index == 1) {
      view.dtype = DType::int64;
      view.shape.rank = 1;
      view.shape.dims[0] = static_cast<std::int64_t>(row_numbers_.size());
      view.data = row_numbers_.data();
    } else {
      throw std::out_of_range("the fake model has two outputs");
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

  const std::shared_ptr<FakeModel> model_;
  std::atomic<bool> used_{false};
  Life life_;
  std::vector<Input> inputs_;
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

// The inputs' memory. Stands for the Python object behind `input_owner`; freed when it is given back, so that
// the AddressSanitizer sees a read that comes too late.
struct Owner {
  std::vector<float> numbers;
};

// Knows which inputs have not been given back.
class Ledger {
 public:
  ~Ledger() {
    for (Owner* owner : held_) delete owner;
  }
  Owner* make(std::vector<float> numbers) {
    auto* owner = new Owner{std::move(numbers)};
    const std::lock_guard<std::mutex> lock(mu_);
    held_.insert(owner);
    return owner;
  }
  void give_back(void* object) {
    const std::lock_guard<std::mutex> lock(mu_);
    auto* owner = static_cast<Owner*>(object);
    CHECK_EQ(held_.erase(owner), 1u);  // else it came back twice
    delete owner;
  }
  // What native threads have done with.
  void drain(ReleaseList& releases) {
    for (void* object : releases.take()) give_back(object);
  }
  std::size_t held() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return held_.size();
  }

 private:
  mutable std::mutex mu_;
  std::set<Owner*> held_;  // guarded by mu_
};

// A request of `rows` rows of two numbers: first, first, first + 1, first + 1...
inline RequestPtr request_for(Ledger& ledger, float first, std::int64_t rows = 1, Nanos deadline = kNever) {
  std::vector<float> numbers(static_cast<std::size_t>(rows) * 2);
  for (std::size_t place = 0; place < numbers.size(); ++place) numbers[place] = first + float(place / 2);
  Owner* owner = ledger.make(std::move(numbers));
  auto request = std::make_shared<Request>();
  TensorView view;
  view.shape.rank = 2;
  view.shape.dims[0] = rows;
  view.shape.dims[1] = 2;
  view.data = owner->numbers.data();
  request->inputs = {view};
  request->wanted = {0};
  request->rows = rows;
  request->bytes = view.bytes();
  request->signature = signature_of(request->inputs, false);
  request->deadline = deadline;
  request->input_owner = owner;
  return request;
}

inline const float* floats(const OwnedTensor& tensor) { return static_cast<const float*>(tensor.data.get()); }

// Whether it ended with the result that its inputs ask for.
inline bool has_result(const Request& request, float first) {
  if (!request.done() || request.outcome != Outcome::result || request.outputs.size() != 1) return false;
  const OwnedTensor& tensor = request.outputs[0];
  if (tensor.shape.dims[0] != request.rows) return false;
  for (std::int64_t row = 0; row < request.rows; ++row) {
    if (floats(tensor)[2 * row] != first + float(row) + 1) return false;
  }
  return true;
}

}  // namespace fakes

namespace paddleinfer {
inline std::ostream& operator<<(std::ostream& out, Outcome outcome) { return out << "outcome " << int(outcome); }
inline std::ostream& operator<<(std::ostream& out, Woken woken) { return out << "woken " << int(woken); }
inline std::ostream& operator<<(std::ostream& out, Admission admission) {
  return out << "admission " << int(admission);
}
inline std::ostream& operator<<(std::ostream& out, Request::State state) { return out << "state " << int(state); }
}  // namespace paddleinfer
