// Requests that wait for room in a full queue, instead of being refused.
#include "scheduling.h"

using namespace fakes;

namespace {

struct Full {
  explicit Full(std::int64_t max_rows) : scheduler(options_of(max_rows)) {}
  static SchedulerOptions options_of(std::int64_t max_rows) {
    SchedulerOptions options = with_merging(Merging::no);
    options.max_queue_rows = max_rows;
    return options;
  }
  // One who waits for room.
  std::pair<RequestPtr, Admission> come(std::int64_t rows, Nanos now = 0, Nanos deadline = kNever) {
    RequestPtr request = request_of(1, rows, deadline);
    request->waits_for_room = true;
    const Admission admission = scheduler.admit(request, now);
    return {request, admission};
  }
  Scheduler scheduler;
};

}  // namespace

TEST("who waits for room is let in as soon as there is some, in the order they came") {
  Full full(4);
  std::vector<RequestPtr> requests;
  for (int place = 0; place < 10; ++place) {
    const auto [request, admission] = full.come(2, place);
    CHECK_EQ(admission, place < 2 ? Admission::accepted : Admission::waits_for_room);
    CHECK_EQ(request->awaiting_admission, place >= 2);
    CHECK_EQ(request->arrival, place);
    requests.push_back(request);
  }
  CHECK_EQ(full.scheduler.waiting_for_room(), 8);
  CHECK_EQ(full.scheduler.queued_rows(), 4);
  for (std::size_t place = 0; place < 10; ++place) {
    CHECK(only(full.scheduler.next(100)) == requests[place]);
    CHECK_EQ(full.scheduler.queued_rows(), std::min<std::int64_t>(4, 2 * (9 - std::int64_t(place))));
  }
  check_empty(full.scheduler);
}

TEST("one of more rows than may wait waits until nothing else does") {
  Full full(4);
  full.come(1);
  const auto large = full.come(5);
  CHECK_EQ(large.second, Admission::waits_for_room);
  CHECK_EQ(full.scheduler.next(0).batch.size(), 1u);
  CHECK(large.first->in_queue);
  CHECK_EQ(full.scheduler.waiting_for_room(), 0);
}

TEST("a small one waits behind a large one, though it would fit") {
  Full full(4);
  full.come(3);
  const auto large = full.come(4);
  const auto small = full.come(1);
  CHECK_EQ(large.second, Admission::waits_for_room);
  CHECK_EQ(small.second, Admission::waits_for_room);
  CHECK_EQ(full.scheduler.next(0).batch.size(), 1u);
  CHECK(large.first->in_queue);
  CHECK(small.first->awaiting_admission);
}

TEST("who does not wait for room is refused where there is none") {
  Full full(4);
  full.come(4);
  full.come(1);
  CHECK_EQ(full.scheduler.admit(request_of(1, 1), 0), Admission::too_many_rows);
}

TEST("who gives up at the admission queue leaves it, and the next has its turn") {
  Full full(4);
  const auto running = full.come(4);
  const auto first = full.come(4);
  const auto second = full.come(2);
  CHECK(full.scheduler.forget(*first.first, 0));
  CHECK(!first.first->awaiting_admission);
  CHECK(!full.scheduler.forget(*first.first, 0));
  CHECK_EQ(full.scheduler.waiting_for_room(), 1);
  CHECK(only(full.scheduler.next(0)) == running.first);
  CHECK(second.first->in_queue);
  CHECK(only(full.scheduler.next(0)) == second.first);
  CHECK(full.scheduler.next(0).batch.empty());
}

TEST("when a large one gives up at the admission queue, those behind it for whom there is room come in") {
  Full full(4);
  full.come(3);
  const auto large = full.come(4);
  const auto small = full.come(1);
  CHECK(small.first->awaiting_admission);
  CHECK(full.scheduler.forget(*large.first, 0));
  CHECK(small.first->in_queue && !small.first->awaiting_admission);
  CHECK_EQ(full.scheduler.queued_rows(), 4);
}

TEST("who is forgotten in the queue makes room for who waits at the admission queue") {
  Full full(4);
  const auto queued = full.come(4);
  const auto waiting = full.come(3);
  CHECK(full.scheduler.forget(*queued.first, 5));
  CHECK(waiting.first->in_queue && !waiting.first->awaiting_admission);
  CHECK_EQ(full.scheduler.queued_rows(), 3);
  CHECK_EQ(full.scheduler.plan(5).instances, 1);
}

TEST("expired requests make room, too, in the same decision") {
  Full full(4);
  const auto late = full.come(4, 0, /*deadline=*/10);
  const auto waiting = full.come(4);
  const Decision decision = full.scheduler.next(20);
  CHECK(decision.expired == std::vector<RequestPtr>{late.first});
  CHECK(only(decision) == waiting.first);
}

TEST("a deadline that passes at the admission queue is found when the request is let in") {
  Full full(4);
  full.come(4);
  const auto late = full.come(2, 0, /*deadline=*/10);
  CHECK_EQ(full.scheduler.next(5).batch.size(), 1u);
  CHECK(full.scheduler.next(20).expired == std::vector<RequestPtr>{late.first});
}

TEST("taking all takes those at the admission queue as well, after the queue") {
  Full full(4);
  std::vector<RequestPtr> requests;
  for (int place = 0; place < 6; ++place) requests.push_back(full.come(2).first);
  full.scheduler.forget(*requests[4], 0);
  requests.erase(requests.begin() + 4);
  CHECK(take_all(full.scheduler, 0) == requests);
  check_empty(full.scheduler);
  for (const RequestPtr& request : requests) CHECK(!request->awaiting_admission && !request->in_queue);
}

TEST("a limit of bytes keeps them at the admission queue as well") {
  SchedulerOptions options;
  options.max_queue_bytes = 100;
  Scheduler scheduler(options);
  const RequestPtr first = request_of(1);
  first->bytes = 80;
  const RequestPtr second = request_of(1);
  second->bytes = 30;
  second->waits_for_room = true;
  CHECK_EQ(scheduler.admit(first, 0), Admission::accepted);
  CHECK_EQ(scheduler.admit(second, 0), Admission::waits_for_room);
  CHECK(only(scheduler.next(0)) == first);
  CHECK(second->in_queue);
}

TEST("while somebody waits at the admission queue nobody runs on a caller's thread") {
  SchedulerOptions options;
  options.max_queue_rows = 4;
  Scheduler scheduler(options);
  scheduler.set_instances(2);
  teach(scheduler, 1, 1'000, 1, 64);
  const RequestPtr full = request_of(1, 4);
  scheduler.admit(full, 0);
  const RequestPtr waiting = request_of(1, 1);
  waiting->waits_for_room = true;
  CHECK_EQ(scheduler.admit(waiting, 0), Admission::waits_for_room);
  CHECK(!scheduler.begin_inline(*request_of(2), kNever, 0));
}

TEST("several that come together have room as one, or wait or are refused as one") {
  for (const bool waits : {false, true}) {
    for (const bool full_already : {false, true}) {
      Full full(8);
      if (full_already) full.come(8);
      const RequestPtr first = request_of(2, 3);
      const RequestPtr second = request_of(3, 30);  // of another bucket
      first->rows_together = 33;
      second->follows = true;
      first->waits_for_room = second->waits_for_room = waits;
      const Admission refused = waits ? Admission::waits_for_room : Admission::too_many_rows;
      CHECK_EQ(full.scheduler.admit(first, 0), full_already ? refused : Admission::accepted);
      if (full_already && !waits) continue;  // the other is then not asked for
      CHECK_EQ(full.scheduler.admit(second, 0), full_already ? refused : Admission::accepted);
      if (full_already) only(full.scheduler.next(1));
      CHECK_EQ(full.scheduler.queued_rows(), 33);
      CHECK_EQ(full.scheduler.waiting_for_room(), 0);
    }
  }
}
