// Durations counted by size.
#include "check.h"
#include "running/duration_histogram.h"

using namespace paddleinfer;

namespace {

constexpr std::size_t kLast = DurationHistogram::kBuckets - 1;

}  // namespace

TEST("a duration is counted in the first bucket whose bound it does not pass") {
  DurationHistogram histogram;
  for (std::size_t bucket = 0; bucket < kLast; ++bucket) {
    histogram.add(DurationHistogram::bound(bucket));
    CHECK_EQ(histogram.count(bucket), bucket == 0 ? 1 : 2);
    histogram.add(DurationHistogram::bound(bucket) + 1);
    CHECK_EQ(histogram.count(bucket + 1), 1);
  }
}

TEST("what is longer than all bounds, and what takes no time, has a bucket, too") {
  DurationHistogram histogram;
  histogram.add(0);
  histogram.add(3'600'000'000'000);
  CHECK_EQ(histogram.count(0), 1);
  CHECK_EQ(histogram.count(kLast), 1);
  CHECK(DurationHistogram::is_last(kLast));
}

TEST("the bounds rise") {
  for (std::size_t bucket = 1; bucket < kLast; ++bucket) {
    CHECK(DurationHistogram::bound(bucket) > DurationHistogram::bound(bucket - 1));
  }
}
