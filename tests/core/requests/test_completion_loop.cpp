// Ends read by an event loop: it watches a descriptor, and takes what there is.
#include <poll.h>

#include "ledger.h"
#include "requests/completion.h"

using namespace harness;
using namespace paddleinfer;

namespace {

struct Loop {
  CompletionQueue queue{CompletionQueue::Reader::loop};

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
  void push(const std::vector<RequestPtr>& ended) {
    queue.expect(ended.size());
    queue.push(fakes::chain_of(ended));
  }
};

RequestPtr ended_request() {
  auto request = std::make_shared<Request>();
  request->claim(Request::State::queued);
  request->publish();
  return request;
}

RequestPtr request_until(Nanos deadline) {
  auto request = std::make_shared<Request>();
  request->deadline = deadline;
  return request;
}

}  // namespace

TEST("a thread's queue needs no descriptor") {
  CompletionQueue queue(CompletionQueue::Reader::thread);
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
  const CompletionEvents events = loop.queue.take();
  CHECK(events.ended == requests);
  CHECK(!events.stopped && events.overdue.empty());
  CHECK_EQ(events.next_deadline, kNever);
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
    const CompletionEvents events = loop.queue.take();
    CHECK(events.ended.empty() && events.overdue.empty() && !events.stopped);
    CHECK_EQ(events.next_deadline, kNever);
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
  const CompletionEvents events = loop.queue.take();
  CHECK(events.overdue == std::vector<RequestPtr>{late});
  CHECK_EQ(events.next_deadline, soon->deadline);
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
  loop.queue.push(fakes::chain_of({ended_request()}));
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
  loop.queue.push(fakes::chain_of({ended_request()}));
  const CompletionEvents events = loop.queue.take();
  CHECK_EQ(events.ended.size(), 1u);
  CHECK(!events.stopped);
  CHECK(loop.readable());  // else the loop would not look again
  CHECK(loop.queue.take().stopped);
}

TEST("an abandoned queue lets go of what came and of what comes") {
  Loop loop;
  std::weak_ptr<Request> watched;
  std::weak_ptr<Request> came;
  {
    const RequestPtr request = ended_request();
    came = request;
    const RequestPtr under_way = request_until(from_now(3600 * kNanosPerSecond));
    watched = under_way;
    loop.queue.watch(under_way);
    loop.push({request, ended_request()});
  }
  CHECK(!came.expired() && !watched.expired());
  loop.queue.abandon();
  CHECK(came.expired() && watched.expired());
  const RequestPtr late = ended_request();
  loop.push({late});
  CHECK_EQ(late.use_count(), 1);
  loop.queue.watch(request_until(from_now(kMillisecond)));
  const CompletionEvents events = loop.queue.take();
  CHECK(events.ended.empty() && events.overdue.empty());
  CHECK_EQ(events.next_deadline, kNever);
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

TEST("a queue that is dropped frees its descriptor and what came") {
  const RequestPtr request = ended_request();
  int descriptor = -1;
  {
    Loop loop;
    descriptor = loop.queue.descriptor();
    loop.push({request});
  }
  CHECK(!Loop::is_open(descriptor));
  CHECK_EQ(request.use_count(), 1);
}

TEST("nobody keeps an end when the loop goes while ends come") {
  for (std::int64_t round = 0; round < scaled(300); ++round) {
    Loop loop;
    constexpr int kEnds = 64;
    std::vector<RequestPtr> requests;
    for (int place = 0; place < 2 * kEnds; ++place) requests.push_back(ended_request());
    std::vector<std::thread> writers;
    for (int writer = 0; writer < 2; ++writer) {
      writers.emplace_back([&, writer] {
        for (int place = 0; place < kEnds; ++place) loop.push({requests[writer * kEnds + place]});
      });
    }
    for (int look = 0; look < int(round % 5); ++look) loop.queue.take();
    loop.queue.abandon();
    for (std::thread& writer : writers) writer.join();
    for (const RequestPtr& request : requests) CHECK_EQ(request.use_count(), 1);
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
    const CompletionEvents events = loop.queue.take();
    taken += std::int64_t(events.ended.size());
    stopped = events.stopped;
  }
  writer.join();
  CHECK_EQ(taken, count);
}
