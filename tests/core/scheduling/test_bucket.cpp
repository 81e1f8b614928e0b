// One bucket: the order of what waits, and how long it is held back for others.
#include "ledger.h"
#include "scheduling/bucket.h"

using namespace paddleinfer;

namespace {

std::vector<TensorView> views_of(std::int64_t rows, std::int64_t width, DType dtype = DType::float32) {
  TensorView view;
  view.dtype = dtype;
  view.shape.rank = 2;
  view.shape.dims[0] = rows;
  view.shape.dims[1] = width;
  return {view};
}

// A bucket of ten callers who ask again `gap` after each other, on a model that takes fixed + per_row * rows.
// Requests are put in as the scheduler does it.
struct Held {
  Held(Nanos fixed, Nanos per_row, Nanos gap, std::int64_t callers = 10) {
    for (int run = 0; run < 3; ++run) {
      for (const std::int64_t rows : {1, 2, 4, 8}) bucket.times.note(rows, fixed + per_row * rows, false);
    }
    for (int round = 0; round < 4; ++round) {
      for (std::int64_t caller = 0; caller < callers; ++caller) bucket.arrivals.arrived(1, now += gap);
      bucket.arrivals.departed(callers, callers, now += 50);
    }
  }

  RequestPtr add(Nanos when, Nanos deadline = kNever) {
    auto request = std::make_shared<Request>();
    request->arrival = now = when;
    request->deadline = deadline;
    request->in_queue = true;
    bucket.push({std::min(deadline, when + 1'000'000'000), order++}, request);
    ++bucket.queued_requests;
    ++bucket.queued_rows;
    bucket.arrivals.arrived(1, when);
    return request;
  }
  Nanos until(Nanos when, Nanos max_delay = kNever) { return bucket.delay_until(when, max_delay, reason); }
  DispatchReason reason = DispatchReason::idle;

  Bucket bucket{views_of(1, 2)};
  Nanos now = 0;
  std::uint64_t order = 0;
};

}  // namespace

TEST("what waits comes out by key, and equal keys in the order they came") {
  Bucket bucket(views_of(1, 2));
  const std::vector<Nanos> keys = {50, 20, 20, 90, 10, 20, kNever, 10};
  std::vector<RequestPtr> requests;
  for (std::size_t place = 0; place < keys.size(); ++place) {
    requests.push_back(std::make_shared<Request>());
    bucket.push({keys[place], place}, requests.back());
  }
  for (const std::size_t place : {4, 7, 1, 2, 5, 0, 3, 6}) {
    REQUIRE(!bucket.empty());
    CHECK_EQ(bucket.first_place().key, keys[place]);
    CHECK_EQ(bucket.first_place().order, place);
    CHECK(bucket.first() == requests[place]);
    CHECK(bucket.pop() == requests[place]);
  }
  CHECK(bucket.empty());
}

TEST("dead entries are dropped, and the living keep their order") {
  Bucket bucket(views_of(1, 2));
  std::vector<RequestPtr> requests;
  for (int place = 0; place < 200; ++place) {
    requests.push_back(std::make_shared<Request>());
    requests.back()->in_queue = place % 3 == 0;
    bucket.push({Nanos(place * 37 % 200), std::uint64_t(place)}, requests.back());
  }
  bucket.drop_dead();
  Nanos before = -1;
  int count = 0;
  while (!bucket.empty()) {
    CHECK(bucket.first_place().key > before);
    before = bucket.first_place().key;
    CHECK(bucket.pop()->in_queue);
    ++count;
  }
  CHECK_EQ(count, 67);
  for (const RequestPtr& request : requests) CHECK_EQ(request.use_count(), 1);
}

TEST("a bucket takes requests of its dtypes and shapes, however many rows") {
  const Bucket bucket(views_of(3, 2));
  Request other;
  for (const std::int64_t rows : {1, 3, 70}) {
    other.inputs = views_of(rows, 2);
    CHECK(bucket.takes(other));
  }
  other.inputs = views_of(3, 5);
  CHECK(!bucket.takes(other));
  other.inputs = views_of(3, 2, DType::int32);
  CHECK(!bucket.takes(other));
  other.inputs.clear();
  CHECK(!bucket.takes(other));
}

TEST("what waits is held while (n / m + 1) gaps and n rows cost less than a run does by itself") {
  constexpr Nanos kFixed = 10'000;
  int held_back = 0;
  for (const Nanos gap : {100, 1'000, 3'000, 4'900, 5'100, 20'000}) {
    for (const Nanos per_row : {0, 700, 2'000}) {
      for (std::int64_t place = 2; place < 20; ++place) {
        const bool together = place % 2 == 0;
        const std::int64_t waiting = place / 2;
        Held held(kFixed, per_row, gap);
        Nanos now = held.now;
        for (std::int64_t place = 0; place < waiting; ++place) held.add(now += together ? 0 : gap);
        // What was measured, those just now included.
        const double measured = held.bucket.arrivals.gap_ns();
        const double gaps = double(waiting) / held.bucket.arrivals.rows_at_once() + 1;
        const bool pays = gaps * measured + double(waiting * per_row) < kFixed;
        CHECK_EQ(held.until(now) > now, pays);
        held_back += pays;
      }
    }
  }
  CHECK(held_back > 50 && held_back < 270);
}

TEST("nobody is held when all who call are there, or too little is known") {
  Held all(10'000, 0, 100);
  const Nanos now = all.now;
  for (int place = 0; place < 9; ++place) all.add(now);
  CHECK(all.until(now) > now);
  all.add(now);
  CHECK_EQ(all.until(now), now);

  Held lone(10'000, 0, 100, /*callers=*/1);
  lone.add(lone.now);
  CHECK_EQ(lone.until(lone.now), lone.now);

  DispatchReason reason{};
  Bucket unmeasured(views_of(1, 2));
  unmeasured.arrivals = Held(10'000, 0, 100).bucket.arrivals;
  unmeasured.push({0, 0}, std::make_shared<Request>());
  unmeasured.queued_rows = unmeasured.queued_requests = 1;
  CHECK_EQ(unmeasured.delay_until(now, kNever, reason), now);
  unmeasured.times.note(4, 10'000, false);
  unmeasured.end_delay();
  CHECK_EQ(unmeasured.delay_until(now, kNever, reason), now);  // what one more row costs is not known
  unmeasured.end_delay();
  unmeasured.times.note(8, 10'000, false);
  CHECK(unmeasured.delay_until(now, kNever, reason) > now);

  Held few_gaps(10'000, 0, 100);
  few_gaps.bucket.arrivals = Arrivals();
  for (int caller = 0; caller < 8; ++caller) few_gaps.bucket.arrivals.arrived(1, now);
  few_gaps.bucket.arrivals.departed(8, 8, now);
  for (int place = 0; place < 7; ++place) few_gaps.add(now);
  CHECK_EQ(few_gaps.until(now), now);
}

TEST("a step ends two gaps after the last who came") {
  Held held(100'000, 0, 100);
  const Nanos begin = held.now;
  held.add(begin);
  const Nanos gap = Nanos(held.bucket.arrivals.gap_ns());
  const Nanos first_end = held.until(begin);
  CHECK_EQ(first_end, begin + Nanos(2 * held.bucket.arrivals.gap_ns()));
  CHECK_EQ(held.until(begin + gap), first_end);  // time alone does not make it longer
  held.add(begin + gap);
  const Nanos end = held.until(begin + gap);
  CHECK_EQ(end, begin + gap + Nanos(2 * held.bucket.arrivals.gap_ns()));
  CHECK_EQ(held.until(end - 1), end);
  CHECK_EQ(held.until(end), end);
}

TEST("a whole delay is no longer than what a run costs by itself") {
  constexpr Nanos kFixed = 10'000;
  Held held(kFixed, 0, 1'000);
  const Nanos begin = held.now;
  Nanos now = begin;
  held.add(now);
  // One more comes just before each step ends.
  int steps = 0;
  for (Nanos until = held.until(now); until > now; until = held.until(now)) {
    CHECK(until <= begin + kFixed);
    now = until;
    if (held.bucket.queued_requests < 8) {
      now = until - 1;
      held.add(now);
    }
    REQUIRE(++steps < 50);
  }
  CHECK(steps > 2);
  CHECK(now <= begin + kFixed);
}

TEST("a delay ends when its first request has waited for max_delay") {
  Held held(100'000, 0, 100);
  const Nanos begin = held.now;
  held.add(begin);
  CHECK_EQ(held.until(begin, 50), begin + 50);
  held.add(begin + 40);
  CHECK_EQ(held.until(begin + 40, 50), begin + 50);
  CHECK_EQ(held.until(begin + 50, 50), begin + 50);
  Held late(100'000, 0, 100);
  const Nanos came = late.now;
  late.add(came);
  CHECK_EQ(late.until(came + 60, 50), came + 60);  // it has waited long enough behind a run
}

TEST("a delay ends when its first request could no longer be in time") {
  Held held(100'000, 10, 100);
  const Nanos begin = held.now;
  const double run_ns = held.bucket.times.predict_ns(1);
  held.add(begin, begin + Nanos(run_ns) + 120);
  CHECK_EQ(held.until(begin), begin + 120);
  Held too_late(100'000, 10, 100);
  const Nanos now = too_late.now;
  too_late.add(now, now + Nanos(run_ns) - 1);
  CHECK_EQ(too_late.until(now), now);
}

TEST("callers who did not come are expected less") {
  Held held(100'000, 0, 100);
  const Nanos begin = held.now;
  held.add(begin);
  CHECK_EQ(held.bucket.arrivals.callers(), 10);
  const Nanos end = held.until(begin);
  CHECK_EQ(held.until(end), end);
  CHECK(held.bucket.arrivals.callers() < 10);
  Held cut_short(100'000, 0, 100);
  const Nanos now = cut_short.now;
  cut_short.add(now);
  CHECK_EQ(cut_short.until(now + 60, 50), now + 60);
  CHECK_EQ(cut_short.bucket.arrivals.callers(), 10);  // that says nothing about other callers
}

TEST("what should go is not held back again by another look") {
  Held held(100'000, 0, 100);
  const Nanos begin = held.now;
  held.add(begin);
  const Nanos end = held.until(begin);
  const std::int64_t callers = held.bucket.arrivals.callers();
  for (const Nanos later : {0, 0, 1, 50}) CHECK_EQ(held.until(end + later), end + later);
  CHECK_EQ(held.until(begin), begin);                               // should the clock go back
  CHECK_EQ(held.bucket.arrivals.callers(), 1 + (callers - 1) / 2);  // one look has counted
  held.bucket.end_delay();
  held.add(end + 100);
  CHECK(held.until(end + 100) > end + 100);  // the next batch
}
