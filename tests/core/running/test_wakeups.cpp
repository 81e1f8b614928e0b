// A lost wake-up shows as a test that never ends.
#include "engine.h"

using namespace fakes;

namespace {

// Calls from so many threads, each waiting for its result before it calls again.
void ping_pong(int instances, int callers, std::int64_t calls, const SchedulerOptions& scheduler = {}) {
  Engine engine({.instances = instances, .scheduler = scheduler});
  engine.model->keeps_batches = false;
  std::vector<std::thread> threads;
  std::atomic<std::int64_t> left{calls};
  for (int caller = 0; caller < callers; ++caller) {
    threads.emplace_back([&] {
      for (std::int64_t turn = 0; left.fetch_sub(1) > 0; ++turn) {
        const float first = float(turn % 1000);
        const RequestPtr request = turn % 2 == 0 ? engine.call(first) : engine.call_spinning(first);
        if (!has_result(*request, first)) CHECK(!"a call got its result");
        if (turn % 64 == 0) engine.drain();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(engine.counters().results, calls);
}

}  // namespace

TEST("no wake-up is lost: one caller, one instance") { ping_pong(1, 1, scaled(30'000)); }
TEST("no wake-up is lost: one caller, many instances") { ping_pong(8, 1, scaled(30'000)); }
TEST("no wake-up is lost: as many callers as instances") {
  for (const int count : {2, 3, 4}) ping_pong(count, count, scaled(100'000));
}
TEST("no wake-up is lost: more callers than instances") {
  ping_pong(1, 4, scaled(100'000));
  ping_pong(2, 8, scaled(100'000));
  ping_pong(3, 16, scaled(100'000));
}
TEST("no wake-up is lost where short runs keep one instance busy") {
  SchedulerOptions scheduler;
  scheduler.short_run_instances = 1;
  ping_pong(2, 4, scaled(100'000), scheduler);
  ping_pong(3, 16, scaled(100'000), scheduler);
}
TEST("no wake-up is lost: fewer callers than instances") { ping_pong(6, 3, scaled(100'000)); }

TEST("no wake-up is lost among callers of one batch, though some of them time out") {
  constexpr int kCallers = 10;
  const std::int64_t each = scaled(6'000);
  EngineOptions options;
  options.instances = 2;
  options.scheduler.policy = Policy::eager;  // which refuses nobody for the deadline
  Engine engine(options);
  engine.model->keeps_batches = false;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&, caller] {
      for (std::int64_t turn = 0; turn < each; ++turn) {
        const float first = float(turn % 1000);
        const bool hurried = (turn + caller) % 4 == 0;
        const RequestPtr request = engine.call(first, hurried ? from_now(turn % 50 * 2'000) : kNever);
        CHECK(has_result(*request, first) || (hurried && request->outcome == Outcome::expired));
        if (turn % 64 == 0) engine.drain();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  const Counters& counters = engine.counters();
  CHECK_EQ(counters.results + counters.expired, kCallers * each);
}

TEST("no wake-up is lost when requests come in bursts") {
  const std::int64_t bursts = scaled(1'500);
  for (const int instances : {1, 2, 4}) {
    Engine engine({.instances = instances});
    for (std::int64_t burst = 0; burst < bursts; ++burst) {
      std::vector<RequestPtr> requests;
      for (int place = 0; place < 1 + burst % 13; ++place) requests.push_back(engine.submit(float(place)));
      for (const RequestPtr& request : requests) request->wait(kNever);
      engine.drain();
    }
  }
}

TEST("no wake-up is lost between submitters and the reader") {
  const std::int64_t calls = scaled(100'000);
  Engine engine({.instances = 2});
  Reader reader(engine.dispatcher);
  std::vector<std::thread> submitters;
  for (int submitter = 0; submitter < 2; ++submitter) {
    submitters.emplace_back([&] {
      for (std::int64_t turn = 0; turn < calls / 2; ++turn) {
        const Nanos deadline = turn % 2 == 0 ? kNever : from_now(3600 * kNanosPerSecond);
        const RequestPtr request = request_for(engine.ledger, float(turn % 1000), 1, deadline);
        request->completion_queue = engine.dispatcher->completions();
        Admission admission = Admission::too_many_rows;
        while (engine.dispatcher->admit(request, admission) && admission != Admission::accepted) sleep_ns(20'000);
        if (turn % 64 == 0) engine.drain();
      }
    });
  }
  for (std::thread& submitter : submitters) submitter.join();
  const auto expected = static_cast<std::size_t>(calls / 2 * 2);
  CHECK(eventually([&] { return reader.requests() == expected; }));
  engine.close(true, kNever);
  reader.join();
  CHECK_EQ(reader.requests(), expected);
}
