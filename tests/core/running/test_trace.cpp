// The rings of what an engine did recently.
#include <thread>
#include <vector>

#include "engine.h"
#include "running/trace.h"

using namespace fakes;
using namespace harness;

namespace {

std::vector<std::uint64_t> numbers(const std::vector<TracedRun>& runs) {
  std::vector<std::uint64_t> found;
  for (const TracedRun& run : runs) found.push_back(run.number);
  return found;
}

}  // namespace

TEST("a ring keeps the last records, in order and numbered from 1") {
  Ring<TracedRun> ring;
  ring.resize(3);
  for (int turn = 0; turn < 5; ++turn) ring.push(TracedRun{});
  CHECK(numbers(ring.since(0)) == (std::vector<std::uint64_t>{3, 4, 5}));
  CHECK(numbers(ring.since(4)) == (std::vector<std::uint64_t>{5}));
  CHECK(ring.since(5).empty());
  CHECK_EQ(ring.pushed(), 5u);
}

TEST("a ring that grows keeps what it has, and one that shrinks the newest") {
  Ring<TracedRun> ring;
  ring.resize(3);
  for (int turn = 0; turn < 5; ++turn) ring.push(TracedRun{});
  ring.resize(6);
  for (int turn = 0; turn < 2; ++turn) ring.push(TracedRun{});
  CHECK(numbers(ring.since(0)) == (std::vector<std::uint64_t>{3, 4, 5, 6, 7}));
  ring.resize(2);
  CHECK(numbers(ring.since(0)) == (std::vector<std::uint64_t>{6, 7}));
  ring.push(TracedRun{});
  CHECK(numbers(ring.since(0)) == (std::vector<std::uint64_t>{7, 8}));
}

TEST("every sequence of sizes and records leaves the newest that fit") {
  for (std::size_t first = 1; first < 6; ++first) {
    for (std::size_t second = 0; second < 6; ++second) {
      for (int before = 0; before < 8; ++before) {
        Ring<TracedRun> ring;
        ring.resize(first);
        for (int turn = 0; turn < before; ++turn) ring.push(TracedRun{});
        ring.resize(second);
        const std::size_t kept = std::min({std::size_t(before), first, second});
        const std::vector<std::uint64_t> left = numbers(ring.since(0));
        CHECK_EQ(left.size(), kept);
        for (std::size_t place = 0; place < kept; ++place) {
          CHECK_EQ(left[place], std::uint64_t(before) - kept + place + 1);
        }
      }
    }
  }
}

TEST("a trace that keeps nothing records nothing") {
  Trace trace(0);
  CHECK_EQ(trace.record(TracedRun{}), 0u);
  trace.record(Request());
  CHECK(trace.recorded() == (std::pair<std::uint64_t, std::uint64_t>{0, 0}));
}

TEST("threads record while the capacity changes") {
  Trace trace(8);
  std::vector<std::thread> threads;
  for (int number = 0; number < 3; ++number) {
    threads.emplace_back([&] {
      for (int turn = 0; turn < 2'000; ++turn) {
        trace.record(TracedRun{});
        trace.record(Request());
      }
    });
  }
  for (std::size_t turn = 0; turn < 200; ++turn) {
    trace.keep(1 + turn % 40);
    CHECK(trace.runs_since(0).size() <= 40);
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(trace.recorded() == (std::pair<std::uint64_t, std::uint64_t>{6'000, 6'000}));
}
