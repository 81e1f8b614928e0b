// Random histories of the scheduler against what must hold whatever happens: nobody is lost, ends twice, or runs
// after its end; limits hold; nothing is mixed; every delay ends.
#include <map>
#include <random>

#include "scheduling.h"

using namespace fakes;

namespace {

// What the history knows of an accepted request.
struct Known {
  RequestPtr request;
  Nanos key = 0;  // when it is due, as long as no part of it has been handed out
  std::uint64_t order = 0;
  std::int64_t number = 0;     // of those accepted
  std::int64_t let_in_at = 0;  // number of decisions asked for until then
  std::int64_t next_row = 0;
  bool queued = false;
  bool awaiting_admission = false;
  int ends = 0;  // ways it has left: all rows handed out, expired, forgotten, or taken
};

struct Running {
  Batch batch;
  bool probe = false;
};

class History {
 public:
  explicit History(std::uint32_t seed) : random_(seed), options_(random_options()), scheduler_(options_) {
    instances_ = 1 + pick(4);
    scheduler_.set_instances(instances_);
    forgets_ = pick(2) == 0;
    collide_ = pick(4) == 0;
    run_ns_ = pick(3) == 0 ? 10 : 5'000;
  }

  void live() {
    for (int step = 0; step < 500; ++step) {
      now_ += pick(pick(10) == 0 ? 3'000 : 60);
      const int action = pick(20);
      if (action < 9) {
        come();
      } else if (action < 11 && forgets_) {
        forget();
      } else if (action < 15) {
        finish();
      } else if (action == 15 && pick(20) == 0) {
        take_all();
      } else {
        ask();
      }
      check_counts();
    }
    if (pick(2) == 0) scheduler_.close();
    while (queued_requests() > 0 || !running_.empty()) {
      ask();
      finish();
      now_ += 10;
      check_counts();
    }
    take_all();
    for (const auto& [request, known] : known_) {
      CHECK_EQ(known.ends, 1);
      CHECK_EQ(request->rows_unfinished, 0);
      CHECK(!request->in_queue && !request->awaiting_admission);
      request->release_kept_inputs(releases_);
    }
    ledger_.drain(releases_);
    CHECK_EQ(ledger_.held(), 0u);
  }

 private:
  int pick(int below) { return static_cast<int>(random_() % static_cast<unsigned>(below)); }

  SchedulerOptions random_options() {
    SchedulerOptions options;
    options.max_batch_size = 1 + pick(20);
    options.max_queue_rows = 20 + pick(200);
    options.max_queue_bytes = static_cast<std::size_t>(100 + pick(3'000));
    options.max_delay = pick(3) == 0 ? pick(2'000) : kNever;
    const Merging kinds[] = {Merging::yes, Merging::yes, Merging::yes, Merging::probe, Merging::no};
    options.merging = kinds[pick(5)];
    if (pick(4) == 0) options.policy = Policy::eager;
    return options;
  }

  void come() {
    const std::int64_t rows = 1 + pick(pick(8) == 0 ? 100 : 5);
    const Nanos deadline = pick(3) != 0 ? kNever : now_ + pick(pick(2) == 0 ? 200 : 30'000);
    const RequestPtr request = request_for(ledger_, 0, rows, deadline, /*width=*/1 + pick(3));
    if (collide_) request->signature = 5;
    request->waits_for_room = pick(2) == 0;
    const bool room = (scheduler_.queued_requests() == 0 || queued_rows() + rows <= options_.max_queue_rows) &&
                      queued_bytes() + request->bytes <= options_.max_queue_bytes;
    const Admission admission = scheduler_.admit(request, now_);
    if (request->bytes > options_.max_queue_bytes) {
      CHECK_EQ(admission, Admission::bytes_over_limit);
    } else if (request->waits_for_room && (!room || awaiting_admission() > 0)) {
      CHECK_EQ(admission, Admission::waits_for_room);
    } else if (room && (admission == Admission::would_be_late || admission == Admission::infeasible)) {
      CHECK(deadline != kNever && options_.policy == Policy::adaptive);
    } else if (room) {
      CHECK_EQ(admission, Admission::accepted);
    } else {
      CHECK(admission == Admission::too_many_rows || admission == Admission::too_many_bytes);
    }
    if (admission == Admission::accepted || admission == Admission::waits_for_room) {
      Known& known = known_[request];
      known.request = request;
      known.number = std::int64_t(known_.size());
      known.awaiting_admission = admission == Admission::waits_for_room;
      if (!known.awaiting_admission) let_in(known);
    } else {
      ledger_.take_back(*request);
    }
  }

  void let_in(Known& known) {
    known.queued = true;
    known.awaiting_admission = false;
    known.key = std::min(known.request->deadline, now_ + RequestQueue::kSlack[1]);
    known.order = order_++;
    known.let_in_at = decisions_;
  }

  // The scheduler says itself who has come in from the admission queue; this checks that they came in order.
  void follow_door() {
    bool still_waits = false;
    std::map<std::int64_t, Known*> waiting;
    for (auto& [request, known] : known_) {
      if (known.awaiting_admission) waiting[known.number] = &known;
    }
    for (auto& [number, known] : waiting) {
      if (known->request->awaiting_admission) {
        still_waits = true;
      } else {
        CHECK(!still_waits);
        let_in(*known);
      }
    }
  }

  void forget() {
    std::map<std::int64_t, Known*> waiting;
    for (auto& [request, known] : known_) {
      if (known.queued || known.awaiting_admission) waiting[known.number] = &known;
    }
    if (waiting.empty()) return;
    Known& known = *std::next(waiting.begin(), pick(int(waiting.size())))->second;
    CHECK(scheduler_.forget(*known.request, now_));
    leave(known);
    follow_door();
    CHECK(!scheduler_.forget(*known.request, now_));
  }

  // It has ended, and the queue's hold on its inputs with it.
  void leave(Known& known) {
    known.queued = known.awaiting_admission = false;
    ++known.ends;
    known.request->release_inputs(releases_);
  }

  void take_all() {
    std::int64_t waiting = queued_requests() + awaiting_admission();
    for (const RequestPtr& request : fakes::take_all(scheduler_, now_)) {
      Known& known = known_[request];
      CHECK(known.queued || known.awaiting_admission);
      leave(known);
      --waiting;
    }
    CHECK_EQ(waiting, 0);
  }

  // As an idle instance does.
  void ask() {
    if (std::int64_t(running_.size()) >= instances_) {
      CHECK_EQ(scheduler_.plan(now_).instances, 0);
      return;
    }
    const bool planned = pick(2) == 0;
    const Plan plan = planned ? scheduler_.plan(now_) : Plan();
    const bool waits = queued_requests() > 0;
    Decision decision = scheduler_.next(now_);
    if (planned) {
      CHECK(plan.instances <= instances_ - std::int64_t(running_.size()));
      if (plan.instances == 0) CHECK(decision.batch.empty() && decision.wake_at == plan.wake_at);
      // Dead entries may be planned for, too.
      if (plan.instances > 0 && !forgets_)
        CHECK(waits && !(decision.batch.empty() && decision.expired.empty() && decision.shed.empty()));
    }
    take(decision);
    if (!decision.batch.empty()) return;
    if (queued_requests() == 0) {
      CHECK_EQ(decision.wake_at, kNever);
      return;
    }
    // Held back. If nothing else happens the delay ends by itself.
    if (scheduler_.merging() == Merging::probing) {  // large ones wait for what it finds
      CHECK_EQ(decision.wake_at, kNever);
      CHECK(large_ones_wait());
      return;
    }
    CHECK(decision.wake_at != kNever && decision.wake_at > now_);
    CHECK(scheduler_.merging() == Merging::yes && options_.max_delay != 0);
    CHECK_EQ(std::int64_t(running_.size()), instances_ - 1);
    if (pick(2) == 0 || decision.wake_at == kNever) return;
    now_ = decision.wake_at;
    for (int plans = pick(3); plans > 0; --plans) CHECK(scheduler_.plan(now_).instances > 0);
    decision = scheduler_.next(now_);
    CHECK(!decision.batch.empty() || !decision.expired.empty() || !decision.shed.empty());
    take(decision);
  }

  void take(const Decision& decision) {
    ++decisions_;
    follow_door();
    for (const RequestPtr& request : decision.expired) {
      Known& known = known_[request];
      CHECK(known.queued && request->deadline <= now_);
      leave(known);
    }
    for (const RequestPtr& request : decision.shed) {
      Known& known = known_[request];
      CHECK(known.queued && request->deadline != kNever && request->deadline > now_);
      CHECK(options_.policy == Policy::adaptive);
      leave(known);
    }
    if (decision.batch.empty()) return;
    check_batch(decision);
    for (const Slice& slice : decision.batch) {
      Known& known = known_[slice.request];
      known.next_row += slice.rows;
      if (known.next_row < slice.request->rows) continue;
      known.queued = false;
      ++known.ends;
    }
    running_.push_back({decision.batch, decision.probe});
  }

  void check_batch(const Decision& decision) {
    const Batch& batch = decision.batch;
    const Merging merging = scheduler_.merging();
    if (merging == Merging::yes) CHECK(rows_of(batch) <= options_.max_batch_size);
    if (merging == Merging::no || (merging == Merging::probing && !decision.probe)) CHECK_EQ(batch.size(), 1u);
    CHECK(!decision.probe || merging == Merging::probing || merging == Merging::yes);
    std::map<RequestPtr, std::int64_t> in_batch;
    Place last;
    for (const Slice& slice : batch) {
      Known& known = known_[slice.request];
      if (merging == Merging::no && slice.request->in_one_run) known.next_row = 0;
      CHECK(known.queued && known.ends == 0);
      CHECK(slice.request->deadline > now_);
      CHECK(slice.rows >= 1);
      CHECK_EQ(slice.first_row, known.next_row);
      CHECK(same_beyond_rows(slice.request->inputs, batch[0].request->inputs));
      CHECK_EQ(++in_batch[slice.request], 1);
      if (known.next_row > 0) continue;
      CHECK(last < (Place{known.key, known.order}) || last.key == 0);
      last = {known.key, known.order};
    }
    // Of its kind nobody was passed who had not begun.
    for (const auto& [request, known] : known_) {
      if (!known.queued || known.next_row > 0 || in_batch.count(request) > 0 || last.key == 0) continue;
      if (known.let_in_at == decisions_) continue;  // by this very batch, maybe
      if (same_beyond_rows(request->inputs, batch[0].request->inputs)) CHECK(last < (Place{known.key, known.order}));
    }
  }

  void finish() {
    if (running_.empty()) return;
    const std::size_t place = std::size_t(pick(int(running_.size())));
    const Running done = running_[place];
    running_.erase(running_.begin() + std::ptrdiff_t(place));
    if (done.probe) {
      settle_merging(pick(3));
      if (scheduler_.merging() == Merging::yes && rows_of(done.batch) > options_.max_batch_size) {
        requeue(known_[done.batch.front().request]);
        return;
      }
    }
    for (const Slice& slice : done.batch) slice.request->release_inputs(releases_);
    std::vector<RunRecord> runs;
    for (int run = pick(3); run > 0; --run) {
      runs.push_back(ran(rows_of(done.batch), run_ns_ + pick(20) * rows_of(done.batch)));
      runs.back().failed = pick(5) == 0;
      runs.back().first_of_its_size = pick(5) == 0;
    }
    scheduler_.done(done.batch, runs, now_);
    follow_door();
  }

  // As a dispatcher does: that rows differ is final, and nothing else ends what is settled.
  void settle_merging(int found) {
    const Merging before = scheduler_.merging();
    if (found == 0 && before == Merging::probing) scheduler_.set_merging(Merging::probe);
    if (found == 1 && before != Merging::no) scheduler_.set_merging(Merging::yes);
    if (found == 2) scheduler_.set_merging(Merging::no);
  }

  // It was probed whole, and is to run in parts. It is due as it was.
  void requeue(Known& known) {
    scheduler_.requeue(known.request);
    known.queued = true;
    known.next_row = 0;
    known.order = order_++;
    --known.ends;
  }

  bool large_ones_wait() const {
    return std::any_of(known_.begin(), known_.end(), [&](const auto& entry) {
      return entry.second.queued && entry.first->rows > options_.max_batch_size;
    });
  }

  std::int64_t queued_requests() const {
    return sum([](const Known&) { return 1; });
  }
  std::int64_t queued_rows() const {
    return sum([](const Known& known) { return known.request->rows - known.next_row; });
  }
  std::size_t queued_bytes() const {
    return std::size_t(sum([](const Known& known) { return std::int64_t(known.request->bytes); }));
  }
  std::int64_t awaiting_admission() const {
    return std::count_if(known_.begin(), known_.end(),
                         [](const auto& entry) { return entry.second.awaiting_admission; });
  }
  template <typename Amount>
  std::int64_t sum(const Amount& amount) const {
    std::int64_t total = 0;
    for (const auto& [request, known] : known_) {
      if (known.queued) total += amount(known);
    }
    return total;
  }

  void check_counts() const {
    CHECK_EQ(scheduler_.queued_requests(), queued_requests());
    CHECK_EQ(scheduler_.queued_rows(), queued_rows());
    CHECK_EQ(scheduler_.queued_bytes(), queued_bytes());
    CHECK_EQ(scheduler_.waiting_for_room(), awaiting_admission());
    CHECK_EQ(scheduler_.running_batches(), std::int64_t(running_.size()));
    if (options_.merging == Merging::probe) return;  // one that was put back is over the limits
    CHECK(scheduler_.queued_rows() <= options_.max_queue_rows || scheduler_.queued_requests() == 1);
    CHECK(scheduler_.queued_bytes() <= options_.max_queue_bytes);
  }

  std::mt19937 random_;
  const SchedulerOptions options_;
  Scheduler scheduler_;
  Ledger ledger_;
  ReleaseList releases_;
  std::map<RequestPtr, Known> known_;
  std::vector<Running> running_;
  std::uint64_t order_ = 0;
  std::int64_t decisions_ = 0;
  std::int64_t instances_ = 1;
  bool forgets_ = false;
  bool collide_ = false;
  Nanos run_ns_ = 0;
  Nanos now_ = 1;
};

}  // namespace

TEST("random histories lose nobody, end nobody twice, and keep to the limits") {
  const std::int64_t histories = harness::scaled(300);
  for (std::int64_t seed = 1; seed <= histories; ++seed) History(static_cast<std::uint32_t>(seed)).live();
}
