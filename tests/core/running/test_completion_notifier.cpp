// The ends of requests, counted and told together.
#include <poll.h>

#include "allocations.h"
#include "ends.h"
#include "ledger.h"

using namespace harness;
using namespace paddleinfer;

namespace {

std::shared_ptr<CompletionQueue> queue_of(CompletionQueue::Reader reader) {
  return std::make_shared<CompletionQueue>(reader, std::make_shared<ReleaseList>());
}

RequestPtr claimed(const std::shared_ptr<CompletionQueue>& sink = nullptr) {
  auto request = std::make_shared<Request>();
  request->claim(Request::State::queued);
  request->sink = sink;
  if (sink) sink->expect();
  return request;
}

std::uint64_t wake_ups(CompletionQueue& queue) {
  std::uint64_t count = 0;
  return read(queue.descriptor(), &count, sizeof count) == sizeof count ? count : 0;
}

}  // namespace

TEST("an end is written, counted once and published") {
  Counters counters;
  Ends ends(counters, false);
  const std::pair<Outcome, const std::atomic<std::int64_t>*> kinds[] = {
      {Outcome::result, &counters.results},      {Outcome::error, &counters.errors},
      {Outcome::cancelled, &counters.cancelled}, {Outcome::expired, &counters.expired},
      {Outcome::closed, &counters.closed},
  };
  std::int64_t turn = 0;
  for (const auto& [outcome, counter] : kinds) {
    ++turn;
    for (std::int64_t place = 0; place < turn; ++place) {
      const RequestPtr request = claimed();
      ends.add(request, outcome);
      CHECK(request->done());
      CHECK_EQ(request->outcome, outcome);
    }
    CHECK_EQ(*counter, turn);
  }
  ends.tell();
  CHECK_EQ(counters.results + counters.errors + counters.cancelled + counters.expired + counters.closed, 15);
}

TEST("each sink hears once of all its ends, in order, and of no other's") {
  for (const bool several : {false, true}) {
    Counters counters;
    const auto first = queue_of(CompletionQueue::Reader::loop);
    const auto second = queue_of(CompletionQueue::Reader::loop);
    const std::vector<RequestPtr> requests = {claimed(first), claimed(second), claimed(),
                                              claimed(first), claimed(second), claimed(first)};
    Ends ends(counters, several);
    for (const RequestPtr& request : requests) ends.add(request, Outcome::result);
    CHECK_EQ(wake_ups(*first), 0u);  // until it is told
    ends.tell();
    CHECK_EQ(wake_ups(*first), 1u);
    CHECK_EQ(wake_ups(*second), 1u);
    CHECK((first->take().ended == std::vector<RequestPtr>{requests[0], requests[3], requests[5]}));
    CHECK((second->take().ended == std::vector<RequestPtr>{requests[1], requests[4]}));
  }
}

TEST("a sink hears of nothing before all its ends are there") {
  Counters counters;
  const auto sink = queue_of(CompletionQueue::Reader::loop);
  std::vector<RequestPtr> requests;
  for (int place = 0; place < 40; ++place) requests.push_back(claimed(sink));
  Ends ends(counters, true);
  for (const RequestPtr& request : requests) ends.add(request, Outcome::result);
  pollfd watched{sink->descriptor(), POLLIN, 0};
  int looks = 0;
  const fakes::AllocationHook look = [&] {  // the queue allocates as it takes them in
    ++looks;
    CHECK_EQ(poll(&watched, 1, 0), 0);
    return false;
  };
  fakes::before_allocation = &look;
  ends.tell();
  fakes::before_allocation = nullptr;
  CHECK(looks > 1);
  CHECK_EQ(sink->take().ended.size(), 40u);
}

TEST("a request that has ended does not hold its sink, nor the sink itself") {
  Counters counters;
  auto sink = queue_of(CompletionQueue::Reader::thread);
  const RequestPtr request = claimed(sink);
  {
    Ends ends(counters, false);
    ends.add(request, Outcome::error);
    CHECK(request->sink == nullptr);
    ends.tell();
  }
  CHECK_EQ(sink.use_count(), 1);
  const std::weak_ptr<CompletionQueue> left = sink;
  sink.reset();
  CHECK(left.expired());
  CHECK_EQ(request.use_count(), 1);
}

TEST("who sleeps is woken, whether or not the others are, and whether there are several") {
  for (const bool several : {false, true}) {
    for (int round = 0; round < 10; ++round) {
      Counters counters;
      const auto sink = queue_of(CompletionQueue::Reader::thread);
      const std::vector<RequestPtr> requests = {claimed(), claimed(sink), claimed(), claimed(sink), claimed()};
      std::vector<std::thread> callers;
      for (const RequestPtr& request : requests) callers.emplace_back([&request] { request->wait(kNever); });
      if (round % 2 == 0) sleep_ns(kMillisecond);
      Ends ends(counters, several);
      for (const RequestPtr& request : requests) ends.add(request, Outcome::closed);
      ends.tell();
      for (std::thread& caller : callers) caller.join();
      CHECK_EQ(sink->take().ended.size(), 2u);
      CHECK_EQ(counters.closed, 5);
    }
  }
}

TEST("nothing ended, nothing told") {
  Counters counters;
  Ends ends(counters, true);
  ends.tell();
  Ends few(counters, false);
  few.tell();
  CHECK_EQ(counters.results, 0);
}
