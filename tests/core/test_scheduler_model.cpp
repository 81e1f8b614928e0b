// The scheduler against a reference that is too simple to be wrong: a list, searched from its oldest entry.
#include <random>

#include "fakes.h"
#include "scheduler.h"

using namespace paddleinfer;

namespace {

class Reference {
 public:
  explicit Reference(const SchedulerOptions& options) : options_(options) {}

  Admission admit(const RequestPtr& request) {
    if (request->rows > options_.max_queue_rows) return Admission::rows_over_limit;
    if (request->bytes > options_.max_queue_bytes) return Admission::bytes_over_limit;
    if (rows() + request->rows > options_.max_queue_rows) return Admission::too_many_rows;
    if (bytes() + request->bytes > options_.max_queue_bytes) return Admission::too_many_bytes;
    queue_.push_back(request);
    return Admission::accepted;
  }

  Decision next(Nanos now) {
    Decision decision;
    while (!queue_.empty() && decision.batch.empty()) {
      const bool late = queue_.front()->deadline <= now;
      (late ? decision.expired : decision.batch).push_back(queue_.front());
      queue_.erase(queue_.begin());
    }
    return decision;
  }

  void forget(const RequestPtr& request) {
    queue_.erase(std::remove(queue_.begin(), queue_.end(), request), queue_.end());
  }

  std::vector<RequestPtr> take_all() { return std::exchange(queue_, {}); }

  std::int64_t rows() const {
    return std::accumulate(queue_.begin(), queue_.end(), std::int64_t{0},
                           [](std::int64_t sum, const RequestPtr& request) { return sum + request->rows; });
  }
  std::size_t bytes() const {
    return std::accumulate(queue_.begin(), queue_.end(), std::size_t{0},
                           [](std::size_t sum, const RequestPtr& request) { return sum + request->bytes; });
  }
  const std::vector<RequestPtr>& queue() const { return queue_; }

 private:
  const SchedulerOptions options_;
  std::vector<RequestPtr> queue_;
};

void compare(std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto pick = [&](int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); };
  SchedulerOptions options;
  options.max_queue_rows = 1 + pick(300);
  options.max_queue_bytes = static_cast<std::size_t>(1 + pick(3000));
  Scheduler scheduler(options);
  Reference reference(options);
  const int signatures = 1 + pick(6);
  const int forgets = 1 + pick(6);  // how often requests are forgotten, of ten
  std::vector<RequestPtr> gone;
  std::int64_t running = 0;
  Nanos now = 0;
  for (int step = 0; step < 600; ++step) {
    now += pick(5);
    const int action = pick(20);
    if (action < 10) {
      auto request = std::make_shared<Request>();
      request->signature = static_cast<std::uint64_t>(pick(signatures)) * 0x9e3779b97f4a7c15u;
      request->rows = 1 + pick(pick(10) == 0 ? 400 : 8);
      request->bytes = static_cast<std::size_t>(pick(pick(10) == 0 ? 4000 : 80));
      request->deadline = pick(2) == 0 ? kNever : now + pick(60);
      const Admission expected = reference.admit(request);
      CHECK_EQ(scheduler.admit(request, now), expected);
      CHECK_EQ(request->in_queue, expected == Admission::accepted);
    } else if (action < 10 + forgets && !reference.queue().empty()) {
      const RequestPtr request = reference.queue()[static_cast<std::size_t>(pick(int(reference.queue().size())))];
      reference.forget(request);
      scheduler.forget(*request);
      gone.push_back(request);
    } else if (action == 16 && !gone.empty()) {
      scheduler.forget(*gone[static_cast<std::size_t>(pick(int(gone.size())))]);
    } else if (action == 17 && pick(30) == 0) {
      const std::vector<RequestPtr> taken = scheduler.take_all();
      CHECK(taken == reference.take_all());
      gone.insert(gone.end(), taken.begin(), taken.end());
    } else {
      const Decision expected = reference.next(now);
      const Decision decision = scheduler.next(now);
      CHECK(decision.batch == expected.batch);
      CHECK(decision.expired == expected.expired);
      if (!decision.batch.empty()) ++running;
      if (pick(2) == 0) {
        scheduler.done(decision.batch);
        if (!decision.batch.empty()) --running;
      }
      gone.insert(gone.end(), decision.batch.begin(), decision.batch.end());
      gone.insert(gone.end(), decision.expired.begin(), decision.expired.end());
    }
    CHECK_EQ(scheduler.queued_requests(), static_cast<std::int64_t>(reference.queue().size()));
    CHECK_EQ(scheduler.queued_rows(), reference.rows());
    CHECK_EQ(scheduler.queued_bytes(), reference.bytes());
    CHECK_EQ(scheduler.running_batches(), running);
  }
  CHECK(scheduler.take_all() == reference.take_all());
  for (const RequestPtr& request : gone) CHECK(!request->in_queue);
}

}  // namespace

TEST("random histories go as in a naive scheduler") {
  const std::int64_t histories = harness::scaled(600);
  for (std::int64_t seed = 1; seed <= histories; ++seed) compare(static_cast<std::uint32_t>(seed));
}

TEST("a batch never mixes signatures") {
  std::mt19937 random(1);
  Scheduler scheduler({});
  for (int step = 0; step < 20'000; ++step) {
    if (random() % 2 == 0) {
      auto request = std::make_shared<Request>();
      request->signature = random() % 4;
      scheduler.admit(request, step);
    } else {
      const Decision decision = scheduler.next(step);
      for (const RequestPtr& request : decision.batch) CHECK_EQ(request->signature, decision.batch[0]->signature);
      scheduler.done(decision.batch);
    }
  }
}
