// Every accepted request ends exactly once, whatever happens at the same time.
#include <random>

#include "engine.h"

using namespace fakes;

namespace {

struct Sent {
  RequestPtr request;
  float first = 0;
  bool with_sink = false;
  int ended_early = 0;  // times that end_early() said so
};

enum class Ending { drain, at_once, in_background };

// One engine's life: callers that wait, submit, cancel and give up; a model that fails and dawdles; an end.
void live(std::uint32_t seed, Ending ending) {
  std::mt19937 seeds(seed);
  EngineOptions options;
  options.instances = 1 + static_cast<int>(seeds() % 4);
  options.inline_allowed = seeds() % 2 == 0;
  options.scheduler.max_queue_rows = seeds() % 3 == 0 ? 6 : 4096;
  options.on_run = [](float first) {
    const int kind = static_cast<int>(first) % 16;
    if (kind == 3) throw std::runtime_error("no");
    if (kind >= 12) sleep_ns(kind * 10'000);
  };
  Engine engine(options);
  auto reader = std::make_unique<Reader>(engine.dispatcher);
  std::atomic<bool> stop{false};
  constexpr std::size_t kCallers = 4;
  std::vector<std::vector<Sent>> sent(kCallers);
  std::vector<std::thread> threads;
  for (std::size_t caller = 0; caller < kCallers; ++caller) {
    threads.emplace_back([&, caller, random = std::mt19937(seeds())]() mutable {
      for (int turn = 0; turn < 20'000; ++turn) {
        Sent one;
        one.first = float(random() % 100'000);
        const auto kind = random() % 8;
        const Nanos deadline = kind < 3 ? from_now(Nanos(random() % 400) * 1000) : kNever;
        one.request = request_for(engine.ledger, one.first, 1 + std::int64_t(random() % 2), deadline);
        one.with_sink = random() % 2 == 0;
        if (one.with_sink) one.request->sink = &engine.dispatcher->completions();
        Admission admission = Admission::accepted;
        if (!one.with_sink && deadline == kNever && engine.dispatcher->run_inline(one.request)) {
          sent[caller].push_back(one);
          continue;
        }
        const bool open = engine.dispatcher->admit(one.request, admission);
        if (!open || admission != Admission::accepted) {
          CHECK(!one.request->ended());
          engine.ledger.give_back(std::exchange(one.request->input_owner, nullptr));
          if (!open) return;
          std::this_thread::yield();
          continue;
        }
        if (kind == 4 || kind == 5) {
          if (kind == 5) std::this_thread::yield();
          one.ended_early += engine.dispatcher->end_early(one.request, Outcome::cancelled);
        }
        if (!one.with_sink) {
          if (one.request->wait(deadline) != Woken::changed) {
            one.ended_early += engine.dispatcher->end_early(one.request, Outcome::expired);
            one.request->wait(kNever);
          }
          CHECK(one.request->done());
        }
        sent[caller].push_back(one);
        if (turn % 16 == 0) engine.ledger.drain(*engine.dispatcher->releases());
      }
    });
  }
  std::thread drainer([&] {
    while (!stop) engine.ledger.drain(*engine.dispatcher->releases());
  });
  sleep_ns(Nanos(1 + seeds() % 4) * kMillisecond);
  CloseReport report;
  if (ending == Ending::in_background) {
    engine.dispatcher->close_in_background();
    for (std::thread& thread : threads) thread.join();
    CHECK(eventually([&] { return engine.model->alive() == 0; }));
  } else {
    report = engine.dispatcher->close(ending == Ending::drain, from_now(10 * kNanosPerSecond));
    for (std::thread& thread : threads) thread.join();
  }
  stop = true;
  drainer.join();
  reader->join();

  CHECK_EQ(report.abandoned_instances, 0u);
  if (ending == Ending::drain) CHECK_EQ(report.ended_requests, 0u);
  std::int64_t accepted = 0;
  std::map<Outcome, std::int64_t> ends;
  for (const std::vector<Sent>& list : sent) {
    for (const Sent& one : list) {
      ++accepted;
      CHECK(one.request->done());
      if (!one.request->done()) continue;
      const Outcome outcome = one.request->outcome;
      ++ends[outcome];
      CHECK(outcome != Outcome::none);
      CHECK(one.request->input_owner == nullptr);
      if (outcome == Outcome::result) CHECK(has_result(*one.request, one.first));
      if (outcome == Outcome::error) CHECK_EQ(one.request->failure.message, "no");
      if (one.ended_early > 0) CHECK(outcome == Outcome::cancelled || outcome == Outcome::expired);
      CHECK(one.ended_early <= 1);
      CHECK_EQ(reader->delivered(one.request), int(one.with_sink));
    }
  }
  const Counters& counters = engine.dispatcher->counters();
  CHECK_EQ(counters.requests, accepted);
  CHECK_EQ(counters.results, ends[Outcome::result]);
  CHECK_EQ(counters.errors, ends[Outcome::error]);
  CHECK_EQ(counters.cancelled, ends[Outcome::cancelled]);
  CHECK_EQ(counters.expired, ends[Outcome::expired]);
  CHECK_EQ(counters.closed, ends[Outcome::closed]);
  const Load load = engine.dispatcher->load();
  CHECK_EQ(load.queued_requests, 0);
  CHECK_EQ(load.queued_rows, 0);
  CHECK_EQ(load.queued_bytes, 0u);
  CHECK_EQ(load.running_batches, 0);
  CHECK_EQ(engine.model->alive(), 0);
  engine.ledger.drain(*engine.dispatcher->releases());
  CHECK_EQ(engine.ledger.held(), 0u);
}

}  // namespace

TEST("every accepted request ends exactly once, until the engine is drained") {
  for (std::int64_t seed = 0; seed < scaled(120); ++seed) live(static_cast<std::uint32_t>(seed), Ending::drain);
}

TEST("every accepted request ends exactly once, when the engine closes at once") {
  for (std::int64_t seed = 0; seed < scaled(120); ++seed) live(static_cast<std::uint32_t>(seed), Ending::at_once);
}

TEST("every accepted request ends exactly once, when the engine is dropped") {
  for (std::int64_t seed = 0; seed < scaled(60); ++seed) live(static_cast<std::uint32_t>(seed), Ending::in_background);
}

TEST("cancelling, expiring and finishing one request at once gives it one end") {
  Engine engine({.instances = 2});
  std::int64_t ended_early = 0;
  const std::int64_t rounds = scaled(8'000);
  std::atomic<std::int64_t> turn{0};
  RequestPtr request;
  std::atomic<int> yes{0};
  std::atomic<int> ready{0};
  std::vector<std::thread> enders;
  for (int ender = 0; ender < 2; ++ender) {
    enders.emplace_back([&, ender] {
      for (std::int64_t round = 1; round <= rounds; ++round) {
        while (turn < round) std::this_thread::yield();
        yes += engine.dispatcher->end_early(request, ender == 0 ? Outcome::cancelled : Outcome::expired);
        ++ready;
      }
    });
  }
  for (std::int64_t round = 1; round <= rounds; ++round) {
    request = request_for(engine.ledger, float(round % 1000));
    yes = 0;
    ready = 0;
    engine.submit(request);
    turn = round;
    request->wait(kNever);
    while (ready < 2) std::this_thread::yield();
    CHECK(yes <= 1);
    CHECK_EQ(request->outcome == Outcome::result, yes == 0);
    ended_early += yes;
    if (round % 64 == 0) engine.ledger.drain(*engine.dispatcher->releases());
  }
  for (std::thread& ender : enders) ender.join();
  const Counters& counters = engine.dispatcher->counters();
  CHECK_EQ(counters.cancelled + counters.expired, ended_early);
  CHECK_EQ(counters.results + ended_early, rounds);
}
