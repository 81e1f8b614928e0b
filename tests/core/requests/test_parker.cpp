#include <pthread.h>
#include <signal.h>

#include "check.h"
#include "fakes.h"
#include "requests/request_wait.h"

using namespace harness;
using namespace paddleinfer;

TEST("a wake between the look and the wait is not lost") {
  Parker parker;
  const std::uint32_t seen = parker.epoch();
  parker.wake();
  CHECK_EQ(parker.wait(seen, kNever), Woken::changed);
}

TEST("a parked thread wakes at its deadline, not before") {
  Parker parker;
  const Nanos deadline = from_now(20 * kMillisecond);
  CHECK_EQ(parker.wait(parker.epoch(), deadline), Woken::timed_out);
  CHECK(monotonic_now() >= deadline);
}

TEST("a deadline that has passed does not park") {
  Parker parker;
  CHECK_EQ(parker.wait(parker.epoch(), 0), Woken::timed_out);
  CHECK_EQ(parker.wait(parker.epoch(), from_now(-kNanosPerSecond)), Woken::timed_out);
}

TEST("a deadline before the clock began counts as passed") {
  Parker parker;
  CHECK_EQ(parker.wait(parker.epoch(), -1), Woken::timed_out);
  CHECK_EQ(parker.wait(parker.epoch(), -5 * kNanosPerSecond), Woken::timed_out);
}

TEST("one wake wakes all sleepers") {
  Parker parker;
  std::vector<std::thread> sleepers;
  std::atomic<int> awake{0};
  for (int place = 0; place < 8; ++place) {
    sleepers.emplace_back([&, seen = parker.epoch()] {
      CHECK_EQ(parker.wait(seen, kNever), Woken::changed);
      ++awake;
    });
  }
  sleep_ns(5 * kMillisecond);
  CHECK_EQ(awake, 0);
  parker.wake();
  for (std::thread& sleeper : sleepers) sleeper.join();
}

TEST("a signal interrupts the wait of the thread that takes it") {
  struct sigaction action{};
  struct sigaction before{};
  action.sa_handler = [](int) {};
  sigaction(SIGUSR1, &action, &before);
  Parker parker;
  Request request;
  std::atomic<int> interrupted{0};
  std::atomic<bool> stop{false};
  std::thread sleeper([&] {
    if (parker.wait(parker.epoch(), kNever) == Woken::interrupted) ++interrupted;
    if (request.wait(kNever) == Woken::interrupted) ++interrupted;
    stop = true;
  });
  while (!stop) {
    pthread_kill(sleeper.native_handle(), SIGUSR1);
    sleep_ns(kMillisecond);
  }
  sleeper.join();
  CHECK_EQ(interrupted, 2);
  sigaction(SIGUSR1, &before, nullptr);
}

TEST("two threads that wake each other in turn never both sleep") {
  const std::int64_t turns = scaled(30'000);
  Parker ping;
  Parker pong;
  std::atomic<std::int64_t> pings{0};
  std::atomic<std::int64_t> pongs{0};
  const auto await = [](Parker& parker, const std::atomic<std::int64_t>& counter, std::int64_t count) {
    for (;;) {
      const std::uint32_t seen = parker.epoch();
      if (counter.load(std::memory_order_relaxed) >= count) return;
      parker.wait(seen, kNever);
    }
  };
  std::thread other([&] {
    for (std::int64_t turn = 1; turn <= turns; ++turn) {
      await(ping, pings, turn);
      pongs.store(turn, std::memory_order_relaxed);
      pong.wake();
    }
  });
  for (std::int64_t turn = 1; turn <= turns; ++turn) {
    pings.store(turn, std::memory_order_relaxed);
    ping.wake();
    await(pong, pongs, turn);
  }
  other.join();
  CHECK_EQ(pongs, turns);
}
