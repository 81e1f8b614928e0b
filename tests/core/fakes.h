// What the tests put in place of Paddle and Python: a model to script, and a gate to stop threads at.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "ledger.h"
#include "running/backend.h"

namespace fakes {

using namespace paddleinfer;

// Threads stand at it until the test opens it.
class Gate {
 public:
  void open();
  void pass();
  // Until so many threads have come to it, in all. False when that takes too long.
  bool await(int count);
  // How many have.
  int came() const;

 private:
  mutable std::mutex mu_;
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
  std::atomic<Nanos> run_ns{0};  // what a run costs beside, however many its rows
  std::atomic<bool> keeps_batches{true};
  std::atomic<float> drift{0};  // added to output 0 where several rows run together

  std::atomic<int> runs{0};      // begun
  std::atomic<int> overlaps{0};  // uses of a backend while another thread used it

  int alive() const;
  // Of destroyed backends, in that order.
  std::vector<Life> lives() const;
  // The first numbers of the rows of each run, in the order the runs began.
  std::vector<std::vector<float>> batches() const;
  std::size_t most_rows() const;
  void forget_batches();

 private:
  friend class FakeBackend;
  mutable std::mutex mu_;
  std::set<FakeBackend*> alive_;             // guarded by mu_
  std::vector<Life> lives_;                  // guarded by mu_
  std::vector<std::vector<float>> batches_;  // guarded by mu_
};

class FakeBackend final : public Backend {
 public:
  FakeBackend(std::shared_ptr<FakeModel> model, std::size_t instance);
  ~FakeBackend() override;
  void* input(std::size_t index, DType dtype, const Shape& shape) override;
  void run() override;
  TensorView output(std::size_t index) override;

 private:
  struct Use {
    explicit Use(FakeBackend& used);
    ~Use() { backend.used_.store(false, std::memory_order_relaxed); }
    FakeBackend& backend;
  };
  struct Input {
    Shape shape;
    std::vector<char> memory;
  };

  void note(const float* numbers, std::size_t count);

  const std::shared_ptr<FakeModel> model_;
  std::atomic<bool> used_{false};
  Life life_;
  std::vector<Input> inputs_;
  std::vector<float> rows_;
  std::vector<float> plus_one_;
  std::vector<std::int64_t> row_numbers_;
};

}  // namespace fakes
