// How long batches take, learned from runs that the test makes up.
#include <cmath>
#include <functional>
#include <random>

#include "check.h"
#include "scheduling/latency_model.h"

using namespace paddleinfer;

namespace {

constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max();

void note(LatencyModel& model, std::int64_t rows, Nanos ns, int times = 1) {
  for (int run = 0; run < times; ++run) model.note(rows, ns, false);
}

bool near(double a, double b, double tolerance = 1e-6) { return std::fabs(a - b) <= tolerance * std::fabs(b); }

// Runs the size it asks for, so often, on a model that takes `ns_of` so many rows. The sizes run.
std::vector<std::int64_t> follow(LatencyModel& model, int runs, const std::function<Nanos(std::int64_t)>& ns_of,
                                 std::int64_t max_rows = 1 << 20) {
  std::vector<std::int64_t> sizes;
  for (int run = 0; run < runs; ++run) {
    sizes.push_back(std::min(max_rows, model.best_rows()));
    note(model, sizes.back(), ns_of(sizes.back()));
  }
  return sizes;
}

Nanos cheap_rows(std::int64_t rows) { return 100'000 + 10 * rows; }
// Rows per second peak at 8 rows.
Nanos dear_past_8(std::int64_t rows) { return rows <= 8 ? 8'000 + 100 * rows : 3'000 * rows; }

}  // namespace

TEST("nothing is predicted before anything has run") {
  const LatencyModel model;
  CHECK_EQ(model.predict_ns(1), 0.0);
  CHECK_EQ(model.predict_ns(100), 0.0);
  CHECK(!model.knows_line());
  CHECK_EQ(model.best_rows(), 1);
  CHECK_EQ(model.peak_rows(), kUnlimited);
  CHECK_EQ(model.best_row_ns(), 0.0);
}

TEST("a run of no rows teaches nothing") {
  LatencyModel model;
  model.note(0, 1000, false);
  model.note(-1, 1000, true);
  CHECK_EQ(model.predict_ns(1), 0.0);
}

TEST("a run that took no time at all counts as the shortest there is") {
  LatencyModel model;
  note(model, 1, 0);
  note(model, 2, -5);
  CHECK(model.predict_ns(1) > 0);
  CHECK(std::isfinite(model.best_row_ns()) && model.best_row_ns() > 0);
}

TEST("a first run counts while nothing better is known, and no longer") {
  LatencyModel model;
  model.note(4, 9'000, true);
  CHECK_EQ(model.predict_ns(4), 9'000.0);
  model.note(4, 50'000, true);  // on another instance
  CHECK_EQ(model.predict_ns(4), 9'000.0);
  model.note(4, 1'000, false);
  CHECK_EQ(model.predict_ns(4), 1'000.0);  // it replaces the first one, instead of being averaged with it
  model.note(4, 50'000, true);
  CHECK_EQ(model.predict_ns(4), 1'000.0);
  model.note(3, 70'000, true);  // another number of rows of the same bin
  CHECK_EQ(model.predict_ns(4), 1'000.0);
}

TEST("while only single rows have run, one more row is taken to cost nothing") {
  LatencyModel model;
  note(model, 4, 1'000);
  CHECK(!model.knows_line());
  LatencyModel single;
  note(single, 1, 1'000);
  CHECK(single.knows_line());
  CHECK_EQ(single.line().fixed_ns, 1'000.0);
  CHECK_EQ(single.line().per_row_ns, 0.0);
  note(single, 2, 1'200);
  CHECK(near(single.line().per_row_ns, 200));
  CHECK(near(single.line().fixed_ns, 800));
}

TEST("the line is found in times that lie on it") {
  for (const double fixed : {0.0, 1'000.0, 250'000.0}) {
    for (const double per_row : {0.0, 7.0, 900.0}) {
      if (fixed + per_row == 0) continue;
      LatencyModel model;
      for (int turn = 0; turn < 5; ++turn) {
        for (const std::int64_t rows : {1, 2, 3, 4, 7, 12, 30, 32, 64}) {
          note(model, rows, Nanos(fixed + per_row * double(rows)));
        }
      }
      REQUIRE(model.knows_line());
      CHECK(std::fabs(model.line().fixed_ns - fixed) < 1e-3 * (fixed + 1));
      CHECK(std::fabs(model.line().per_row_ns - per_row) < 1e-3 * (per_row + 1));
      for (const std::int64_t rows : {1, 5, 20, 50}) {
        CHECK(near(model.predict_ns(rows), fixed + per_row * double(rows), 1e-3));
      }
      CHECK(near(model.predict_ns(1'000), fixed + per_row * 1'000, 1e-3));
    }
  }
}

TEST("neither part of the line is ever negative") {
  LatencyModel falling;
  note(falling, 1, 9'000);
  note(falling, 32, 3'000);
  CHECK_EQ(falling.line().per_row_ns, 0.0);
  CHECK(near(falling.line().fixed_ns, 6'000));
  CHECK(falling.predict_ns(1'000) > 0);
  LatencyModel steep;
  note(steep, 1, 100);
  note(steep, 32, 90'000);
  CHECK_EQ(steep.line().fixed_ns, 0.0);
  CHECK(steep.line().per_row_ns > 0);
}

TEST("between two sizes the prediction lies between theirs, and beyond them it goes on") {
  LatencyModel model;
  note(model, 8, 1'000);
  CHECK_EQ(model.predict_ns(8), 1'000.0);
  CHECK_EQ(model.predict_ns(1), 1'000.0);   // fewer rows may cost as much
  CHECK_EQ(model.predict_ns(16), 2'000.0);  // of the line nothing is known: each row like those
  note(model, 32, 4'000);
  CHECK_EQ(model.predict_ns(8), 1'000.0);
  CHECK_EQ(model.predict_ns(20), 2'500.0);
  CHECK_EQ(model.predict_ns(32), 4'000.0);
  CHECK(near(model.predict_ns(64), 4'000 + 32 * model.line().per_row_ns));
}

TEST("more rows are predicted to take as long at least, where larger sizes took longer") {
  LatencyModel model;
  for (const std::int64_t rows : {1, 2, 6, 11, 40, 300}) note(model, rows, 5'000 + rows * rows);
  double before = 0;
  for (std::int64_t rows = 1; rows < 2'000; ++rows) {
    const double ns = model.predict_ns(rows);
    CHECK(ns >= before);
    before = ns;
  }
}

TEST("a single slow run hardly moves what is known") {
  LatencyModel model;
  note(model, 4, 1'000, 20);
  model.note(4, 1'000'000'000, false);
  CHECK(model.predict_ns(4) < 1'600);
  CHECK(model.predict_ns(4) > 1'000);
  note(model, 4, 1'000, 40);
  CHECK(model.predict_ns(4) < 1'010);
}

TEST("a model that has become slower, or faster, is followed") {
  LatencyModel model;
  note(model, 4, 1'000, 20);
  note(model, 4, 30'000, 60);
  CHECK(near(model.predict_ns(4), 30'000, 0.01));
  note(model, 4, 2'000, 60);
  CHECK(near(model.predict_ns(4), 2'000, 0.02));
}

TEST("the cost of a row is that of the best size") {
  LatencyModel model;
  follow(model, 8, dear_past_8);
  CHECK(near(model.best_row_ns(), double(dear_past_8(8)) / 8));
}

TEST("what slows every size leaves no mark on those that do not run meanwhile") {
  LatencyModel model;
  for (const std::int64_t rows : {1, 2, 4, 8}) note(model, rows, 1'000 + 100 * rows, 20);
  note(model, 8, 8 * 1'800, 60);  // a slow spell
  CHECK(model.predict_ns(1) > 2'000);
  note(model, 8, 1'800, 60);
  CHECK(near(model.predict_ns(1), 1'100, 0.2));
  CHECK(near(model.predict_ns(8), 1'800, 0.05));
}

TEST("times that vary teach nothing wrong about sizes that do not run, however long") {
  for (const std::int64_t running : {1, 4, 16}) {
    LatencyModel model;
    std::mt19937_64 random(1);
    std::lognormal_distribution<double> noise(0, 0.3);
    const auto took = [&](std::int64_t rows) {
      const double pause = random() % 50 == 0 ? 8 : 1;
      return Nanos(double(cheap_rows(rows)) * noise(random) * pause);
    };
    for (int run = 0; run < 20; ++run) {
      for (const std::int64_t rows : {1, 2, 4, 8, 16}) model.note(rows, took(rows), false);
    }
    for (int run = 0; run < 300'000; ++run) model.note(running, took(running), false);
    for (const std::int64_t rows : {1, 2, 4, 8, 16}) {
      CHECK(near(model.predict_ns(rows), double(cheap_rows(rows)), 0.6));
    }
  }
}

TEST("after a slow spell beyond all measure every size is what it was") {
  LatencyModel model;
  for (const std::int64_t rows : {1, 2, 4}) note(model, rows, cheap_rows(rows), 20);
  note(model, 2, 1'000 * cheap_rows(2), 2'000);
  CHECK(near(model.predict_ns(2), double(1'000 * cheap_rows(2)), 0.01));
  note(model, 2, cheap_rows(2), 2'000);
  for (const std::int64_t rows : {1, 2, 4}) CHECK(near(model.predict_ns(rows), double(cheap_rows(rows)), 0.01));
}

TEST("a size that varies within its bin says nothing wrong about the others, however long") {
  LatencyModel model;
  std::mt19937_64 random(1);
  const auto took = [](std::int64_t rows) { return Nanos(10'000 + 1'000 * rows); };
  for (const std::int64_t rows : {1, 2, 4, 16}) note(model, rows, took(rows), 20);
  for (int run = 0; run < 100'000; ++run) {
    const auto rows = std::int64_t(5 + random() % 4);
    note(model, rows, took(rows));
  }
  for (const std::int64_t rows : {1, 2, 4, 5, 8, 16}) CHECK(near(model.predict_ns(rows), double(took(rows)), 0.1));
}

TEST("the 95th percentile is what 19 of 20 runs stay within, whatever their size") {
  LatencyModel model;
  for (const std::int64_t rows : {1, 8}) note(model, rows, 1'000 * rows, 20);
  CHECK(near(model.predict_p95_ns(8), model.predict_ns(8), 0.01));
  for (int round = 0; round < 64; ++round) note(model, 8, round % 10 == 0 ? 12'000 : 8'000);
  const double ratio = model.predict_p95_ns(8) / model.predict_ns(8);
  CHECK(ratio > 1.3 && ratio <= 2);
  CHECK(near(model.predict_p95_ns(1) / model.predict_ns(1), ratio));
  note(model, 8, 8'000, 64);
  CHECK(model.predict_p95_ns(8) < 1.1 * model.predict_ns(8));
}

TEST("the most rows within a time are those whose 95th percentile stays within it") {
  LatencyModel model;
  CHECK_EQ(model.rows_within(1, 32), 32);  // nothing is known
  for (const std::int64_t rows : {1, 2, 4, 8, 16, 32}) note(model, rows, 1'000 + 100 * rows, 5);
  CHECK_EQ(model.rows_within(1'000'000, 32), 32);
  CHECK_EQ(model.rows_within(500, 32), 0);
  const std::int64_t rows = model.rows_within(2'000, 32);
  CHECK(model.predict_p95_ns(rows) <= 2'000 && model.predict_p95_ns(rows + 1) > 2'000);
}

TEST("sizes beyond all bins share the last") {
  LatencyModel model;
  note(model, std::int64_t{1} << 40, 1'000'000);
  CHECK(model.best_rows() > 0);
  CHECK(model.predict_ns(std::int64_t{1} << 41) > 0);
  note(model, 1, 1);
  CHECK(std::isfinite(model.line().per_row_ns));
}
