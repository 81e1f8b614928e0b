// Ends read by an event loop: it watches a descriptor, and takes what there is.
#include <poll.h>

#include "completion.h"
#include "ledger.h"

using namespace harness;
using namespace paddleinfer;

namespace {

struct Loop {
  const std::shared_ptr<ReleaseList> releases = std::make_shared<ReleaseList>();
  CompletionQueue queue{CompletionQueue::Reader::loop, releases};

  // Whether the loop would be woken now.
  bool readable() const { return is_readable(queue.descriptor()); }
  static bool is_readable(int descriptor) {
    pollfd watched{descriptor, POLLIN, 0};
    return poll(&watched, 1, 0) == 1 && (watched.revents & POLLIN) != 0;
  }
  static bool is_open(int descriptor) {
    pollfd watched{descriptor, POLLIN, 0};
    return poll(&watched, 1, 0) >= 0 && (watched.revents & POLLNVAL) == 0;
  }
  // How many wake-ups are in the descriptor. Takes them.
  std::uint64_t wake_ups() const {
    std::uint64_t count = 0;
    return read(queue.descriptor(), &count, sizeof count) == sizeof count ? count : 0;
  }
  void push(std::vector<RequestPtr> ended) {
    queue.expect(ended.size());
    queue.push(std::move(ended));
  }
};

RequestPtr ended_request(void* waiter = nullptr) {
  auto request = std::make_shared<Request>();
  request->claim(Request::State::queued);
  request->publish();
  request->waiter = waiter;
  return request;
}

RequestPtr request_until(Nanos deadline) {
  auto request = std::make_shared<Request>();
  request->deadline = deadline;
  return request;
}

}  // namespace

TEST("a thread's queue needs no descriptor") {
  CompletionQueue queue(CompletionQueue::Reader::thread, std::make_shared<ReleaseList>());
  CHECK_EQ(queue.descriptor(), -1);
}

TEST("a loop's descriptor is readable when there are ends, until they are taken") {
  Loop loop;
  CHECK(loop.queue.descriptor() >= 0);
  CHECK(!loop.readable());
  const std::vector<RequestPtr> requests = {ended_request(), ended_request()};
  loop.push({requests[0]});
  CHECK(loop.readable());
  loop.push({requests[1]});
  CHECK(loop.readable());
  const News news = loop.queue.take();
  CHECK(news.ended == requests);
  CHECK(!news.stopped && news.overdue.empty());
  CHECK_EQ(news.next_deadline, kNever);
  CHECK(!loop.readable());
}

TEST("a loop is woken once for all ends that wait for it") {
  Loop loop;
  loop.push({ended_request(), ended_request(), ended_request()});
  loop.push({ended_request()});
  loop.push({});
  CHECK_EQ(loop.wake_ups(), 1u);
  CHECK_EQ(loop.queue.take().ended.size(), 4u);
  loop.push({});
  CHECK_EQ(loop.wake_ups(), 0u);
  loop.push({ended_request()});
  CHECK_EQ(loop.wake_ups(), 1u);
}

TEST("taking never blocks, however little there is") {
  Loop loop;
  for (int turn = 0; turn < 3; ++turn) {
    const News news = loop.queue.take();
    CHECK(news.ended.empty() && news.overdue.empty() && !news.stopped);
    CHECK_EQ(news.next_deadline, kNever);
  }
}

TEST("a loop is not woken for a deadline, but told when the next one is") {
  Loop loop;
  const RequestPtr later = request_until(from_now(3600 * kNanosPerSecond));
  const RequestPtr soon = request_until(from_now(1800 * kNanosPerSecond));
  const RequestPtr late = request_until(1);
  loop.queue.watch(later);
  loop.queue.watch(request_until(kNever));
  CHECK_EQ(loop.queue.take().next_deadline, later->deadline);
  loop.queue.watch(soon);
  loop.queue.watch(late);
  CHECK(!loop.readable());
  const News news = loop.queue.take();
  CHECK(news.overdue == std::vector<RequestPtr>{late});
  CHECK_EQ(news.next_deadline, soon->deadline);
  CHECK(soon->claim(Request::State::queued));
  CHECK_EQ(loop.queue.take().next_deadline, later->deadline);
  CHECK(loop.queue.take().overdue.empty());
}

TEST("stop() wakes a loop, and takes effect when the last end announced was taken, or will not come") {
  Loop loop;
  loop.queue.expect(2);
  loop.queue.stop();
  CHECK(loop.readable());
  CHECK(!loop.queue.take().stopped);
  loop.queue.push({ended_request()});
  CHECK(!loop.queue.take().stopped);
  CHECK(!loop.readable());
  loop.queue.expect_less();
  CHECK(loop.readable());
  CHECK(loop.queue.take().stopped);
}

TEST("the end that stop() waited for comes before `stopped`") {
  Loop loop;
  loop.queue.expect();
  loop.queue.stop();
  loop.queue.push({ended_request()});
  const News news = loop.queue.take();
  CHECK_EQ(news.ended.size(), 1u);
  CHECK(!news.stopped);
  CHECK(loop.readable());  // else the loop would not look again
  CHECK(loop.queue.take().stopped);
}

TEST("an abandoned queue gives back the waiters of what came and of what comes") {
  Loop loop;
  int waiters[3] = {};
  std::weak_ptr<Request> watched;
  std::weak_ptr<Request> came;
  {
    const RequestPtr request = ended_request(&waiters[0]);
    came = request;
    const RequestPtr under_way = request_until(from_now(3600 * kNanosPerSecond));
    watched = under_way;
    loop.queue.watch(under_way);
    loop.push({request, ended_request(&waiters[1])});
  }
  CHECK(loop.releases->take().empty());
  loop.queue.abandon();
  CHECK((loop.releases->take() == std::vector<void*>{&waiters[0], &waiters[1]}));
  CHECK(came.expired() && watched.expired());
  const RequestPtr late = ended_request(&waiters[2]);
  loop.push({late});
  CHECK(loop.releases->take() == std::vector<void*>{&waiters[2]});
  CHECK(late->waiter == nullptr);
  loop.queue.watch(request_until(from_now(kMillisecond)));
  const News news = loop.queue.take();
  CHECK(news.ended.empty() && news.overdue.empty());
  CHECK_EQ(news.next_deadline, kNever);
}

TEST("an abandoned queue frees its descriptor, once, and touches no other that gets its number") {
  Loop loop;
  const int descriptor = loop.queue.descriptor();
  CHECK(Loop::is_open(descriptor));
  loop.push({ended_request()});
  loop.queue.abandon();
  CHECK_EQ(loop.queue.descriptor(), -1);
  CHECK(!Loop::is_open(descriptor));
  const int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);  // the lowest free number
  CHECK_EQ(other, descriptor);
  loop.push({ended_request()});
  loop.queue.stop();
  loop.queue.take();
  loop.queue.abandon();
  CHECK(Loop::is_open(other));
  CHECK(!Loop::is_readable(other));
  close(other);
}

TEST("a queue that is dropped frees its descriptor and gives back its waiters") {
  int waiter = 0;
  int descriptor = -1;
  std::shared_ptr<ReleaseList> releases;
  {
    Loop loop;
    releases = loop.releases;
    descriptor = loop.queue.descriptor();
    loop.push({ended_request(&waiter)});
  }
  CHECK(!Loop::is_open(descriptor));
  CHECK(releases->take() == std::vector<void*>{&waiter});
}

TEST("every waiter comes to the loop or back, once, when the loop goes while ends come") {
  for (std::int64_t round = 0; round < scaled(300); ++round) {
    Loop loop;
    constexpr int kEnds = 64;
    std::atomic<int> waiters[2 * kEnds] = {};
    std::vector<std::thread> writers;
    for (int writer = 0; writer < 2; ++writer) {
      writers.emplace_back([&, writer] {
        for (int place = 0; place < kEnds; ++place) loop.push({ended_request(&waiters[writer * kEnds + place])});
      });
    }
    const int looks = int(round % 5);
    for (int look = 0; look < looks; ++look) {
      for (const RequestPtr& request : loop.queue.take().ended) ++*static_cast<std::atomic<int>*>(request->waiter);
    }
    loop.queue.abandon();
    for (std::thread& writer : writers) writer.join();
    for (void* waiter : loop.releases->take()) ++*static_cast<std::atomic<int>*>(waiter);
    for (const std::atomic<int>& times : waiters) CHECK_EQ(times, 1);
  }
}

TEST("a loop that polls its descriptor misses no end") {
  const std::int64_t count = scaled(30'000);
  Loop loop;
  std::thread writer([&] {
    for (std::int64_t place = 0; place < count; ++place) loop.push({ended_request()});
    loop.queue.stop();
  });
  std::int64_t taken = 0;
  bool stopped = false;
  while (!stopped) {
    pollfd watched{loop.queue.descriptor(), POLLIN, 0};
    if (poll(&watched, 1, 10'000) != 1) {
      CHECK(!"it was woken");
      break;
    }
    const News news = loop.queue.take();
    taken += std::int64_t(news.ended.size());
    stopped = news.stopped;
  }
  writer.join();
  CHECK_EQ(taken, count);
}
