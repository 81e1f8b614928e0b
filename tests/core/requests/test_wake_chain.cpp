// The callers of one batch wake each other in turn. A lost wake-up shows as a test that never ends.
#include <random>

#include "ledger.h"
#include "requests/request_wait.h"

using namespace harness;
using namespace paddleinfer;
using State = Request::State;

namespace {

std::vector<RequestPtr> requests_of(std::size_t count) {
  std::vector<RequestPtr> requests;
  for (std::size_t place = 0; place < count; ++place) requests.push_back(std::make_shared<Request>());
  return requests;
}

// Ends them all as one batch.
void end_together(const std::vector<RequestPtr>& requests) {
  const auto chain = std::make_shared<WakeChain>();
  std::vector<RequestPtr> sleepers;
  for (const RequestPtr& request : requests) {
    CHECK(request->claim(State::queued));
    request->outcome = Outcome::result;
    request->wakes_next(chain);
    if (request->publish()) sleepers.push_back(request);
  }
  chain->start(std::move(sleepers));
}

}  // namespace

TEST("everybody who sleeps for one batch is woken") {
  for (std::int64_t round = 0; round < scaled(100); ++round) {
    const std::vector<RequestPtr> requests = requests_of(1 + std::size_t(round) % 9);
    std::vector<std::thread> callers;
    for (const RequestPtr& request : requests) {
      callers.emplace_back([&request] {
        CHECK_EQ(request->wait(kNever), Woken::changed);
        CHECK_EQ(request->outcome, Outcome::result);
      });
    }
    if (round % 2 == 0) sleep_ns(kMillisecond);  // else some come when it is over already
    end_together(requests);
    for (std::thread& caller : callers) caller.join();
  }
}

TEST("two who wait for one request are both woken, and the chain goes on behind them") {
  for (std::int64_t round = 0; round < scaled(100); ++round) {
    const std::vector<RequestPtr> requests = requests_of(3);
    std::vector<std::thread> callers;
    for (int place = 0; place < 6; ++place) {
      callers.emplace_back([&, place] { requests[std::size_t(place) / 2]->wait(kNever); });
    }
    if (round % 2 == 0) sleep_ns(kMillisecond);
    end_together(requests);
    for (std::thread& caller : callers) caller.join();
  }
}

TEST("who gave up, or never slept, does not break the chain") {
  for (std::size_t awake = 0; awake < 4; ++awake) {
    const std::vector<RequestPtr> requests = requests_of(4);
    std::vector<std::thread> callers;
    for (std::size_t place = 0; place < requests.size(); ++place) {
      // Whose wait has timed out still counts as a sleeper.
      if (place == awake || place == 0) {
        CHECK_EQ(requests[place]->wait(0), Woken::timed_out);
      } else {
        callers.emplace_back([&, place] { requests[place]->wait(kNever); });
      }
    }
    sleep_ns(2 * kMillisecond);
    end_together(requests);
    for (std::thread& caller : callers) caller.join();
  }
}

TEST("a caller who comes later does not wait, and may carry the chain on as well") {
  const std::vector<RequestPtr> requests = requests_of(3);
  std::thread sleeper([&] { requests[2]->wait(kNever); });
  sleep_ns(2 * kMillisecond);
  end_together(requests);
  for (const RequestPtr& request : requests) {
    CHECK_EQ(request->wait(kNever), Woken::changed);
    CHECK_EQ(request->wait(0), Woken::changed);
  }
  sleeper.join();
}

TEST("a chain that has not begun, or has nobody, wakes nobody") {
  WakeChain chain;
  chain.wake_next();
  chain.start({});
  chain.wake_next();
}

TEST("a chain lets go of its requests, though they hold it") {
  std::vector<std::weak_ptr<Request>> left;
  {
    const std::vector<RequestPtr> requests = requests_of(5);
    left.assign(requests.begin(), requests.end());
    std::vector<std::thread> callers;
    for (const RequestPtr& request : requests) {
      callers.emplace_back([request] {
        request->wait(from_now(kMillisecond));
        request->wait(kNever);
      });
    }
    sleep_ns(kMillisecond);
    end_together(requests);
    for (std::thread& caller : callers) caller.join();
  }
  for (const std::weak_ptr<Request>& request : left) CHECK(request.expired());
}

TEST("callers who time out, wait again, or come late are all woken, batch after batch") {
  constexpr std::size_t kCallers = 6;
  const std::int64_t rounds = scaled(3'000);
  std::mutex mu;
  std::vector<RequestPtr> batch = requests_of(kCallers);  // guarded by mu
  std::atomic<std::int64_t> round{0};
  std::atomic<std::size_t> awake{0};
  std::vector<std::thread> callers;
  for (std::size_t caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&, caller, random = std::mt19937(unsigned(caller))]() mutable {
      for (std::int64_t turn = 0; turn < rounds; ++turn) {
        while (round.load(std::memory_order_acquire) < turn) std::this_thread::yield();
        RequestPtr request;
        {
          const std::lock_guard<std::mutex> lock(mu);
          request = batch[caller];
        }
        const auto kind = random() % 4;
        if (kind == 0) request->wait(from_now(Nanos(random() % 60) * 1000));
        if (kind == 1) std::this_thread::yield();
        if (kind == 2) request->wait(0);
        while (!request->done()) request->wait(kNever);
        request.reset();
        ++awake;
      }
    });
  }
  std::mt19937 random(99);
  for (std::int64_t turn = 0; turn < rounds; ++turn) {
    std::vector<RequestPtr> ended;
    {
      const std::lock_guard<std::mutex> lock(mu);
      ended = batch;
    }
    if (random() % 2 == 0) sleep_ns(Nanos(random() % 60) * 1000);
    end_together(ended);
    ended.clear();
    while (awake < kCallers) std::this_thread::yield();
    awake = 0;
    {
      const std::lock_guard<std::mutex> lock(mu);
      batch = requests_of(kCallers);
    }
    round.store(turn + 1, std::memory_order_release);
  }
  for (std::thread& caller : callers) caller.join();
}
