// Replicas that come and go on a simulated clock.
#include <cstdint>
#include <vector>

#include "check.h"
#include "simulation/fleet.h"

using namespace paddleinfer;

namespace {

// Calls at a steady rate to replicas that take 1000 ns for a run of any size up to 4 rows.
struct Simulated {
  static constexpr std::size_t kCalls = 2'000;

  explicit Simulated(Nanos gap_ns) {
    for (std::size_t number = 0; number < kCalls; ++number) offsets.push_back(Nanos(number + 1) * gap_ns);
    options.scheduler.max_batch_size = 4;
    options.run_ns = options.scales = {0, 1'000, 1'000, 1'000, 1'000};
    options.spreads.assign(5, 0.0);
    options.classes.resize(1);
  }

  Fleet make() { return Fleet(options, {offsets.data(), classes.data(), called.data(), ended.data(), kCalls, 0}); }

  // To that time, or to the end.
  Fleet::Pause run(Fleet& fleet, Nanos until = kNever) const {
    for (;;) {
      const Fleet::Pause pause = fleet.run(until, 1'000'000);
      if (pause != Fleet::Pause::deviations) return pause;
      fleet.feed(zeros.data(), zeros.size());
    }
  }

  std::size_t results() const {
    std::size_t count = 0;
    for (const std::int64_t end : ended) count += end >= 0 ? 1 : 0;
    return count;
  }

  FleetOptions options;
  std::vector<std::int64_t> offsets;
  std::vector<std::int32_t> classes = std::vector<std::int32_t>(kCalls);
  std::vector<std::int64_t> called = std::vector<std::int64_t>(kCalls);
  std::vector<std::int64_t> ended = std::vector<std::int64_t>(kCalls);
  std::vector<double> zeros = std::vector<double>(64);
};

}  // namespace

TEST("a replica that is drained serves what it has, takes no more, and costs nothing after that") {
  Simulated simulated(400);
  simulated.options.network_ns = 50;
  Fleet fleet = simulated.make();
  for (int count = 0; count < 3; ++count) fleet.add_replica(0, 1);
  REQUIRE(simulated.run(fleet, 100'000) == Fleet::Pause::time);
  CHECK_EQ(fleet.replica_ns(), 300'000);
  fleet.remove_replica();
  fleet.remove_replica();
  fleet.remove_replica();  // the last one stays
  CHECK_EQ(fleet.open_replicas(), 1u);
  CHECK(simulated.run(fleet) == Fleet::Pause::over);
  CHECK_EQ(simulated.results(), Simulated::kCalls);
  CHECK(fleet.replica_ns() > fleet.now() + 200'000);
  CHECK(fleet.replica_ns() < fleet.now() + 200'000 + 2 * 4'000);
}

TEST("a replica that starts costs from then on and serves once it is open") {
  Simulated simulated(400);
  Fleet fleet = simulated.make();
  fleet.add_replica(0, 1);
  REQUIRE(simulated.run(fleet, 100'000) == Fleet::Pause::time);
  fleet.add_replica(150'000, 1);
  CHECK_EQ(fleet.starting_replicas(), 1u);
  REQUIRE(simulated.run(fleet, 149'999) == Fleet::Pause::time);
  CHECK_EQ(fleet.open_replicas(), 1u);
  REQUIRE(simulated.run(fleet, 150'000) == Fleet::Pause::time);
  CHECK_EQ(fleet.open_replicas(), 2u);
  CHECK_EQ(fleet.replica_ns(), 200'000);
}

TEST("one that is still starting goes first, and never opens") {
  Simulated simulated(400);
  Fleet fleet = simulated.make();
  fleet.add_replica(0, 1);
  fleet.add_replica(0, 1);
  fleet.add_replica(50'000, 1);
  fleet.remove_replica();
  CHECK_EQ(fleet.starting_replicas(), 0u);
  REQUIRE(simulated.run(fleet, 100'000) == Fleet::Pause::time);
  CHECK_EQ(fleet.open_replicas(), 2u);
  CHECK_EQ(fleet.replica_ns(), 200'000);
}

TEST("runs of a slow replica take so many times as long") {
  Simulated simulated(10'000);
  Fleet fleet = simulated.make();
  fleet.add_replica(0, 3);
  CHECK(simulated.run(fleet) == Fleet::Pause::over);
  CHECK_EQ(fleet.busy_ns(), Nanos(Simulated::kCalls) * 3'000);
  for (std::size_t number = 0; number < Simulated::kCalls; ++number) {
    CHECK_EQ(simulated.ended[number] - simulated.called[number], 3'000);
  }
}
