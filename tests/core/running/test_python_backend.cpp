// The backend of a Python callable, with C++ in Python's place. Objects are pointers to counters.
#include "engine.h"
#include "running/python_backend.h"

using namespace fakes;

namespace {

struct Object {
  int references = 1;
};

struct Python {
  std::shared_ptr<InterpreterGate> gate = std::make_shared<InterpreterGate>();
  std::vector<std::thread::id> opened;
  std::vector<std::thread::id> closed;
  std::vector<Object*> made;  // what was handed out with a reference
  int calls = 0;
  bool fail_open = false;
  bool fail_call = false;
  std::vector<float> numbers;
} python;

Object* new_object() {
  python.made.push_back(new Object);
  return python.made.back();
}

void fake_open(void* context, std::size_t, void** model, CallResult* result) {
  python.gate->entered();
  CHECK(static_cast<Object*>(context)->references > 0);
  python.opened.push_back(std::this_thread::get_id());
  if (python.fail_open) {
    result->exception = new_object();
    result->message = "ImportError: no";
    return;
  }
  *model = new_object();
}

void fake_call(void* model, std::vector<OwnedInput>* inputs, CallResult* result) {
  python.gate->entered();
  CHECK(static_cast<Object*>(model)->references > 0);
  ++python.calls;
  const Memory taken = std::move(inputs->at(0).memory);
  if (python.fail_call) {
    result->exception = new_object();
    result->message = "ValueError: no";
    return;
  }
  const auto* given = static_cast<const float*>(taken.get());
  const auto count = static_cast<std::size_t>(inputs->at(0).shape.elements());
  python.numbers.assign(given, given + count);
  for (float& number : python.numbers) ++number;
  result->outputs.push_back({DType::float32, inputs->at(0).shape, python.numbers.data()});
  result->owner = new_object();
}

void fake_close(void* model) {
  python.gate->entered();
  python.closed.push_back(std::this_thread::get_id());
  --static_cast<Object*>(model)->references;
}

// One instance over the functions above.
struct PythonEngine {
  PythonEngine() { python = Python{}; }
  ~PythonEngine() {
    dispatcher->close(true, kNever);
    drain();
    for (const Object* object : python.made) {
      CHECK_EQ(object->references, 0);
      delete object;
    }
    CHECK_EQ(ledger.held(), 0u);
  }

  void start() {
    Object* context = new_object();
    const std::shared_ptr<ReleaseList> releases = dispatcher->releases();
    const std::shared_ptr<void> shared(context, [releases](void* object) { releases->push(object); });
    dispatcher->start_instance(true, [=]() -> std::unique_ptr<Backend> {
      return std::make_unique<PythonBackend>(PythonFunctions{fake_open, fake_call, fake_close, python.gate.get()},
                                             shared, 0, releases);
    });
  }
  RequestPtr call(float first) {
    RequestPtr request = request_for(ledger, first);
    Admission admission = Admission::accepted;
    CHECK(dispatcher->admit(request, admission));
    request->wait(kNever);
    return request;
  }
  // Objects and inputs come through one list.
  void drain() {
    for (void* object : dispatcher->releases()->take()) {
      const auto found = std::find(python.made.begin(), python.made.end(), object);
      if (found == python.made.end()) {
        ledger.give_back(object);
      } else {
        --(*found)->references;
      }
    }
  }

  Ledger ledger;
  const std::shared_ptr<Dispatcher> dispatcher = std::make_shared<Dispatcher>(DispatcherOptions{});
};

}  // namespace

TEST("a callable is opened, called and closed on its instance's thread, and all its objects come back") {
  PythonEngine engine;
  engine.start();
  for (int turn = 0; turn < 10; ++turn) CHECK(has_result(*engine.call(float(turn)), float(turn)));
  engine.dispatcher->close(true, kNever);
  CHECK_EQ(python.calls, 10);
  CHECK_EQ(python.opened.size(), 1u);
  CHECK(python.opened == python.closed);
  CHECK(python.opened[0] != std::this_thread::get_id());
}

TEST("an exception of the callable reaches the request, and is given back with it") {
  PythonEngine engine;
  engine.start();
  python.fail_call = true;
  RequestPtr request = engine.call(1);
  CHECK_EQ(request->outcome, Outcome::error);
  CHECK_EQ(request->failure.message, "ValueError: no");
  const auto* exception = static_cast<const Object*>(request->failure.exception.get());
  REQUIRE(exception != nullptr);
  engine.drain();
  CHECK_EQ(exception->references, 1);
  request.reset();
  CHECK(eventually([&] {  // the instance's thread holds the request a little longer
    engine.drain();
    return exception->references == 0;
  }));
  python.fail_call = false;
  CHECK(has_result(*engine.call(2), 2));
}

TEST("a callable that cannot be opened fails the start, and is never closed") {
  PythonEngine engine;
  python.fail_open = true;
  std::string message;
  try {
    engine.start();
  } catch (const PythonFailure& failure) {
    message = failure.what();
  }
  CHECK_EQ(message, "ImportError: no");
  engine.dispatcher->close(true, kNever);
  CHECK(python.closed.empty());
}

TEST("once the interpreter ends, no thread calls into it") {
  PythonEngine engine;
  engine.start();
  CHECK(has_result(*engine.call(1), 1));
  python.gate->close();
  const RequestPtr request = engine.call(2);
  CHECK_EQ(request->outcome, Outcome::error);
  CHECK_EQ(request->failure.message, "the interpreter is ending");
  engine.dispatcher->close(true, kNever);
  CHECK_EQ(python.calls, 1);
  CHECK(python.closed.empty());
  engine.drain();
  int left = 0;
  for (Object* object : python.made) left += std::exchange(object->references, 0);
  CHECK_EQ(left, 1);  // the model itself, which ends with the interpreter
}
