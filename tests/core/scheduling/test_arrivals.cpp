// Who calls and how soon again, with times that the test makes up.
#include <cmath>

#include "check.h"
#include "scheduling/arrivals.h"

using namespace paddleinfer;

namespace {

// So many callers, each of whom asks again `gap` after the last answer, for so many rounds.
Nanos rounds(Arrivals& arrivals, std::int64_t callers, int rounds, Nanos gap, Nanos now) {
  for (int round = 0; round < rounds; ++round) {
    for (std::int64_t caller = 0; caller < callers; ++caller) arrivals.arrived(1, now += gap);
    arrivals.departed(callers, callers, now += 1'000);
  }
  return now;
}

}  // namespace

TEST("the callers are the most requests that were outstanding at once") {
  Arrivals arrivals;
  CHECK_EQ(arrivals.callers(), 0);
  arrivals.arrived(4, 10);
  arrivals.arrived(5, 20);
  CHECK_EQ(arrivals.outstanding(), 2);
  CHECK_EQ(arrivals.callers(), 2);
  CHECK_EQ(arrivals.peak_rows(), 9);
  arrivals.departed(1, 4, 30);
  arrivals.departed(0, 3, 31);  // rows of one that is not over
  CHECK_EQ(arrivals.outstanding(), 1);
  CHECK_EQ(arrivals.callers(), 2);
  CHECK_EQ(arrivals.peak_rows(), 9);
  arrivals.departed(1, 2, 40);
  CHECK_EQ(arrivals.outstanding(), 0);
  arrivals.arrived(1, 50);
  CHECK_EQ(arrivals.callers(), 2);
}

TEST("one who calls again and again is one caller") {
  Arrivals arrivals;
  rounds(arrivals, 1, 1'000, 50, 0);
  CHECK_EQ(arrivals.callers(), 1);
  CHECK_EQ(arrivals.outstanding(), 0);
  CHECK_EQ(arrivals.peak_rows(), 1);
}

TEST("callers who have gone are forgotten, not at once and not too late") {
  Arrivals arrivals;
  Nanos now = rounds(arrivals, 20, 10, 50, 0);
  now = rounds(arrivals, 2, 3, 50, now);
  CHECK_EQ(arrivals.callers(), 20);
  now = rounds(arrivals, 2, 100, 50, now);
  CHECK_EQ(arrivals.callers(), 2);
  CHECK_EQ(arrivals.peak_rows(), 2);
  rounds(arrivals, 20, 1, 50, now);
  CHECK_EQ(arrivals.callers(), 20);  // and back at once
}

TEST("callers who keep coming are never forgotten in between") {
  Arrivals arrivals;
  Nanos now = rounds(arrivals, 12, 1, 50, 0);
  for (int round = 0; round < 500; ++round) {
    for (int caller = 0; caller < 12; ++caller) {
      arrivals.arrived(1, now += 50);
      CHECK_EQ(arrivals.callers(), 12);
      CHECK_EQ(arrivals.peak_rows(), 12);
    }
    arrivals.departed(12, 12, now += 1'000);
  }
}

TEST("the gap is known after eight of them, and is that between calls that could come") {
  Arrivals arrivals;
  Nanos now = 0;
  for (int caller = 0; caller < 4; ++caller) arrivals.arrived(1, now += 777);
  CHECK(!arrivals.knows_gap());
  for (int turn = 0; turn < 8; ++turn) {
    CHECK(!arrivals.knows_gap());
    arrivals.departed(1, 1, now += 5'000);  // all four were waiting till now: nobody could come
    arrivals.arrived(1, now += 300);
  }
  CHECK(arrivals.knows_gap());
  CHECK_EQ(arrivals.gap_ns(), 300.0);
}

TEST("while several may come, each call is measured from the one before") {
  Arrivals arrivals;
  Nanos now = 0;
  for (int caller = 0; caller < 3; ++caller) arrivals.arrived(1, ++now);
  for (int round = 0; round < 10; ++round) {
    arrivals.departed(3, 3, now += 9'000);
    for (int caller = 0; caller < 3; ++caller) arrivals.arrived(1, now += 200);
  }
  CHECK_EQ(arrivals.gap_ns(), 200.0);
}

TEST("one that leaves while others may come already does not begin the gap again") {
  Arrivals arrivals;
  Nanos now = 0;
  for (int caller = 0; caller < 3; ++caller) arrivals.arrived(1, now);
  for (int round = 0; round < 20; ++round) {
    arrivals.departed(1, 1, now);
    arrivals.departed(1, 1, now + 100);
    arrivals.arrived(1, now + 150);
    arrivals.arrived(1, now + 300);
    now += 10'000;
  }
  CHECK_EQ(arrivals.gap_ns(), 150.0);
}

TEST("more callers than ever measure no gap") {
  Arrivals arrivals;
  Nanos now = 0;
  for (int caller = 0; caller < 100; ++caller) arrivals.arrived(1, now += 10);
  CHECK(!arrivals.knows_gap());
}

TEST("the gap follows slowly") {
  Arrivals arrivals;
  Nanos now = rounds(arrivals, 1, 50, 1'000, 0);
  CHECK_EQ(arrivals.gap_ns(), 1'000.0);
  now = rounds(arrivals, 1, 1, 5'000, now);
  CHECK_EQ(arrivals.gap_ns(), 1'500.0);
  rounds(arrivals, 1, 100, 5'000, now);
  CHECK(arrivals.gap_ns() > 4'900);
}

TEST("after ten gaps of silence what was measured is forgotten") {
  Arrivals arrivals;
  Nanos now = rounds(arrivals, 1, 50, 1'000, 0);
  Arrivals patient = arrivals;
  patient.arrived(1, now + 9'900);
  CHECK(patient.knows_gap());
  arrivals.arrived(1, now += 10'100);
  CHECK(!arrivals.knows_gap());
  arrivals.departed(1, 1, now);
  rounds(arrivals, 1, 7, 400, now);
  CHECK(arrivals.knows_gap());
  CHECK(std::fabs(arrivals.gap_ns() - (10'100.0 + 7 * 400) / 8) < 1e-6);
}

TEST("a silence while something runs is no silence") {
  Arrivals arrivals;
  Nanos now = rounds(arrivals, 2, 50, 1'000, 0);
  arrivals.arrived(1, now += 1'000);
  arrivals.arrived(1, now += 1'000'000);  // the first is outstanding all the while
  CHECK(arrivals.knows_gap());
}

TEST("what comes at one instant is one arrival of all those rows") {
  Arrivals arrivals;
  CHECK_EQ(arrivals.rows_at_once(), 1.0);
  Nanos now = 0;
  for (int round = 0; round < 100; ++round) {
    now += 500;
    for (int request = 0; request < 6; ++request) arrivals.arrived(2, now);
    arrivals.departed(6, 12, now += 1'000);
  }
  CHECK(std::fabs(arrivals.rows_at_once() - 12) < 0.1);
  CHECK_EQ(arrivals.gap_ns(), 500.0);  // not less for those that came together
  CHECK_EQ(arrivals.callers(), 6);
  rounds(arrivals, 6, 50, 500, now);
  CHECK(arrivals.rows_at_once() < 1.1);
}

TEST("an arrival of no rows still counts as one row at least") {
  Arrivals arrivals;
  arrivals.arrived(0, 5);
  CHECK_EQ(arrivals.rows_at_once(), 1.0);
}

TEST("callers who did not come halve the number expected beside those who are there") {
  Arrivals arrivals;
  rounds(arrivals, 17, 20, 50, 0);
  arrivals.arrived(1, 1'000'000);
  CHECK_EQ(arrivals.callers(), 17);
  for (const std::int64_t expected : {9, 5, 3, 2, 1, 1}) {
    arrivals.nobody_came();
    CHECK_EQ(arrivals.callers(), expected);
    CHECK_EQ(arrivals.peak_rows(), expected);
  }
  CHECK_EQ(arrivals.outstanding(), 1);
}

TEST("callers who did not come never lower the number below those who are there") {
  Arrivals arrivals;
  for (int caller = 0; caller < 5; ++caller) arrivals.arrived(3, 10);
  for (int turn = 0; turn < 5; ++turn) arrivals.nobody_came();
  CHECK_EQ(arrivals.callers(), 5);
  CHECK_EQ(arrivals.peak_rows(), 15);
}
