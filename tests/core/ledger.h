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
#include "requests/request.h"
#include "scheduling/scheduler.h"

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
  ~Ledger();
  Owner* make(std::vector<float> numbers);
  void give_back(void* object);
  // As for a request that was refused. False when its inputs were not its caller's any more.
  bool take_back(Request& request);
  // What native threads have done with.
  void drain(ReleaseList& releases);
  std::size_t held() const;

 private:
  mutable std::mutex mu_;
  std::set<Owner*> held_;  // guarded by mu_
};

inline RequestChain chain_of(const std::vector<RequestPtr>& requests) {
  RequestChain chain;
  for (const RequestPtr& request : requests) chain.push(request);
  return chain;
}

// A request of `rows` rows of `width` numbers: first, first..., first + 1, first + 1...
RequestPtr request_for(Ledger& ledger, float first, std::int64_t rows = 1, Nanos deadline = kNever,
                       std::int64_t width = 2);

// The same with a key for the cache: that of all with the same numbers and outputs.
RequestPtr keyed(RequestPtr request);

inline const float* floats(const OwnedTensor& tensor) { return static_cast<const float*>(tensor.data.get()); }

// Whether an array holds the rows that request_for() asks for, all of them and in order.
bool holds_result(const OwnedTensor& tensor, float first, std::int64_t rows);

// Whether it ended with the result that its inputs ask for.
bool has_result(const Request& request, float first);

}  // namespace fakes

namespace paddleinfer {
inline std::ostream& operator<<(std::ostream& out, Outcome outcome) { return out << "outcome " << int(outcome); }
inline std::ostream& operator<<(std::ostream& out, Woken woken) { return out << "woken " << int(woken); }
inline std::ostream& operator<<(std::ostream& out, Admission admission) {
  return out << "admission " << int(admission);
}
inline std::ostream& operator<<(std::ostream& out, Merging merging) { return out << "merging " << int(merging); }
inline std::ostream& operator<<(std::ostream& out, DispatchReason reason) { return out << "reason " << int(reason); }
inline std::ostream& operator<<(std::ostream& out, Request::State state) { return out << "state " << int(state); }
}  // namespace paddleinfer
