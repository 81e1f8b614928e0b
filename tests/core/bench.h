// A backend by itself, and batches to put through it.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "fakes.h"
#include "running/execution.h"

namespace fakes {

struct Bench {
  ~Bench() {
    ledger.drain(releases);
    CHECK_EQ(ledger.held(), 0u);
  }

  RequestPtr started(float first, std::int64_t rows = 1) {
    RequestPtr request = request_for(ledger, first, rows);
    request->start();
    return request;
  }
  // One request for each first number.
  Batch batch_of(const std::vector<float>& firsts) {
    Batch batch;
    for (const float first : firsts) batch.push_back(whole(started(first)));
    return batch;
  }
  static Slice whole(const RequestPtr& request) { return {request, 0, request->rows}; }
  // A further part of a request in parts, as the scheduler hands it out.
  static Slice part(const RequestPtr& request, std::int64_t first_row, std::int64_t rows) {
    if (!request->partial_result) {
      request->partial_result = std::make_unique<PartialResult>(request->rows);
    }
    if (first_row + rows < request->rows) request->hold_inputs();
    return {request, first_row, rows};
  }

  std::shared_ptr<FakeModel> model = std::make_shared<FakeModel>();
  FakeBackend backend{model, 0};
  ReleaseList releases;
  Ledger ledger;
};

// The rows of each run, as often as it ran.
inline std::vector<std::int64_t> rows_run(const Execution& execution) {
  std::vector<std::int64_t> rows;
  for (const RunRecord& ran : execution.runs()) rows.push_back(ran.rows);
  return rows;
}

// Fails where the test says.
class BrokenBackend final : public Backend {
 public:
  enum class At { input, run, output };
  BrokenBackend(At at, std::function<void()> fail) : at_(at), fail_(std::move(fail)) {}
  void* input(std::size_t, DType dtype, const Shape& shape) override {
    if (at_ == At::input) fail_();
    memory_.resize(shape.bytes(dtype));
    return memory_.data();
  }
  void run() override {
    if (at_ == At::run) fail_();
  }
  TensorView output(std::size_t) override {
    if (at_ == At::output) fail_();
    return {};
  }

 private:
  const At at_;
  const std::function<void()> fail_;
  std::vector<char> memory_;
};

}  // namespace fakes
