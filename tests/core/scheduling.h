// The scheduler driven by hand: time is a number that the test passes in, and nothing runs.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "check.h"
#include "ledger.h"
#include "scheduling/scheduler.h"

namespace fakes {

using namespace paddleinfer;

// Requests of one width may share a batch.
inline RequestPtr request_of(std::int64_t width, std::int64_t rows = 1, Nanos deadline = kNever) {
  auto request = std::make_shared<Request>();
  TensorView view;
  view.shape.rank = 2;
  view.shape.dims[0] = rows;
  view.shape.dims[1] = width;
  request->inputs = {view};
  request->rows = rows;
  request->bytes = view.bytes();
  request->signature = signature_of(request->inputs, false);
  request->deadline = deadline;
  return request;
}

inline SchedulerOptions with_merging(Merging merging) {
  SchedulerOptions options;
  options.merging = merging;
  return options;
}

inline std::vector<RequestPtr> requests_in(const Batch& batch) {
  std::vector<RequestPtr> requests;
  for (const Slice& slice : batch) requests.push_back(slice.request);
  return requests;
}

// All that waits, a few at a time.
inline std::vector<RequestPtr> take_all(Scheduler& scheduler, Nanos now) {
  std::vector<RequestPtr> all;
  std::array<RequestPtr, 4> taken;
  while (const std::size_t count = scheduler.drain(taken, now)) {
    for (std::size_t place = 0; place < count; ++place) all.push_back(std::move(taken[place]));
  }
  return all;
}

// The request of a batch that holds one, all of it.
inline RequestPtr only(const Decision& decision) {
  CHECK_EQ(decision.batch.size(), 1u);
  if (decision.batch.empty()) return nullptr;
  CHECK(decision.batch.front().whole());
  return decision.batch.front().request;
}

// One run that took so long ended well.
inline void end(Scheduler& scheduler, const Batch& batch, Nanos run_ns, Nanos now) {
  RunRecord ran;
  ran.rows = rows_of(batch);
  ran.run_ns = run_ns;
  scheduler.done(batch, {ran}, now);
}

inline SchedulerOptions eager() {
  SchedulerOptions options;
  options.policy = Policy::eager;
  return options;
}

inline RunRecord ran(std::int64_t rows, Nanos run_ns) {
  RunRecord run;
  run.rows = rows;
  run.run_ns = run_ns;
  return run;
}

// Has the bucket of that width learn that n rows take fixed + per_row * n, up to so many rows. One request of one
// row comes and goes for it.
inline void teach(Scheduler& scheduler, std::int64_t width, Nanos fixed, Nanos per_row, std::int64_t up_to,
                  Nanos now = 0) {
  REQUIRE(scheduler.admit(request_of(width), now) == Admission::accepted);
  const Decision decision = scheduler.next(now);
  REQUIRE(decision.batch.size() == 1);
  std::vector<RunRecord> runs;
  for (std::int64_t rows = 1; rows <= up_to; rows *= 2) {
    RunRecord ran;
    ran.rows = rows;
    ran.run_ns = fixed + per_row * rows;
    runs.push_back(ran);
  }
  scheduler.done(decision.batch, runs, now);
}

inline std::vector<RequestPtr> admit(Scheduler& scheduler, int count, std::int64_t width, Nanos now) {
  std::vector<RequestPtr> requests;
  for (int place = 0; place < count; ++place) {
    requests.push_back(request_of(width));
    CHECK_EQ(scheduler.admit(requests.back(), now), Admission::accepted);
  }
  return requests;
}

inline void check_empty(const Scheduler& scheduler) {
  CHECK_EQ(scheduler.queued_requests(), 0);
  CHECK_EQ(scheduler.queued_rows(), 0);
  CHECK_EQ(scheduler.queued_bytes(), 0u);
  CHECK_EQ(scheduler.waiting_for_room(), 0);
}

// Requests that count how many of them live.
struct Counted {
  std::int64_t alive = 0;
  std::int64_t most = 0;

  RequestPtr make(std::int64_t width) {
    most = std::max(most, ++alive);
    RequestPtr request(new Request, [this](Request* gone) {
      --alive;
      delete gone;
    });
    const RequestPtr like = request_of(width);
    request->inputs = like->inputs;
    request->signature = like->signature;
    return request;
  }
};

}  // namespace fakes
