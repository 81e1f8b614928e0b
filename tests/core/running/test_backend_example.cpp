// An example of a backend: three methods, a factory, and requests that run on it.
//
// input() gives the memory for a batch's rows of one input, run() computes, output() shows the result. The core gathers
// the rows of several requests into that memory, and copies each request's rows of the outputs out again.
#include <memory>
#include <vector>

#include "ledger.h"
#include "running/dispatcher.h"

using namespace harness;
using namespace fakes;

namespace {

// A model of one input and one output of the same shape: twice the input.
class DoublingBackend final : public Backend {
 public:
  void* input(std::size_t, DType dtype, const Shape& shape) override {
    dtype_ = dtype;
    shape_ = shape;
    numbers_.resize(std::size_t(shape.elements()));
    return numbers_.data();
  }

  void run() override {
    for (float& number : numbers_) number *= 2;
  }

  TensorView output(std::size_t) override { return {dtype_, shape_, numbers_.data()}; }

 private:
  DType dtype_ = DType::float32;
  Shape shape_;
  std::vector<float> numbers_;
};

}  // namespace

TEST("a backend of three methods serves requests") {
  DispatcherOptions options;
  options.outputs = {"doubled"};
  const auto dispatcher = std::make_shared<Dispatcher>(options);
  // The factory is called on the instance's own thread, where its backend lives and dies.
  dispatcher->start_instance(/*root=*/true, [] { return std::make_unique<DoublingBackend>(); });

  Ledger ledger;
  std::vector<RequestPtr> requests = {request_for(ledger, 1), request_for(ledger, 5), request_for(ledger, 9)};
  std::vector<Admission> admissions;
  CHECK(dispatcher->admit(requests, admissions));
  for (const RequestPtr& request : requests) {
    while (!request->done()) request->wait(kNever);
    CHECK_EQ(request->outcome, Outcome::result);
  }
  CHECK_EQ(floats(requests[0]->outputs[0])[0], 2);
  CHECK_EQ(floats(requests[2]->outputs[0])[0], 18);

  dispatcher->close(/*drain=*/true, kNever);
  ledger.drain(*dispatcher->releases());
  CHECK_EQ(ledger.held(), 0u);
}
