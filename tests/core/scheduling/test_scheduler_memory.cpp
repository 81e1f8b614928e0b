// Runs that are out of memory: how small batches become, and how they grow again.
#include "served.h"

using namespace fakes;
using namespace harness;

TEST("a batch that was out of memory halves those that follow, 64 good runs double them again") {
  Served served(eager());
  const auto rows_of_a_batch = [&] {
    while (served.scheduler.queued_requests() < 40) served.accepted(kNever);
    return rows_of(served.run().batch);
  };
  CHECK_EQ(rows_of_a_batch(), 32);
  const auto fail = [&](std::int64_t rows) {
    RunRecord ran;
    ran.rows = rows;
    ran.failed = ran.out_of_memory = true;
    while (served.scheduler.queued_requests() < 40) served.accepted(kNever);
    served.scheduler.done(served.scheduler.next(served.now).batch, {ran}, served.now);
  };
  fail(32);
  for (int run = 0; run < 10; ++run) CHECK_EQ(rows_of_a_batch(), 16);
  fail(16);
  for (int run = 0; run < 64; ++run) CHECK_EQ(rows_of_a_batch(), 8);
  for (int run = 0; run < 64; ++run) CHECK_EQ(rows_of_a_batch(), 16);
  CHECK_EQ(rows_of_a_batch(), 32);
  for (int run = 0; run < 1'000; ++run) fail(1);  // one row alone: smaller batches are no help
  CHECK_EQ(rows_of_a_batch(), 32);
}

TEST("a batch whose every half was out of memory leaves batches of one row, and the queue goes on") {
  Served served;
  const Batch batch = served.occupy();
  std::vector<RunRecord> runs;
  for (const std::int64_t rows : {32, 16, 8, 4, 2, 1, 1, 2, 1, 1, 4, 2, 1, 1, 2, 1, 1, 8, 4, 2, 1, 1, 2}) {
    RunRecord ran;
    ran.rows = rows;
    ran.failed = ran.out_of_memory = true;
    runs.push_back(ran);
  }
  served.scheduler.done(batch, runs, served.now);
  const RequestPtr several = served.accepted(kNever, 3);
  const RequestPtr urgent = served.accepted(kNanosPerSecond);
  std::int64_t rows = 0;
  for (int run = 0; run < 4; ++run) {
    const Decision decision = served.run();
    CHECK_EQ(rows_of(decision.batch), 1);
    rows += rows_of(decision.batch);
  }
  CHECK_EQ(rows, 4);
  CHECK(!several->in_queue && !urgent->in_queue);
  check_empty(served.scheduler);
}

TEST("one bucket's lack of memory is not another's") {
  Scheduler scheduler(eager());
  RunRecord ran;
  ran.rows = 32;
  ran.failed = ran.out_of_memory = true;
  admit(scheduler, 32, 1, 0);
  scheduler.done(scheduler.next(0).batch, {ran}, 0);
  admit(scheduler, 32, 2, 0);
  CHECK_EQ(rows_of(scheduler.next(0).batch), 32);
}

TEST("the cap that memory sets goes away in the end") {
  Bucket bucket(request_of(1)->inputs);
  CHECK_EQ(bucket.memory_cap, Bucket::kNoCap);
  RunRecord failed;
  failed.rows = 30;
  failed.out_of_memory = failed.failed = true;
  bucket.note_memory(failed);
  CHECK_EQ(bucket.memory_cap, 15);
  failed.rows = 2;  // for one that was already smaller
  bucket.note_memory(failed);
  CHECK_EQ(bucket.memory_cap, 1);
  bucket.note_memory(failed);
  CHECK_EQ(bucket.memory_cap, 1);  // not less than a row
  failed.rows = 1;
  bucket.note_memory(failed);
  CHECK_EQ(bucket.memory_cap, 1);
  for (int run = 0; run < 63 * 64; ++run) bucket.note_memory(ran(1, 10));
  CHECK_EQ(bucket.memory_cap, Bucket::kNoCap);
}
