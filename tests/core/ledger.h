// Requests whose inputs count their release, and how their results are looked at.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <ostream>
#include <set>
#include <utility>
#include <vector>

#include "check.h"
#include "request.h"
#include "scheduler.h"

namespace fakes {

using namespace paddleinfer;

// The inputs' memory. Stands for the Python object that owns a request's inputs; freed when it is given back, so
// that the AddressSanitizer sees a read that comes too late.
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
  // As for a request that was refused. False when its inputs were not its caller's any more.
  bool take_back(Request& request) {
    void* owner = request.take_inputs_back();
    if (owner != nullptr) give_back(owner);
    return owner != nullptr;
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

// A request of `rows` rows of `width` numbers: first, first..., first + 1, first + 1...
inline RequestPtr request_for(Ledger& ledger, float first, std::int64_t rows = 1, Nanos deadline = kNever,
                              std::int64_t width = 2) {
  std::vector<float> numbers(static_cast<std::size_t>(rows * width));
  for (std::size_t place = 0; place < numbers.size(); ++place)
    numbers[place] = first + float(place / std::size_t(width));
  Owner* owner = ledger.make(std::move(numbers));
  auto request = std::make_shared<Request>();
  TensorView view;
  view.shape.rank = 2;
  view.shape.dims[0] = rows;
  view.shape.dims[1] = width;
  view.data = owner->numbers.data();
  request->inputs = {view};
  request->wanted = {0};
  request->rows = rows;
  request->bytes = view.bytes();
  request->signature = signature_of(request->inputs, false);
  request->deadline = deadline;
  request->own_inputs(owner);
  return request;
}

inline const float* floats(const OwnedTensor& tensor) { return static_cast<const float*>(tensor.data.get()); }

// Whether an array holds the rows that request_for() asks for, all of them and in order.
inline bool holds_result(const OwnedTensor& tensor, float first, std::int64_t rows) {
  if (tensor.dtype != DType::float32 || tensor.shape.rank != 2 || tensor.shape.dims[0] != rows) return false;
  const std::int64_t width = tensor.shape.dims[1];
  for (std::int64_t place = 0; place < rows * width; ++place) {
    if (floats(tensor)[place] != first + float(place / width) + 1) return false;
  }
  return true;
}

// Whether it ended with the result that its inputs ask for.
inline bool has_result(const Request& request, float first) {
  if (!request.done() || request.outcome != Outcome::result || request.outputs.size() != 1) return false;
  return holds_result(request.outputs[0], first, request.rows);
}

}  // namespace fakes

namespace paddleinfer {
inline std::ostream& operator<<(std::ostream& out, Outcome outcome) { return out << "outcome " << int(outcome); }
inline std::ostream& operator<<(std::ostream& out, Woken woken) { return out << "woken " << int(woken); }
inline std::ostream& operator<<(std::ostream& out, Admission admission) {
  return out << "admission " << int(admission);
}
inline std::ostream& operator<<(std::ostream& out, Merging merging) { return out << "merging " << int(merging); }
inline std::ostream& operator<<(std::ostream& out, Request::State state) { return out << "state " << int(state); }
}  // namespace paddleinfer
