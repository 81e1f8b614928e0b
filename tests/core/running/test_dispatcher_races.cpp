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

bool is_culprit(float row) { return static_cast<int>(row) % 16 == 3; }

EngineOptions random_engine(std::mt19937& random) {
  EngineOptions options;
  options.instances = 1 + static_cast<int>(random() % 4);
  options.inline_allowed = random() % 2 == 0;
  options.scheduler.max_queue_rows = random() % 3 == 0 ? 6 : 4096;
  options.scheduler.max_batch_size = 1 + random() % 8;
  const Merging kinds[] = {Merging::yes, Merging::yes, Merging::probe, Merging::no};
  options.scheduler.merging = kinds[random() % 4];
  if (random() % 3 == 0) options.scheduler.max_delay = random() % 100'000;
  if (random() % 2 == 0) options.cache_bytes = random() % 2 == 0 ? 2'000 : 1'000'000;
  options.outputs = {"plus_one", "row_numbers", "one"};
  if (random() % 2 == 0) options.outputs.resize(1);  // else a probe finds that rows differ
  options.on_rows = [](const std::vector<float>& rows) {
    if (std::any_of(rows.begin(), rows.end(), is_culprit)) throw std::runtime_error("no");
    const int kind = static_cast<int>(rows[0]) % 16;
    if (kind >= 12) sleep_ns(kind * 10'000);
  };
  return options;
}

// One engine's life: callers that wait, submit, cancel and give up; a model that fails and dawdles; an end.
class EngineLife {
 public:
  EngineLife(std::uint32_t seed, Ending ending)
      : random_(seed), options_(random_engine(random_)), engine_(options_), ending_(ending) {
    engine_.model->keeps_batches = false;
    for (std::vector<Sent>& sent : sent_) {
      callers_.emplace_back([this, &sent, random = std::mt19937(random_())]() mutable {
        for (int turn = 0; turn < 20'000 && call(random, sent, turn); ++turn) {
        }
      });
    }
    std::thread drainer([this] {
      while (!stop_) engine_.drain();
    });
    sleep_ns(Nanos(1 + random_() % 4) * kMillisecond);
    end();
    stop_ = true;
    drainer.join();
    reader_.join();
    check();
  }

 private:
  // False once the engine is closed.
  bool call(std::mt19937& random, std::vector<Sent>& sent, int turn) {
    Dispatcher& dispatcher = *engine_.dispatcher;
    Sent one;
    one.first = float(random() % (options_.cache_bytes > 0 ? 64 : 100'000));
    const auto kind = random() % 8;
    const Nanos deadline = kind < 3 ? from_now(Nanos(random() % 400) * 1000) : kNever;
    const std::int64_t rows = random() % 8 == 0 ? 1 + random() % 30 : 1 + random() % 2;
    one.request = request_for(engine_.ledger, one.first, rows, deadline, /*width=*/2 + random() % 2);
    if (options_.cache_bytes > 0) one.request = keyed(std::move(one.request));
    one.request->waits_for_room = random() % 4 == 0;
    one.with_sink = random() % 2 == 0;
    if (one.with_sink) one.request->completion_queue = dispatcher.completions();
    if (!one.with_sink && deadline == kNever && dispatcher.run_inline(one.request)) {
      sent.push_back(one);
      return true;
    }
    Admission admission = Admission::accepted;
    const bool open = dispatcher.admit(one.request, admission);
    if (!open || !Dispatcher::is_admitted(admission)) {
      CHECK(!one.request->ended());
      CHECK(engine_.ledger.take_back(*one.request));
      std::this_thread::yield();
      return open;
    }
    if (kind == 4 || kind == 5) {
      if (kind == 5) std::this_thread::yield();
      one.ended_early += dispatcher.end_early(one.request, Outcome::cancelled);
    }
    if (one.request->waits_for_room && kind != 6) dispatcher.wait_for_room(*one.request, deadline);
    if (!one.with_sink) {
      if (one.request->wait(deadline) != Woken::changed) {
        one.ended_early += dispatcher.end_early(one.request, Outcome::expired);
        one.request->wait(kNever);
      }
      CHECK(one.request->done());
    }
    sent.push_back(one);
    if (turn % 16 == 0) engine_.drain();
    return true;
  }

  void end() {
    CloseReport report;
    if (ending_ == Ending::in_background) {
      engine_.dispatcher->close_in_background();
      for (std::thread& caller : callers_) caller.join();
      CHECK(eventually([&] { return engine_.model->alive() == 0; }));
    } else {
      report = engine_.close(ending_ == Ending::drain, from_now(kPatience));
      for (std::thread& caller : callers_) caller.join();
    }
    CHECK_EQ(report.abandoned_instances, 0u);
    if (ending_ == Ending::drain) CHECK_EQ(report.ended_requests, 0u);
  }

  void check() {
    std::int64_t accepted = 0;
    std::map<Outcome, std::int64_t> ends;
    for (const std::vector<Sent>& sent : sent_) {
      for (const Sent& one : sent) {
        ++accepted;
        CHECK(one.request->done());
        if (!one.request->done()) continue;
        ++ends[one.request->outcome];
        check_end(one);
      }
    }
    const Counters& counters = engine_.counters();
    CHECK_EQ(counters.requests, accepted);
    CHECK_EQ(counters.results, ends[Outcome::result]);
    CHECK_EQ(counters.errors, ends[Outcome::error]);
    CHECK_EQ(counters.cancelled, ends[Outcome::cancelled]);
    CHECK_EQ(counters.expired, ends[Outcome::expired]);
    CHECK_EQ(counters.shed, ends[Outcome::shed]);
    CHECK_EQ(counters.closed, ends[Outcome::closed]);
    if (ending_ == Ending::drain) CHECK_EQ(counters.closed, 0);
    if (options_.cache_bytes > 0) {
      const std::int64_t ran = counters.cache_misses;
      CHECK(counters.cache_hits + counters.cache_coalesced <= counters.results);
      CHECK(ran + counters.cache_hits + counters.cache_coalesced <= accepted);
    }
    const EngineSnapshot load = engine_.snapshot();
    CHECK_EQ(load.queued_requests, 0);
    CHECK_EQ(load.queued_rows, 0);
    CHECK_EQ(load.queued_bytes, 0u);
    CHECK_EQ(load.waiting_for_room, 0);
    CHECK_EQ(load.running_batches, 0);
    CHECK_EQ(engine_.model->alive(), 0);
    engine_.drain();
    CHECK_EQ(engine_.ledger.held(), 0u);
  }

  // It got what its own rows ask for, whoever shared its batch.
  void check_end(const Sent& one) {
    const Outcome outcome = one.request->outcome;
    CHECK(outcome != Outcome::none);
    CHECK(one.request->take_inputs_back() == nullptr);
    bool culprit = false;
    for (std::int64_t row = 0; row < one.request->rows; ++row) culprit = culprit || is_culprit(one.first + float(row));
    if (outcome == Outcome::result) CHECK(!culprit && has_result(*one.request, one.first));
    if (outcome == Outcome::error) CHECK(culprit && one.request->failure.message == "no");
    if (one.ended_early > 0) CHECK(outcome == Outcome::cancelled || outcome == Outcome::expired);
    CHECK(one.ended_early <= 1);
    CHECK_EQ(reader_.delivered(one.request), int(one.with_sink));
  }

  std::mt19937 random_;
  const EngineOptions options_;
  Engine engine_;
  Reader reader_{engine_.dispatcher};
  const Ending ending_;
  std::atomic<bool> stop_{false};
  std::vector<std::vector<Sent>> sent_ = std::vector<std::vector<Sent>>(4);
  std::vector<std::thread> callers_;
};

}  // namespace

TEST("every accepted request ends exactly once, until the engine is drained") {
  for (std::int64_t seed = 0; seed < scaled(120); ++seed) EngineLife(static_cast<std::uint32_t>(seed), Ending::drain);
}

TEST("every accepted request ends exactly once, when the engine closes at once") {
  for (std::int64_t seed = 0; seed < scaled(120); ++seed) EngineLife(static_cast<std::uint32_t>(seed), Ending::at_once);
}

TEST("every accepted request ends exactly once, when the engine is dropped") {
  for (std::int64_t seed = 0; seed < scaled(60); ++seed)
    EngineLife(static_cast<std::uint32_t>(seed), Ending::in_background);
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
        yes += engine.end_early(request, ender == 0 ? Outcome::cancelled : Outcome::expired);
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
    if (round % 64 == 0) engine.drain();
  }
  for (std::thread& ender : enders) ender.join();
  const Counters& counters = engine.counters();
  CHECK_EQ(counters.cancelled + counters.expired, ended_early);
  CHECK_EQ(counters.results + ended_early, rounds);
}

TEST("cancelling a large request while its parts run on several instances gives it one end, and all inputs back") {
  EngineOptions options;
  options.instances = 3;
  options.scheduler.max_batch_size = 4;
  Engine engine(options);
  engine.model->keeps_batches = false;
  std::mt19937 random(5);
  std::int64_t ended_early = 0;
  const std::int64_t rounds = scaled(3'000);
  for (std::int64_t round = 0; round < rounds; ++round) {
    const float first = float(round % 1000);
    const RequestPtr request = engine.submit_rows(first, 5 + std::int64_t(random() % 40));
    for (auto pause = random() % 60; pause > 0; --pause) std::this_thread::yield();
    const bool early = random() % 2 == 0 && engine.end_early(request, Outcome::cancelled);
    CHECK_EQ(request->wait(from_now(kPatience)), Woken::changed);
    CHECK_EQ(request->outcome == Outcome::cancelled, early);
    if (!early) CHECK(has_result(*request, first));
    ended_early += early;
    if (round % 64 == 0) engine.drain();
  }
  const Counters& counters = engine.counters();
  CHECK_EQ(counters.cancelled, ended_early);
  CHECK_EQ(counters.results, rounds - ended_early);
  CHECK(eventually([&] {
    engine.drain();
    return engine.ledger.held() == 0;
  }));
  CHECK_EQ(engine.snapshot().queued_rows, 0);
}

TEST("large requests, small ones, cancellations and a verdict race, and every request ends once with its own rows") {
  const std::int64_t rounds = scaled(20);
  for (std::int64_t round = 0; round < rounds; ++round) {
    EngineOptions options;
    options.scheduler.max_batch_size = 4;
    options.instances = 3;
    Engine engine(options);
    std::vector<std::thread> callers;
    std::atomic<int> wrong{0};
    for (int caller = 0; caller < 4; ++caller) {
      callers.emplace_back([&, caller] {
        for (int call = 0; call < 8; ++call) {
          const float first = float(1'000 * caller + 100 * call);
          const RequestPtr request = engine.submit_rows(first, caller % 2 == 0 ? 30 : 2);
          if (caller == 2 && call % 3 == 0) engine.end_early(request, Outcome::cancelled);
          engine.await(request);
          if (request->outcome != Outcome::cancelled && !has_result(*request, first)) ++wrong;
        }
      });
    }
    engine.dispatcher->set_batchable(false, "said so");
    for (std::thread& caller : callers) caller.join();
    CHECK_EQ(wrong, 0);
    CHECK(eventually([&] { return engine.snapshot().running_batches == 0 && engine.snapshot().queued_requests == 0; }));
    CHECK_EQ(engine.snapshot().queued_rows, 0);
    CHECK_EQ(engine.counters().requests, engine.counters().results + engine.counters().cancelled);
    engine.close(true, kNever);
    engine.drain();
    CHECK_EQ(engine.ledger.held(), 0u);
  }
}
