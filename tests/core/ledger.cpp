#include "ledger.h"

#include <cstring>
#include <functional>
#include <string>

namespace fakes {

Ledger::~Ledger() {
  for (Owner* owner : held_) delete owner;
}

Owner* Ledger::make(std::vector<float> numbers) {
  auto* owner = new Owner{std::move(numbers)};
  const std::lock_guard<std::mutex> lock(mu_);
  held_.insert(owner);
  return owner;
}

void Ledger::give_back(void* object) {
  const std::lock_guard<std::mutex> lock(mu_);
  auto* owner = static_cast<Owner*>(object);
  CHECK_EQ(held_.erase(owner), 1u);  // else it came back twice
  delete owner;
}

bool Ledger::take_back(Request& request) {
  void* owner = request.take_inputs_back();
  if (owner != nullptr) give_back(owner);
  return owner != nullptr;
}

void Ledger::drain(ReleaseList& releases) {
  for (void* object : releases.take()) give_back(object);
}

std::size_t Ledger::held() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return held_.size();
}

RequestPtr request_for(Ledger& ledger, float first, std::int64_t rows, Nanos deadline, std::int64_t width) {
  std::vector<float> numbers(static_cast<std::size_t>(rows * width));
  for (std::size_t place = 0; place < numbers.size(); ++place) {
    numbers[place] = first + float(place / std::size_t(width));
  }
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

RequestPtr keyed(RequestPtr request) {
  std::string text = described(request->inputs, request->wanted);
  for (const TensorView& input : request->inputs) text.append(static_cast<const char*>(input.data), input.bytes());
  const std::size_t hash = std::hash<std::string>()(text);
  request->cache_use = std::make_unique<CacheUse>();
  std::memcpy(request->cache_use->key.data(), &hash, sizeof hash);
  return request;
}

bool holds_result(const OwnedTensor& tensor, float first, std::int64_t rows) {
  if (tensor.dtype != DType::float32 || tensor.shape.rank != 2 || tensor.shape.dims[0] != rows) return false;
  const std::int64_t width = tensor.shape.dims[1];
  for (std::int64_t place = 0; place < rows * width; ++place) {
    if (floats(tensor)[place] != first + float(place / width) + 1) return false;
  }
  return true;
}

bool has_result(const Request& request, float first) {
  if (!request.done() || request.outcome != Outcome::result || request.outputs.size() != 1) return false;
  return holds_result(request.outputs[0], first, request.rows);
}

}  // namespace fakes
