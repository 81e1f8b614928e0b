// Whether rows of several requests may share a run: not, not known yet, or they may. And runs on a caller's thread.
#include "scheduling.h"

using namespace fakes;

namespace {

constexpr Nanos kFixed = 1'000'000;

struct Taught {
  explicit Taught(Merging merging, std::int64_t instances = 1) : scheduler(with_merging(merging)) {
    scheduler.set_instances(instances);
    teach(scheduler, 1, kFixed, 10, 4096);
  }
  Scheduler scheduler;
};

}  // namespace

TEST("where nothing may be merged each request runs by itself, whatever its rows") {
  Taught taught(Merging::no);
  std::vector<RequestPtr> requests;
  for (const std::int64_t rows : {1, 1, 7, 100, 1}) {
    requests.push_back(request_of(1, rows));
    taught.scheduler.admit(requests.back(), 0);
  }
  CHECK_EQ(taught.scheduler.plan(0).instances, 1);
  for (const RequestPtr& request : requests) {
    const Decision decision = taught.scheduler.next(0);
    CHECK(!decision.probe);
    CHECK(only(decision) == request);
  }
  CHECK_EQ(taught.scheduler.merging(), Merging::no);
}

TEST("where nothing may be merged there is an instance to wake for each request") {
  Taught taught(Merging::no, /*instances=*/4);
  admit(taught.scheduler, 3, 1, 0);
  CHECK_EQ(taught.scheduler.plan(0).instances, 3);
  admit(taught.scheduler, 30, 1, 0);
  CHECK_EQ(taught.scheduler.plan(0).instances, 4);
}

TEST("requests that come one at a time are not probed") {
  Taught taught(Merging::probe);
  for (int turn = 0; turn < 5; ++turn) {
    taught.scheduler.admit(request_of(1), turn);
    const Decision decision = taught.scheduler.next(turn);
    CHECK(!decision.probe);
    CHECK_EQ(decision.batch.size(), 1u);
    end(taught.scheduler, decision.batch, kFixed, turn);
  }
  CHECK_EQ(taught.scheduler.merging(), Merging::probe);
}

TEST("the first batches of several are probed, and until the first of them is done nothing is merged") {
  Taught taught(Merging::probe, /*instances=*/2);
  admit(taught.scheduler, 6, 1, 0);
  const Decision probe = taught.scheduler.next(0);
  CHECK(probe.probe);
  CHECK_EQ(probe.batch.size(), 3u);
  CHECK_EQ(taught.scheduler.merging(), Merging::probing);
  admit(taught.scheduler, 6, 1, 0);
  for (int place = 0; place < 4; ++place) {
    const Decision other = taught.scheduler.next(0);
    CHECK(!other.probe);
    CHECK_EQ(other.batch.size(), 1u);
    end(taught.scheduler, other.batch, kFixed, 0);
  }
  taught.scheduler.set_merging(Merging::yes);
  end(taught.scheduler, probe.batch, kFixed, 0);
  int probed = 1;
  taught.scheduler.note_probed();
  for (; probed < 100; ++probed) {
    admit(taught.scheduler, 32, 1, 0);
    const Decision merged = taught.scheduler.next(0);
    CHECK(merged.batch.size() > 1);
    end(taught.scheduler, merged.batch, kFixed, 0);
    if (!merged.probe) break;
    CHECK(merged.batch.size() <= 4);  // what is probed runs alone, too
    taught.scheduler.note_probed();
  }
  CHECK_EQ(probed, 8);
}

TEST("a part is never probed, and while batches are it is a batch of its own") {
  Taught taught(Merging::probe);
  taught.scheduler.set_merging(Merging::yes);
  taught.scheduler.admit(request_of(1, 80), 0);
  for (int place = 0; place < 3; ++place) taught.scheduler.admit(request_of(1), 0);
  std::int64_t rows = 0;
  for (Decision next = taught.scheduler.next(0); !next.batch.empty(); next = taught.scheduler.next(0)) {
    rows += rows_of(next.batch);
    if (next.batch.size() == 1) continue;
    CHECK(next.probe);
    for (const Slice& slice : next.batch) CHECK(slice.whole());
  }
  CHECK_EQ(rows, 83);
}

TEST("a request in parts that cannot be joined waits again to run whole, and the parts under way count on their own") {
  for (const bool all_handed_out : {false, true}) {
    Taught taught(Merging::yes, /*instances=*/4);
    Scheduler& scheduler = taught.scheduler;
    const RequestPtr large = request_of(1, 80);
    scheduler.admit(large, 0);
    std::vector<Decision> parts;
    do {
      parts.push_back(scheduler.next(0));
    } while (parts.size() < (all_handed_out ? 4u : 2u) && large->in_queue);
    scheduler.set_merging(Merging::no);
    scheduler.requeue_whole(large);
    scheduler.requeue_whole(large);  // the next part finds the same
    CHECK_EQ(scheduler.queued_rows(), 80);
    CHECK_EQ(scheduler.queued_requests(), 1);
    CHECK_EQ(scheduler.queued_bytes(), large->bytes);
    for (const Decision& part : parts) end(scheduler, part.batch, kFixed, 1);
    const Decision whole = scheduler.next(2);
    CHECK(only(whole) == large);
    CHECK(whole.batch[0].whole());
    end(scheduler, whole.batch, kFixed, 3);
    CHECK_EQ(large->rows_unfinished, 0);
    check_empty(scheduler);
  }
}

TEST("what waits of a request in parts runs whole once rows may not share runs") {
  Taught taught(Merging::yes);
  const RequestPtr large = request_of(1, 80);
  taught.scheduler.admit(large, 0);
  const Decision part = taught.scheduler.next(0);
  CHECK(!part.batch[0].whole());
  taught.scheduler.set_merging(Merging::no);
  end(taught.scheduler, part.batch, kFixed, 1);
  const Decision whole = taught.scheduler.next(1);
  CHECK(only(whole) == large);
  CHECK(whole.batch[0].whole());
  end(taught.scheduler, whole.batch, kFixed, 2);
  CHECK_EQ(large->rows_unfinished, 0);
  check_empty(taught.scheduler);
}

TEST("a probe that has found out nothing is repeated") {
  Taught taught(Merging::probe);
  for (int turn = 0; turn < 3; ++turn) {
    admit(taught.scheduler, 4, 1, turn);
    const Decision decision = taught.scheduler.next(turn);
    CHECK(decision.probe);
    CHECK_EQ(decision.batch.size(), 4u);
    taught.scheduler.set_merging(Merging::probe);
    end(taught.scheduler, decision.batch, kFixed, turn);
  }
  taught.scheduler.set_merging(Merging::no);
  admit(taught.scheduler, 4, 1, 9);
  const Decision decision = taught.scheduler.next(9);
  CHECK(!decision.probe);
  CHECK_EQ(decision.batch.size(), 1u);
}

TEST("a request of more rows than a batch is probed by itself") {
  Taught taught(Merging::probe);
  const RequestPtr large = request_of(1, 33);
  taught.scheduler.admit(large, 0);
  const Decision decision = taught.scheduler.next(0);
  CHECK(decision.probe);
  CHECK(only(decision) == large);
  CHECK_EQ(taught.scheduler.merging(), Merging::probing);
  Taught fits(Merging::probe);
  fits.scheduler.admit(request_of(1, 32), 0);
  CHECK(!fits.scheduler.next(0).probe);
}

TEST("a large request that was probed and may run in parts waits again, in its place, and does so") {
  Taught taught(Merging::probe);
  Scheduler& scheduler = taught.scheduler;
  const RequestPtr large = request_of(1, 80);
  scheduler.admit(large, 0);
  const Decision probe = scheduler.next(0);
  REQUIRE(probe.probe && probe.batch.size() == 1);
  const RequestPtr later = request_of(1, 20);
  scheduler.admit(later, 10);
  scheduler.set_merging(Merging::yes);
  scheduler.requeue(large);
  CHECK_EQ(scheduler.running_batches(), 0);
  CHECK_EQ(scheduler.queued_rows(), 100);
  CHECK_EQ(scheduler.queued_requests(), 2);
  CHECK_EQ(scheduler.queued_bytes(), large->bytes + later->bytes);
  const Decision first = scheduler.next(20);
  REQUIRE(first.batch.size() == 1);
  CHECK(first.batch[0].request == large);
  CHECK(first.batch[0].first_row == 0 && first.batch[0].rows == 32);
  std::int64_t rows = 32;
  for (Decision next = scheduler.next(20); !next.batch.empty(); next = scheduler.next(20)) rows += rows_of(next.batch);
  CHECK_EQ(rows, 100);
  check_empty(scheduler);
}

TEST("a large request that waits again can be forgotten, or expire, once") {
  for (const bool expires : {false, true}) {
    Taught taught(Merging::probe);
    const RequestPtr large = request_of(1, 80, expires ? 50'000'000 : kNever);
    taught.scheduler.admit(large, 0);
    taught.scheduler.next(0);
    taught.scheduler.set_merging(Merging::yes);
    taught.scheduler.requeue(large);
    if (expires) {
      CHECK(taught.scheduler.next(60'000'000).expired == std::vector<RequestPtr>{large});
    } else {
      CHECK(taught.scheduler.forget(*large, 5));
      CHECK(!taught.scheduler.forget(*large, 5));
    }
    check_empty(taught.scheduler);
    CHECK(taught.scheduler.next(70'000'000).batch.empty());
    CHECK_EQ(large->rows_unfinished, 0);
  }
}

TEST("while an instance probes, large requests wait for what it finds, and small ones of other shapes do not") {
  for (const Merging found : {Merging::yes, Merging::no}) {
    Taught taught(Merging::probe, /*instances=*/3);
    Scheduler& scheduler = taught.scheduler;
    scheduler.admit(request_of(1, 40), 0);
    const Decision probe = scheduler.next(0);
    REQUIRE(probe.probe);
    const RequestPtr large = request_of(1, 40);
    const RequestPtr small = request_of(2);
    scheduler.admit(large, 1);
    CHECK_EQ(scheduler.plan(1).instances, 0);
    CHECK(scheduler.next(1).batch.empty());
    CHECK_EQ(scheduler.next(1).wake_at, kNever);
    scheduler.admit(small, 2);
    CHECK(only(scheduler.next(2)) == small);
    CHECK(scheduler.next(2).batch.empty());
    scheduler.set_merging(found);
    end(scheduler, probe.batch, kFixed, 3);
    CHECK(scheduler.plan(3).instances > 0);
    CHECK(scheduler.next(3).batch.at(0).request == large);
  }
}

TEST("a probe that has only dead requests is none") {
  Taught taught(Merging::probe);
  for (const RequestPtr& request : admit(taught.scheduler, 4, 1, 0)) taught.scheduler.forget(*request, 0);
  CHECK(!taught.scheduler.next(0).probe);
  CHECK_EQ(taught.scheduler.merging(), Merging::probe);
}

TEST("a lone caller may run on its own thread, and counts as running meanwhile") {
  Taught taught(Merging::yes);
  const RequestPtr request = request_of(1, 3);
  CHECK(taught.scheduler.begin_inline(*request, 2 * kFixed, 7));
  CHECK_EQ(request->arrival, 7);
  CHECK(!request->in_queue);
  CHECK_EQ(taught.scheduler.running_batches(), 1);
  check_empty(taught.scheduler);
  const RequestPtr queued = request_of(1);
  taught.scheduler.admit(queued, 8);
  CHECK_EQ(taught.scheduler.plan(8).instances, 0);  // its one instance is taken
  end(taught.scheduler, {{request, 0, 3}}, kFixed, 9);
  CHECK_EQ(taught.scheduler.running_batches(), 0);
  CHECK_EQ(taught.scheduler.plan(9).instances, 1);
}

TEST("nothing runs on its caller's thread while something runs, waits or stands at the admission queue") {
  Taught taught(Merging::yes, /*instances=*/2);
  const RequestPtr own = request_of(1);
  const RequestPtr other = request_of(2);
  taught.scheduler.admit(other, 0);
  CHECK(!taught.scheduler.begin_inline(*own, 2 * kFixed, 0));
  const Decision decision = taught.scheduler.next(0);
  CHECK(!taught.scheduler.begin_inline(*own, 2 * kFixed, 0));
  CHECK_EQ(taught.scheduler.running_batches(), 1);
  end(taught.scheduler, decision.batch, kFixed, 0);
  CHECK(taught.scheduler.begin_inline(*own, 2 * kFixed, 0));
}

TEST("nothing runs on its caller's thread that takes too long, or nobody knows how long") {
  Taught taught(Merging::yes);
  CHECK(!taught.scheduler.begin_inline(*request_of(1), kFixed, 0));
  CHECK(!taught.scheduler.begin_inline(*request_of(2), kNever, 0));  // a shape that has never run
  CHECK(taught.scheduler.begin_inline(*request_of(1), kFixed + 100, 0));
}

TEST("nothing runs on its caller's thread that is over the limits or must go in parts") {
  Taught taught(Merging::yes);
  CHECK(!taught.scheduler.begin_inline(*request_of(1, 33), kNever, 0));
  CHECK(!taught.scheduler.begin_inline(*request_of(1, 5'000), kNever, 0));
  CHECK(taught.scheduler.begin_inline(*request_of(1, 32), kNever, 0));
  Taught unmerged(Merging::no);
  const RequestPtr heavy = request_of(1, 33);
  heavy->bytes = SchedulerOptions().max_queue_bytes + 1;
  CHECK(!unmerged.scheduler.begin_inline(*heavy, kNever, 0));
  CHECK(unmerged.scheduler.begin_inline(*request_of(1, 5'000), kNever, 0));  // nothing else waits
}

TEST("nothing runs on its caller's thread while others have called recently") {
  Taught taught(Merging::yes);
  admit(taught.scheduler, 2, 1, 0);
  end(taught.scheduler, taught.scheduler.next(0).batch, kFixed, 10);
  CHECK_EQ(taught.scheduler.running_batches(), 0);
  const RequestPtr request = request_of(1);
  CHECK(!taught.scheduler.begin_inline(*request, kNever, 20));
  Nanos now = 20;
  for (int call = 0; call < 100; ++call) {
    taught.scheduler.admit(request_of(1), now += 10);
    Decision decision = taught.scheduler.next(now);
    while (decision.batch.empty()) decision = taught.scheduler.next(now = decision.wake_at);
    end(taught.scheduler, decision.batch, kFixed, now += 10);
  }
  CHECK(taught.scheduler.begin_inline(*request, kNever, now));
}
