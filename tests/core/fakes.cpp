#include "fakes.h"

#include <numeric>

#include "allocations.h"

namespace fakes {

void Gate::open() {
  const std::lock_guard<std::mutex> lock(mu_);
  open_ = true;
  changed_.notify_all();
}

void Gate::pass() {
  std::unique_lock<std::mutex> lock(mu_);
  ++came_;
  changed_.notify_all();
  changed_.wait(lock, [this] { return open_; });
}

bool Gate::await(int count) {
  std::unique_lock<std::mutex> lock(mu_);
  return changed_.wait_for(lock, std::chrono::nanoseconds(harness::kPatience), [&] { return came_ >= count; });
}

int Gate::came() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return came_;
}

int FakeModel::alive() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return static_cast<int>(alive_.size());
}

std::vector<Life> FakeModel::lives() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return lives_;
}

std::vector<std::vector<float>> FakeModel::batches() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return batches_;
}

std::size_t FakeModel::most_rows() const {
  std::size_t most = 0;
  for (const std::vector<float>& batch : batches()) most = std::max(most, batch.size());
  return most;
}

void FakeModel::forget_batches() {
  const std::lock_guard<std::mutex> lock(mu_);
  batches_.clear();
}

FakeBackend::Use::Use(FakeBackend& used) : backend(used) {
  if (backend.used_.exchange(true, std::memory_order_relaxed)) ++backend.model_->overlaps;
}

FakeBackend::FakeBackend(std::shared_ptr<FakeModel> model, std::size_t instance) : model_(std::move(model)) {
  life_.instance = instance;
  life_.made = std::this_thread::get_id();
  const std::lock_guard<std::mutex> lock(model_->mu_);
  model_->alive_.insert(this);
  may_lack_memory = true;  // from now on, as far as its instance's thread goes
}

FakeBackend::~FakeBackend() {
  may_lack_memory = false;
  const Use use(*this);
  if (model_->on_destroy) model_->on_destroy();
  life_.destroyed = std::this_thread::get_id();
  const std::lock_guard<std::mutex> lock(model_->mu_);
  model_->alive_.erase(this);
  model_->lives_.push_back(std::move(life_));
}

void* FakeBackend::input(std::size_t index, DType dtype, const Shape& shape) {
  const Use use(*this);
  if (inputs_.size() <= index) inputs_.resize(index + 1);
  inputs_[index].shape = shape;
  inputs_[index].memory.resize(std::max<std::size_t>(1, shape.bytes(dtype)));
  return inputs_[index].memory.data();
}

void FakeBackend::run() {
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
  const float more = inputs_[0].shape.dims[0] > 1 ? 1 + model_->drift : 1;
  std::transform(numbers, numbers + count, plus_one_.begin(), [more](float number) { return number + more; });
  row_numbers_.resize(static_cast<std::size_t>(inputs_[0].shape.dims[0]));
  std::iota(row_numbers_.begin(), row_numbers_.end(), 0);
}

TensorView FakeBackend::output(std::size_t index) {
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

void FakeBackend::note(const float* numbers, std::size_t count) {
  const auto rows = static_cast<std::size_t>(inputs_[0].shape.dims[0]);
  rows_.clear();
  for (std::size_t row = 0; row < rows; ++row) rows_.push_back(numbers[row * count / rows]);
  if (!model_->keeps_batches) return;
  const std::lock_guard<std::mutex> lock(model_->mu_);
  model_->batches_.push_back(rows_);
}

}  // namespace fakes
