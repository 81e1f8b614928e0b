// Memory that runs out in the middle: for each allocation over a request's life, in every way of running, it fails, and
// still each request ends once, the instance is free again, and nothing is lost or left.
#include "allocations.h"
#include "engine.h"
#include "paddle/fall_back.h"

using namespace fakes;

namespace {

constexpr std::uint32_t kOneNumber = 2;  // the output that is one, however many rows run

constexpr const char* kNotHere = "(Unimplemented) not here";  // on the first way, where there is another

// Whether it can have ended so where memory ran out.
bool ended_properly(const Request& request, float first) {
  if (!request.done()) return false;
  if (request.outcome == Outcome::result && request.wanted[0] == kOneNumber) {
    return request.outputs[0].shape.dims[0] == 1 && floats(request.outputs[0])[0] == first + 1;
  }
  if (request.outcome == Outcome::result) return has_result(request, first);
  return request.outcome != Outcome::error || request.failure.message == "out of memory" ||
         request.failure.message == kNotHere;
}

// One engine and what its callers do, of which all is to end.
class Callers {
 public:
  explicit Callers(const EngineOptions& options) : engine(options), reader_(engine.dispatcher) {}

  // Queues requests together, as far as there is memory.
  void admit(const std::vector<RequestPtr>& requests, float first, float step) {
    std::vector<Admission> admissions;
    bool open = false;
    try {
      const MayLackMemory here;
      open = engine.dispatcher->admit(requests, admissions);
    } catch (const std::bad_alloc&) {
      admissions.assign(requests.size(), Admission::out_of_memory);
    }
    for (std::size_t place = 0; place < requests.size(); ++place) {
      if (open && Dispatcher::is_admitted(admissions[place])) {
        accepted_.push_back({requests[place], first + step * float(place)});
      } else {
        CHECK_EQ(admissions[place], Admission::out_of_memory);
        CHECK(!requests[place]->ended());
        engine.ledger.take_back(*requests[place]);
      }
    }
  }
  void admit(float first, std::int64_t rows = 1, Nanos deadline = kNever, bool to_reader = false) {
    const RequestPtr request = request_for(engine.ledger, first, rows, deadline);
    if (to_reader) request->completion_queue = engine.dispatcher->completions();
    admit(std::vector<RequestPtr>{request}, first, 0);
  }
  void run_inline_or_queue(float first) {
    const RequestPtr request = request_for(engine.ledger, first);
    bool ran = false;
    {
      const MayLackMemory here;
      ran = engine.dispatcher->run_inline(request);
    }
    if (!ran) return admit({request}, first, 0);
    CHECK(request->done());
    accepted_.push_back({request, first});
  }
  void order(float first) {
    const RequestPtr request = request_for(engine.ledger, first);
    ordered_.push_back({request, first});
    try {
      const MayLackMemory here;
      REQUIRE(engine.dispatcher->warmup(request, 0));
    } catch (const std::bad_alloc&) {
      engine.ledger.take_back(*request);
      ordered_.pop_back();
    }
  }
  void cancel() {
    const MayLackMemory here;
    for (const auto& [request, first] : accepted_) engine.end_early(request, Outcome::cancelled);
  }
  void await_all() {
    for (const auto& [request, first] : accepted_) engine.await(request);
    for (const auto& [request, first] : ordered_) engine.await(request);
  }

  // With memory again: all is over, once, and the engine works.
  void check() {
    await_all();
    std::size_t of_reader = 0;
    for (const auto& [request, first] : accepted_) {
      CHECK(ended_properly(*request, first));
      if (reader_.delivered(request) > 0) ++of_reader;
    }
    for (const auto& [request, first] : ordered_) CHECK(ended_properly(*request, first));
    if (!closed) {
      CHECK(has_result(*engine.call(7), 7));
      CHECK(eventually([&] { return engine.snapshot().running_batches == 0; }));
      CHECK_EQ(engine.snapshot().queued_requests, 0);
      CHECK_EQ(engine.snapshot().queued_rows, 0);
      CHECK_EQ(engine.snapshot().queued_bytes, 0u);
      CHECK_EQ(engine.snapshot().waiting_for_room, 0);
      CHECK_EQ(engine.close(true, from_now(kPatience)).abandoned_instances, 0u);
    }
    reader_.join();
    CHECK_EQ(reader_.requests(), expected_of_reader < 0 ? of_reader : std::size_t(expected_of_reader));
    const Counters& counters = engine.counters();
    CHECK_EQ(
        counters.results + counters.errors + counters.cancelled + counters.expired + counters.shed + counters.closed,
        counters.requests);
    engine.drain();
    CHECK_EQ(engine.ledger.held(), 0u);
    CHECK_EQ(engine.dispatcher->releases()->promised(), 0);
    CHECK_EQ(engine.model->alive(), 0);
  }

  std::size_t accepted() const { return accepted_.size(); }

  Engine engine;
  bool closed = false;
  int expected_of_reader = -1;

 private:
  Reader reader_;
  std::vector<std::pair<RequestPtr, float>> accepted_;
  std::vector<std::pair<RequestPtr, float>> ordered_;
};

// `prepare` with memory, then `live` without the n-th allocation, for each n until there is none; then alone and with
// some after it.
template <typename Prepare, typename Live>
void without_each_allocation(const EngineOptions& options, Prepare&& prepare, Live&& live) {
  std::int64_t most = 0;
  for (const std::int64_t several : {0, 3, 12}) {
    for (std::int64_t nth = 1;; ++nth) {
      Callers callers(options);
      prepare(callers);
      LackOfMemory lack(nth, several);
      live(callers);
      callers.await_all();
      const bool struck = lack.end();
      callers.check();
      if (!struck) break;
      most = std::max(most, nth);
      REQUIRE(nth < 2'000);
    }
  }
  CHECK(most > 3);  // there was something to fail
}

const auto nothing = [](Callers&) {};

EngineOptions of(Merging merging, int instances = 1) {
  EngineOptions options;
  options.instances = instances;
  options.scheduler.merging = merging;
  options.scheduler.policy = Policy::eager;
  options.verify_every = 0;
  return options;
}

// So that several requests are there before one runs.
struct Held {
  std::shared_ptr<Gate> gate = std::make_shared<Gate>();

  void stand() const {
    const std::shared_ptr<Gate> present = gate;  // the next one may be there before this thread is through
    present->pass();
  }
  void open_and_renew() {
    gate->open();
    gate = std::make_shared<Gate>();
  }

  // The run of the first request stands.
  std::function<void(float)> on_run() {
    return [this](float first) {
      if (first == 0) stand();
    };
  }
  // What comes next waits behind that run.
  auto behind_one() {
    return [this](Callers& callers) {
      callers.admit(0);
      REQUIRE(gate->await(1));
    };
  }
};

}  // namespace

TEST("without memory a request on an instance's thread ends all the same") {
  without_each_allocation(of(Merging::yes), nothing, [](Callers& callers) { callers.admit(1, 3); });
}

TEST("without memory a request of a reader is delivered once, with and without a deadline") {
  for (const Nanos left : {kNever, 10 * kNanosPerSecond}) {
    without_each_allocation(of(Merging::yes), nothing, [left](Callers& callers) {
      callers.admit(1, 2, left == kNever ? kNever : from_now(left), /*to_reader=*/true);
      callers.expected_of_reader = int(callers.accepted());
    });
  }
}

TEST("without memory a request on its caller's thread leaves its instance free") {
  EngineOptions options = of(Merging::yes);
  options.scheduler.policy = Policy::adaptive;
  options.inline_allowed = true;
  without_each_allocation(
      options, [](Callers& callers) { callers.engine.warm_up(); },
      [](Callers& callers) { callers.run_inline_or_queue(1); });
}

TEST("without memory a request in parts ends once") {
  EngineOptions options = of(Merging::yes, /*instances=*/2);
  options.scheduler.max_batch_size = 4;
  without_each_allocation(options, nothing, [](Callers& callers) { callers.admit(1, 30); });
}

TEST("without memory requests that share a run each end once, also where some fail or may not be merged") {
  for (const Merging merging : {Merging::yes, Merging::probe, Merging::no}) {
    for (const float bad : {-1.0f, 3.0f}) {
      Held held;
      EngineOptions options = of(merging);
      options.on_rows = [&](const std::vector<float>& rows) {
        if (rows[0] == 0) held.stand();
        if (std::find(rows.begin(), rows.end(), bad) != rows.end()) throw std::bad_alloc();
      };
      without_each_allocation(options, held.behind_one(), [&](Callers& callers) {
        std::vector<RequestPtr> requests;
        for (int place = 0; place < 6; ++place)
          requests.push_back(request_for(callers.engine.ledger, float(1 + place)));
        callers.admit(requests, 1, 1);
        held.open_and_renew();
      });
    }
  }
}

TEST("without memory a large request that is to be probed ends once") {
  EngineOptions options = of(Merging::probe);
  options.scheduler.max_batch_size = 4;
  without_each_allocation(options, nothing, [](Callers& callers) { callers.admit(1, 12); });
}

TEST("without memory requests whose rows turn out to differ get their own results or fail") {
  Held held;
  EngineOptions options = of(Merging::yes);
  options.outputs = {"plus_one", "row_numbers", "one"};
  options.scheduler.max_batch_size = 8;
  options.on_run = held.on_run();
  without_each_allocation(options, held.behind_one(), [&](Callers& callers) {
    std::vector<RequestPtr> requests;
    for (int place = 0; place < 4; ++place) {
      requests.push_back(request_for(callers.engine.ledger, float(1 + place)));
      requests.back()->wanted = {kOneNumber};
    }
    callers.admit(requests, 1, 1);
    held.open_and_renew();
  });
}

TEST("without memory a verification leaves the instance free") {
  EngineOptions options = of(Merging::probe);
  options.verify_every = 1;
  without_each_allocation(options, nothing, [](Callers& callers) {
    callers.engine.dispatcher->set_batchable(true, "");
    std::vector<RequestPtr> requests;
    for (int place = 0; place < 4; ++place) requests.push_back(request_for(callers.engine.ledger, float(place)));
    callers.admit(requests, 0, 1);
    callers.await_all();
    const Counters& counters = callers.engine.counters();
    CHECK(
        eventually([&] { return counters.internal_runs > 0 || LackOfMemory::has_struck() || callers.accepted() < 2; }));
  });
}

TEST("without memory an order to one instance ends all the same") {
  without_each_allocation(of(Merging::yes), nothing, [](Callers& callers) { callers.order(1); });
}

TEST("without memory requests at the admission queue come in or are refused") {
  EngineOptions options = of(Merging::yes);
  options.scheduler.max_queue_rows = 2;
  without_each_allocation(options, nothing, [](Callers& callers) {
    std::vector<RequestPtr> requests;
    for (int place = 0; place < 6; ++place) {
      requests.push_back(request_for(callers.engine.ledger, float(place)));
      requests.back()->waits_for_room = true;
    }
    callers.admit(requests, 0, 1);
  });
}

TEST("without memory what is cancelled, expired or closed ends all the same") {
  for (const int kind : {0, 1, 2}) {
    Held held;
    EngineOptions options = of(Merging::yes);
    options.scheduler.max_batch_size = 4;
    options.on_run = held.on_run();
    without_each_allocation(options, held.behind_one(), [&](Callers& callers) {
      for (int place = 0; place < 4; ++place) {
        callers.admit(float(1 + place), 1 + 5 * place, kind == 1 ? from_now(1) : kNever);
      }
      if (kind == 0) callers.cancel();
      std::thread closer;
      if (kind == 2) {
        closer = std::thread([&] {
          const MayLackMemory here;
          CHECK_EQ(callers.engine.close(false, from_now(kPatience)).abandoned_instances, 0u);
        });
        callers.closed = true;
      }
      held.open_and_renew();
      if (closer.joinable()) closer.join();
    });
  }
}

TEST("without memory an instance starts or does not, and leaves nothing to wait for") {
  for (std::int64_t nth = 1;; ++nth) {
    Engine engine({});
    LackOfMemory lack(nth, 0);
    try {
      const MayLackMemory here;
      engine.start(false);
    } catch (const std::bad_alloc&) {
    }
    const bool struck = lack.end();
    CHECK(has_result(*engine.call(1), 1));
    CHECK_EQ(engine.close(true, from_now(kPatience)).abandoned_instances, 0u);
    CHECK_EQ(engine.model->alive(), 0);
    if (!struck) break;
  }
}

TEST("without memory a run falls back, or its request fails, and the next one runs") {
  const auto limited = [](const std::shared_ptr<FakeModel>& model) { return std::make_unique<FakeBackend>(model, 0); };
  for (std::int64_t nth = 1;; ++nth) {
    const auto other = std::make_shared<FakeModel>();
    const auto shared = std::make_shared<paddle::FallBack>(true);
    EngineOptions options = of(Merging::yes);
    options.instances = 0;
    options.on_run = [](float first) {
      if (first == 1) throw std::runtime_error(kNotHere);
    };
    Callers callers(options);
    callers.engine.dispatcher->start_instance(true, [&]() -> std::unique_ptr<Backend> {
      return std::make_unique<paddle::FallBackBackend>([&] { return limited(callers.engine.model); },
                                                       [&] { return limited(other); }, shared, true);
    });
    LackOfMemory lack(nth, 0);
    callers.admit(1, 2);
    callers.await_all();
    const bool struck = lack.end();
    CHECK(has_result(*callers.engine.call(1), 1));
    CHECK(shared->in_force());
    callers.check();
    if (!struck) break;
  }
}
