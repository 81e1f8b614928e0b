// Makes an instance's predictor in another way if the model fails on the first: Paddle without oneDNN.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "requests/thread_safety.h"
#include "running/backend.h"
#include "running/gathered_inputs.h"
#include "running/memory_pressure.h"

namespace paddleinfer::paddle {

// What the instances of one engine know of it. Once it has helped one of them, all change over.
class FallBack {
 public:
  // `bare_too`: whether it is also tried where a failure gives no reason, until forbid_bare().
  explicit FallBack(bool bare_too) : bare_too_(bare_too) {}

  bool in_force() const noexcept { return in_force_.load(std::memory_order_acquire); }

  // A failure without a reason may from now on be one that would end the process the other way.
  void forbid_bare() noexcept { bare_too_.store(false, std::memory_order_relaxed); }

  // Whether a failure is of a kind that the other way may not have. Each call counts as a trial: a predictor is
  // made for it, and requests that fail either way must not have one made for each of them.
  bool may_try(const std::string& failure) {
    if (!is_of_its_kind(failure)) return false;
    return in_force() || trials_left_.fetch_sub(1, std::memory_order_relaxed) > 0;
  }

  void helped(const std::string& failure) noexcept {
    const MutexLock lock(mu_);
    if (in_force_.load(std::memory_order_relaxed)) return;
    try {
      reason_ = failure;
    } catch (const std::bad_alloc&) {  // one instance has changed over: the others must
      reason_ = kOutOfMemory;
    }
    in_force_.store(true, std::memory_order_release);
    is_changed_.store(true, std::memory_order_release);
  }

  // True once after it has come into force.
  bool take_change() noexcept { return is_changed_.load(std::memory_order_acquire) && is_changed_.exchange(false); }

  // The failure that it helped with.
  std::string reason() {
    const MutexLock lock(mu_);
    return reason_;
  }

  // Clones made the first way that are still there.
  std::atomic<int>& clones() noexcept { return clones_; }

 private:
  static constexpr int kTrials = 3;

  // As Paddle names it, and what oneDNN throws when it cannot; a Python exception's name may stand before either.
  bool is_of_its_kind(const std::string& failure) const {
    if (failure.find("(Unimplemented)") != std::string::npos) return true;
    if (failure.find("UnimplementedError") != std::string::npos) return true;
    return bare_too_.load(std::memory_order_relaxed) && says_nothing(failure) && !memory_is_short();
  }

  std::atomic<bool> bare_too_;
  std::atomic<bool> in_force_{false};
  std::atomic<bool> is_changed_{false};
  std::atomic<int> trials_left_{kTrials};
  std::atomic<int> clones_{0};
  Mutex mu_;
  std::string reason_ GUARDED_BY(mu_);
};

// Runs on what `first` makes; on what `second` makes from the first failure on that it helps with.
class FallBackBackend final : public Backend {
 public:
  using Maker = std::function<std::unique_ptr<Backend>()>;

  // `root`: the others' first backends were cloned from this one's, which therefore outlives them.
  FallBackBackend(const Maker& first, Maker second, std::shared_ptr<FallBack> shared, bool root)
      : second_(std::move(second)), shared_(std::move(shared)), root_(root) {
    if (shared_->in_force()) {
      change_over(second_());
      return;
    }
    try {
      backend_ = first();
    } catch (const std::exception& error) {
      const std::string failure = error.what();
      std::unique_ptr<Backend> other = shared_->may_try(failure) ? made() : nullptr;
      if (!other) throw;
      change_over(std::move(other));
      shared_->helped(failure);
      return;
    }
    is_clone_ = !root_;
    if (is_clone_) ++shared_->clones();
  }

  ~FallBackBackend() override {
    backend_.reset();
    retired_.reset();
    if (is_clone_) --shared_->clones();
  }

  void* input(std::size_t index, DType dtype, const Shape& shape) override {
    if (index == 0) follow_the_others();
    void* data = backend_->input(index, dtype, shape);
    inputs_.note(index, dtype, shape, data);
    return data;
  }

  void run() override {
    if (inputs_.empty()) follow_the_others();
    try {
      backend_->run();
    } catch (const std::exception& error) {
      const std::string failure = error.what();
      // One request without elements must not make all others do without oneDNN.
      if (changed_ || inputs_.has_empty_input() || !shared_->may_try(failure) || !runs_on_second()) throw;
      shared_->helped(failure);
    }
  }

  TensorView output(std::size_t index) override { return backend_->output(index); }

 private:
  std::unique_ptr<Backend> made() {
    try {
      return second_();
    } catch (...) {  // the first failure is the one to tell
      return nullptr;
    }
  }

  bool runs_on_second() {
    std::unique_ptr<Backend> other = made();
    if (!other) return false;
    try {
      inputs_.copy_to(*other);
      other->run();
    } catch (...) {
      return false;
    }
    change_over(std::move(other));
    return true;
  }

  void follow_the_others() {
    if (!changed_ && shared_->in_force()) change_over(second_());
    if (retired_ && shared_->clones().load() == 0) retired_.reset();
  }

  void change_over(std::unique_ptr<Backend> other) {
    changed_ = true;
    std::swap(backend_, other);
    if (root_) {
      retired_ = std::move(other);
      return;
    }
    other.reset();
    if (std::exchange(is_clone_, false)) --shared_->clones();
  }

  const Maker second_;
  const std::shared_ptr<FallBack> shared_;
  const bool root_;
  bool is_clone_ = false;
  bool changed_ = false;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Backend> retired_;  // the root's first
  GatheredInputs inputs_;
};

}  // namespace paddleinfer::paddle
