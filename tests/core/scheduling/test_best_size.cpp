// The size of batches that rows per second are best at, found in runs that the test makes up.
#include <algorithm>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "scheduling/best_size.h"

using namespace paddleinfer;

namespace {

constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max();

void note(BestSize& model, std::int64_t rows, Nanos ns, int times = 1) {
  for (int run = 0; run < times; ++run) model.note(rows, ns, false, false);
}

// Runs the size it asks for, so often, on a model that takes `ns_of` so many rows. The sizes run.
std::vector<std::int64_t> follow(BestSize& model, int runs, const std::function<Nanos(std::int64_t)>& ns_of,
                                 std::int64_t max_rows = 1 << 20) {
  std::vector<std::int64_t> sizes;
  for (int run = 0; run < runs; ++run) {
    sizes.push_back(std::min(max_rows, model.rows()));
    note(model, sizes.back(), ns_of(sizes.back()));
  }
  return sizes;
}

Nanos cheap_rows(std::int64_t rows) { return 100'000 + 10 * rows; }
// Rows per second peak at 8 rows.
Nanos dear_past_8(std::int64_t rows) { return rows <= 8 ? 8'000 + 100 * rows : 3'000 * rows; }

}  // namespace

TEST("before anything has run a batch is one row, and no peak is known") {
  const BestSize model;
  CHECK(!model.known());
  CHECK_EQ(model.rows(), 1);
  CHECK_EQ(model.peak_rows(), kUnlimited);
}

TEST("a size whose first run alone is known is measured properly before going on") {
  BestSize model;
  note(model, 1, 1'000, 3);
  CHECK_EQ(model.rows(), 2);
  model.note(2, 100'000, true, false);
  CHECK_EQ(model.rows(), 2);  // slow, but that says nothing
  CHECK_EQ(model.peak_rows(), kUnlimited);
  note(model, 2, 1'010);
  CHECK_EQ(model.rows(), 4);
}

TEST("sizes double while rows per second rise") {
  BestSize model;
  const std::vector<std::int64_t> sizes = follow(model, 8, cheap_rows);
  CHECK((sizes == std::vector<std::int64_t>{1, 2, 4, 8, 16, 32, 64, 128}));
  CHECK_EQ(model.peak_rows(), kUnlimited);
}

TEST("a size that brings hardly more rows per second is not worth it") {
  BestSize model;
  note(model, 1, 10'000, 3);
  note(model, 2, 19'900, 5);
  CHECK_EQ(model.peak_rows(), 1);
  BestSize worthwhile;
  note(worthwhile, 1, 10'000, 3);
  note(worthwhile, 2, 19'000, 3);
  CHECK_EQ(worthwhile.peak_rows(), kUnlimited);
  CHECK_EQ(worthwhile.rows(), 4);
}

TEST("a peak that noise has made up is left at the next look") {
  BestSize model;
  note(model, 1, 10'000, 3);
  note(model, 2, 10'100, 3);
  note(model, 4, 90'000);                   // somebody else had the processor
  CHECK_EQ(model.peak_rows(), kUnlimited);  // one run says nothing
  note(model, 4, 90'000, 4);
  CHECK_EQ(model.peak_rows(), 2);
  const std::vector<std::int64_t> sizes = follow(model, 2'000, [](std::int64_t) { return 10'000; }, 4);
  CHECK_EQ(model.best(), BestSize::bin_of(4));
  CHECK_EQ(model.peak_rows(), kUnlimited);
  CHECK(std::count(sizes.begin(), sizes.end(), 4) > 1'000);
}

TEST("the peak is known only with evidence of loss") {
  BestSize model;
  note(model, 8, 8'000, 5);
  CHECK_EQ(model.peak_rows(), kUnlimited);  // one size alone shows nothing
  CHECK_EQ(model.rows(), 16);
  model.note(16, 80'000, true, false);
  CHECK_EQ(model.peak_rows(), kUnlimited);  // nor does a first run
  note(model, 16, 30'000, 5);
  CHECK_EQ(model.peak_rows(), 8);
  note(model, 64, 32'000, 3);
  CHECK_EQ(model.peak_rows(), kUnlimited);  // larger ones are better after all
}

TEST("one quick run of a larger size outweighs slow ones") {
  BestSize model;
  note(model, 1, 10'000, 3);
  note(model, 2, 900'000, 2);
  note(model, 2, 11'000);
  CHECK_EQ(model.peak_rows(), kUnlimited);
  CHECK_EQ(model.rows(), 4);
}

TEST("runs of another size than the one before say little against a size") {
  BestSize model;
  note(model, 4, 10'000, 4);
  for (int run = 0; run < 19; ++run) model.note(8, 40'000, false, /*changed=*/true);
  CHECK_EQ(model.peak_rows(), kUnlimited);
  model.note(8, 40'000, false, /*changed=*/true);
  CHECK_EQ(model.peak_rows(), 4);
}

TEST("runs of hardly more rows than the best say little against more") {
  BestSize model;
  note(model, 4, 10'000, 4);
  note(model, 8, 19'000, 4);
  CHECK_EQ(model.rows(), 16);
  note(model, 9, 30'000, 19);
  CHECK_EQ(model.peak_rows(), kUnlimited);
  note(model, 9, 30'000);
  CHECK_EQ(model.peak_rows(), 8);
}

TEST("past the peak it stops, and tries the sizes beside it, soon at first and ever more rarely") {
  BestSize model;
  const std::vector<std::int64_t> first = follow(model, 9, dear_past_8);
  CHECK((first == std::vector<std::int64_t>{1, 2, 4, 8, 16, 16, 16, 16, 16}));  // what looks slower is measured
  CHECK_EQ(model.rows(), 8);
  CHECK_EQ(model.peak_rows(), 8);
  bool up = false;
  for (const std::int64_t between : {64, 16, 64, 64, 128, 256, 256, 256}) {
    const std::vector<std::int64_t> sizes = follow(model, int(between) + 5, dear_past_8);
    CHECK_EQ(std::count(sizes.begin(), sizes.end(), 8), between);
    CHECK_EQ(std::count(sizes.end() - 5, sizes.end(), up ? 16 : 4), 5);
    up = !up;
  }
}

TEST("what is much larger than the best says nothing against twice the best") {
  BestSize model;
  note(model, 1, 10'000, 4);
  note(model, 32, 900'000, 100);
  CHECK_EQ(model.peak_rows(), kUnlimited);
  CHECK_EQ(model.best(), 0u);
}

TEST("a size that only luck made the best is left for smaller ones") {
  BestSize model;
  note(model, 8, dear_past_8(8), 4);
  note(model, 32, 30'000, 1);
  CHECK_EQ(model.rows(), 64);
  follow(model, 500, dear_past_8, /*max_rows=*/32);
  CHECK_EQ(model.best(), BestSize::bin_of(8));
}

TEST("a larger size than anybody sends is not waited for, and those that run are compared all the same") {
  BestSize model;
  note(model, 32, 3'000 * 32, 4);
  follow(model, 500, dear_past_8, /*max_rows=*/32);
  CHECK_EQ(model.best(), BestSize::bin_of(8));
}

TEST("spells that make every size slow change little") {
  BestSize model;
  Nanos slowness = 1;
  const auto took = [&](std::int64_t rows) { return slowness * cheap_rows(rows); };
  follow(model, 50, took, /*max_rows=*/32);
  for (int spell = 0; spell < 40; ++spell) {
    slowness = spell % 2 == 0 ? 50 : 1;
    const std::vector<std::int64_t> sizes = follow(model, 100, took, /*max_rows=*/32);
    CHECK(std::count(sizes.begin(), sizes.end(), 32) >= 50);
    note(model, 1, cheap_rows(1), 8);  // single rows in between
  }
}

TEST("a peak is found where times vary by a sixth, and a gain of a tenth as well") {
  for (const bool peaks : {true, false}) {
    std::mt19937_64 random(1);
    std::lognormal_distribution<double> noise(0, 0.17);
    double rows = 0, ns = 0;
    for (int engine = 0; engine < 40; ++engine) {
      BestSize model;
      const auto exact = [&](std::int64_t n) {
        return peaks ? 8'000.0 + 2'000.0 * double(n * n) : 8e6 + 5e5 * double(n);
      };
      for (int run = 0; run < 2'000; ++run) {
        const std::int64_t size = std::min<std::int64_t>(32, model.rows());
        model.note(size, Nanos(exact(size) * noise(random)), false, false);
        rows += double(size);
        ns += exact(size);
      }
    }
    const double best = peaks ? 2.0 / (8'000 + 2'000 * 4) : 32.0 / (8e6 + 5e5 * 32);
    CHECK(rows / ns > 0.95 * best);
  }
}
