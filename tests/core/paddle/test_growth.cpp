// That no noise of run times traps the size of batches: many engines, each with times of its own, on a virtual clock.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "scheduling.h"

using namespace fakes;

namespace {

constexpr std::int64_t kInstances = 2;
constexpr Nanos kMicrosecond = 1'000;

// What a run takes: a part that is the same for any rows, one for each row, and noise.
class Machine {
 public:
  Machine(std::uint64_t seed, int noise) : random_(seed), noise_(noise) {}

  // A run of the `instance` that begins now; `callers`: threads that want the processor meanwhile.
  RunRecord run(std::size_t instance, std::int64_t rows, int callers, Nanos now) {
    RunRecord ran;
    ran.rows = rows;
    ran.first_of_its_size = seen_.insert({instance, rows}).second;
    ran.size_changed = std::exchange(last_rows_[instance], rows) != rows;
    double ns = double(20 * kMicrosecond + 500 * rows) * std::exp(normal_(random_) * 0.1);
    if (ran.first_of_its_size) ns *= 50;
    if (ran.size_changed && (noise_ & 1)) ns += 60e3;  // memory is laid out anew
    if ((noise_ & 2) && even_(random_) < 0.25) ns += 1e6 / std::pow(even_(random_) + 1e-4, 0.8);  // heavy tails
    if (noise_ & 4) ns *= slowness(now);
    if ((noise_ & 8) && even_(random_) < 0.5) ns += 200e3 * -std::log(even_(random_) + 1e-9);  // woken late
    if (callers > 1 && even_(random_) < 0.3) ns += 100e3 * callers * even_(random_);
    ran.run_ns = std::max<Nanos>(1, Nanos(ns));
    return ran;
  }

 private:
  // Spells of which some are slow for all.
  double slowness(Nanos now) {
    while (now >= spell_until_) {
      spell_until_ += Nanos(50e6 * -std::log(even_(random_) + 1e-9)) + 1;
      slowness_ = even_(random_) < 0.4 ? 2 + 30 * even_(random_) : 1;
    }
    return slowness_;
  }

  std::mt19937_64 random_;
  std::normal_distribution<double> normal_;
  std::uniform_real_distribution<double> even_;
  const int noise_;
  std::set<std::pair<std::size_t, std::int64_t>> seen_;
  std::int64_t last_rows_[kInstances] = {};
  Nanos spell_until_ = 0;
  double slowness_ = 1;
};

// A scheduler, its instances and the time.
class Virtual {
 public:
  Virtual(std::uint64_t seed, int noise) : machine_(seed, noise), scheduler_(SchedulerOptions{}) {
    scheduler_.set_instances(kInstances);
  }

  // So many callers ask for one row each, again and again, until so many rows have been served.
  void single_rows(int callers, std::int64_t rows) {
    for (int caller = 0; caller < callers; ++caller) ask(1);
    run(callers, [&](const Batch& batch) {
      for (std::size_t place = 0; place < batch.size() && rows > 0; ++place, --rows) ask(1);
    });
  }

  // One large request; the rows of a run, on average.
  double large(std::int64_t rows) {
    std::int64_t runs = 0;
    ask(rows);
    run(1, [&](const Batch&) { ++runs; });
    return double(rows) / double(runs);
  }

  // All at once, each of one row.
  double flood(std::int64_t rows) {
    std::int64_t runs = 0;
    for (std::int64_t row = 0; row < rows; ++row) ask(1);
    run(1, [&](const Batch&) { ++runs; });
    return double(rows) / double(runs);
  }

 private:
  struct Running {
    Batch batch;
    RunRecord ran;
    Nanos end;
    std::size_t instance;
  };

  void ask(std::int64_t rows) {
    now_ += kMicrosecond;
    REQUIRE(scheduler_.admit(request_of(2, rows), now_) == Admission::accepted);
  }

  // Until nothing waits or runs; `ended` is told of each batch.
  void run(int callers, const std::function<void(const Batch&)>& ended) {
    for (;;) {
      Nanos wake_at = kNever;
      while (!idle_.empty()) {
        Decision decision = scheduler_.next(now_);
        wake_at = decision.wake_at;
        if (decision.batch.empty()) break;
        const std::size_t instance = idle_.back();
        idle_.pop_back();
        const RunRecord ran = machine_.run(instance, rows_of(decision.batch), callers, now_);
        running_.push_back({std::move(decision.batch), ran, now_ + ran.run_ns, instance});
      }
      if (running_.empty() && wake_at == kNever) return;
      const auto next = std::min_element(running_.begin(), running_.end(),
                                         [](const Running& a, const Running& b) { return a.end < b.end; });
      if (next == running_.end() || wake_at < next->end) {
        now_ = std::max(now_ + 1, wake_at);
        continue;
      }
      const Running over = std::move(*next);
      running_.erase(next);
      now_ = std::max(now_, over.end);
      scheduler_.done(over.batch, {over.ran}, now_);
      idle_.push_back(over.instance);
      ended(over.batch);
    }
  }

  Machine machine_;
  Scheduler scheduler_;
  Nanos now_ = 1;
  std::vector<std::size_t> idle_ = {0, 1};
  std::vector<Running> running_;
};

// The most rows a run, on average, of five calls.
double best_of_five(const std::function<double()>& call) {
  double best = 0;
  for (int time = 0; time < 5; ++time) best = std::max(best, call());
  return best;
}

}  // namespace

TEST("whatever noise run times have, large requests soon run in full batches after a time of single rows") {
  for (int noise = 0; noise < 16; ++noise) {
    for (std::int64_t seed = 0; seed < harness::scaled(40); ++seed) {
      Virtual engine(std::uint64_t(seed), noise);
      engine.single_rows(16, 2'000);
      CHECK(best_of_five([&] { return engine.large(4'096); }) >= 24);
    }
  }
}

TEST("whatever noise run times have, a flood of single rows soon runs in full batches") {
  for (int noise = 0; noise < 16; ++noise) {
    for (std::int64_t seed = 0; seed < harness::scaled(20); ++seed) {
      Virtual engine(std::uint64_t(seed), noise);
      engine.single_rows(16, 2'000);
      CHECK(best_of_five([&] { return engine.flood(2'048); }) >= 24);
    }
  }
}
