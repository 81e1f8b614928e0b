// Ends read by a thread that waits for them.
#include "ledger.h"
#include "requests/completion.h"

using namespace harness;
using namespace paddleinfer;

namespace {

RequestPtr ended_request() {
  auto request = std::make_shared<Request>();
  request->claim(Request::State::queued);
  request->publish();
  return request;
}

// Announced first, as the dispatcher does at admission.
void push(CompletionQueue& queue, const std::vector<RequestPtr>& ended) {
  queue.expect(ended.size());
  queue.push(fakes::chain_of(ended));
}

RequestPtr request_until(Nanos deadline) {
  auto request = std::make_shared<Request>();
  request->deadline = deadline;
  return request;
}

}  // namespace

TEST("a reader gets what ended, in order, and is woken for it") {
  CompletionQueue queue(CompletionQueue::Reader::thread);
  std::vector<RequestPtr> requests = {ended_request(), ended_request(), ended_request()};
  std::thread writer([&] {
    sleep_ns(5 * kMillisecond);
    push(queue, {requests[0], requests[1]});
  });
  const CompletionEvents first = queue.wait();
  CHECK((first.ended == std::vector<RequestPtr>{requests[0], requests[1]}));
  CHECK(first.overdue.empty() && !first.stopped);
  writer.join();
  push(queue, {});
  push(queue, {requests[2]});
  CHECK(queue.wait().ended == std::vector<RequestPtr>{requests[2]});
}

TEST("one reader gets all ends of many writers, each once") {
  constexpr int kWriters = 3;
  const std::int64_t each = scaled(20'000);
  CompletionQueue queue(CompletionQueue::Reader::thread);
  std::vector<std::thread> writers;
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&] {
      for (std::int64_t place = 0; place < each; ++place) {
        RequestPtr request = ended_request();
        std::vector<RequestPtr> ended = {request};
        if (place % 3 == 0) ended.push_back(ended_request());
        push(queue, ended);
      }
    });
  }
  std::thread stopper([&] {
    for (std::thread& writer : writers) writer.join();
    queue.stop();
  });
  std::int64_t count = 0;
  std::set<RequestPtr> seen;
  for (;;) {
    const CompletionEvents events = queue.wait();
    if (events.stopped) break;
    count += static_cast<std::int64_t>(events.ended.size());
    seen.insert(events.ended.begin(), events.ended.end());
  }
  stopper.join();
  CHECK_EQ(count, kWriters * (each + (each + 2) / 3));
  CHECK_EQ(static_cast<std::int64_t>(seen.size()), count);
}

TEST("after stop() comes what is left, then `stopped`, again and again") {
  CompletionQueue queue(CompletionQueue::Reader::thread);
  push(queue, {ended_request()});
  push(queue, {ended_request()});
  queue.stop();
  const CompletionEvents left = queue.wait();
  CHECK_EQ(left.ended.size(), 2u);
  CHECK(!left.stopped);
  CHECK(queue.wait().stopped);
  CHECK(queue.wait().stopped);
  push(queue, {ended_request()});
  CHECK_EQ(queue.wait().ended.size(), 1u);
  CHECK(queue.wait().stopped);
}

TEST("stop() takes effect when the last end announced was read, or will not come") {
  CompletionQueue queue(CompletionQueue::Reader::thread);
  queue.expect(3);
  queue.stop();
  const RequestPtr request = ended_request();
  std::atomic<bool> withdrawn{false};
  std::thread writer([&] {
    sleep_ns(5 * kMillisecond);
    queue.push(fakes::chain_of({request}));
    sleep_ns(5 * kMillisecond);
    withdrawn = true;
    queue.expect_less(2);
  });
  CHECK(queue.wait().ended == std::vector<RequestPtr>{request});
  CHECK(queue.wait().stopped);
  CHECK(withdrawn);
  writer.join();
}

TEST("stop() wakes a reader that sleeps") {
  CompletionQueue queue(CompletionQueue::Reader::thread);
  std::thread stopper([&] {
    sleep_ns(5 * kMillisecond);
    queue.stop();
  });
  CHECK(queue.wait().stopped);
  stopper.join();
}

TEST("a watched request comes back at its deadline, not before") {
  CompletionQueue queue(CompletionQueue::Reader::thread);
  const RequestPtr later = request_until(from_now(60 * kMillisecond));
  const RequestPtr sooner = request_until(from_now(20 * kMillisecond));
  const RequestPtr never = request_until(kNever);
  for (const RequestPtr& request : {later, never, sooner}) queue.watch(request);
  std::vector<RequestPtr> overdue;
  while (overdue.size() < 2) {  // both at once where this thread stood still
    for (const RequestPtr& request : queue.wait().overdue) {
      CHECK(monotonic_now() >= request->deadline);
      overdue.push_back(request);
    }
  }
  CHECK(overdue == (std::vector<RequestPtr>{sooner, later}));
  CHECK_EQ(never.use_count(), 1);
  CHECK_EQ(sooner.use_count(), 2);  // ours and the news'
}

TEST("a sleeping reader learns of a sooner deadline") {
  CompletionQueue queue(CompletionQueue::Reader::thread);
  queue.watch(request_until(from_now(3600 * kNanosPerSecond)));
  const RequestPtr sooner = request_until(from_now(30 * kMillisecond));
  std::thread watcher([&] {
    sleep_ns(10 * kMillisecond);
    queue.watch(sooner);
  });
  CHECK(queue.wait().overdue == std::vector<RequestPtr>{sooner});
  watcher.join();
}

TEST("what has ended is not overdue") {
  CompletionQueue queue(CompletionQueue::Reader::thread);
  const RequestPtr ended = ended_request();
  ended->deadline = 1;
  const RequestPtr claimed = request_until(2);
  claimed->claim(Request::State::queued);
  const RequestPtr late = request_until(3);
  for (const RequestPtr& request : {ended, claimed, late}) queue.watch(request);
  CHECK(queue.wait().overdue == std::vector<RequestPtr>{late});
  CHECK_EQ(ended.use_count(), 1);
  CHECK_EQ(claimed.use_count(), 1);
}

TEST("a million watched ones that ended are forgotten long before their deadline") {
  CompletionQueue queue(CompletionQueue::Reader::thread);
  std::int64_t alive = 0;
  std::int64_t most = 0;
  const Nanos deadline = from_now(3600 * kNanosPerSecond);
  std::vector<RequestPtr> living;
  for (int place = 0; place < 1'000'000; ++place) {
    most = std::max(most, ++alive);
    RequestPtr request(new Request, [&](Request* gone) {
      --alive;
      delete gone;
    });
    request->deadline = deadline + place % 100;
    queue.watch(request);
    if (place % 50'000 == 0) {
      living.push_back(std::move(request));
    } else {
      request->claim(Request::State::queued);
      request->publish();
    }
  }
  CHECK(most < 400);
  for (const RequestPtr& request : living) CHECK_EQ(request.use_count(), 2);
}

TEST("requests watched and ended by many threads are each overdue or ended") {
  const std::int64_t each = scaled(3'000);
  CompletionQueue queue(CompletionQueue::Reader::thread);
  std::vector<std::thread> threads;
  std::atomic<std::int64_t> ended_in_time{0};
  for (int thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::int64_t place = 0; place < each; ++place) {
        const RequestPtr request = request_until(from_now((place * 7 + thread) % 400 * 1000));
        queue.watch(request);
        if (place % 2 == 0 && request->claim(Request::State::queued)) {
          request->publish();
          ++ended_in_time;
          push(queue, {request});
        }
      }
    });
  }
  std::int64_t ended = 0;
  std::int64_t overdue = 0;
  std::set<const Request*> seen;
  std::vector<RequestPtr> kept;
  while (ended + overdue < 3 * each) {
    const CompletionEvents events = queue.wait();
    for (const RequestPtr& request : events.overdue) {
      if (!request->claim(Request::State::queued)) continue;  // it ended meanwhile, and comes as such
      CHECK(monotonic_now() >= request->deadline);
      request->publish();
      ++overdue;
    }
    ended += static_cast<std::int64_t>(events.ended.size());
    kept.insert(kept.end(), events.ended.begin(), events.ended.end());
    for (const RequestPtr& request : events.ended) CHECK(seen.insert(request.get()).second);
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(ended, ended_in_time);
}
