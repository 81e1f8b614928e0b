// The ends of requests, counted and told together.
#include <poll.h>

#include "allocations.h"
#include "ledger.h"
#include "running/completion_notifier.h"

using namespace harness;
using namespace paddleinfer;

namespace {

std::shared_ptr<CompletionQueue> queue_of(CompletionQueue::Reader reader) {
  return std::make_shared<CompletionQueue>(reader);
}

RequestPtr claimed(const std::shared_ptr<CompletionQueue>& completion_queue = nullptr) {
  auto request = std::make_shared<Request>();
  request->claim(Request::State::queued);
  request->completion_queue = completion_queue;
  if (completion_queue) completion_queue->expect();
  return request;
}

std::uint64_t wake_ups(CompletionQueue& queue) {
  std::uint64_t count = 0;
  return read(queue.descriptor(), &count, sizeof count) == sizeof count ? count : 0;
}

}  // namespace

TEST("an end is written, counted once and published") {
  Counters counters;
  CompletionNotifier notifier(counters, 15);
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
      notifier.complete(request, outcome);
      CHECK(request->done());
      CHECK_EQ(request->outcome, outcome);
    }
    CHECK_EQ(*counter, turn);
  }
  notifier.notify();
  CHECK_EQ(counters.results + counters.errors + counters.cancelled + counters.expired + counters.closed, 15);
}

TEST("each completion_queue hears once of all its ends, in order, and of no other's") {
  for (const std::size_t most : {std::size_t{2}, std::size_t{6}}) {
    Counters counters;
    const auto first = queue_of(CompletionQueue::Reader::loop);
    const auto second = queue_of(CompletionQueue::Reader::loop);
    const std::vector<RequestPtr> requests = {claimed(first), claimed(second), claimed(),
                                              claimed(first), claimed(second), claimed(first)};
    CompletionNotifier notifier(counters, most);
    for (const RequestPtr& request : requests) notifier.complete(request, Outcome::result);
    CHECK_EQ(wake_ups(*first), 0u);  // until it is told
    notifier.notify();
    CHECK_EQ(wake_ups(*first), 1u);
    CHECK_EQ(wake_ups(*second), 1u);
    CHECK((first->take().ended == std::vector<RequestPtr>{requests[0], requests[3], requests[5]}));
    CHECK((second->take().ended == std::vector<RequestPtr>{requests[1], requests[4]}));
  }
}

TEST("a completion_queue hears of nothing before all its ends are there, and telling needs no memory") {
  Counters counters;
  const auto completion_queue = queue_of(CompletionQueue::Reader::loop);
  std::vector<RequestPtr> requests;
  for (int place = 0; place < 40; ++place) requests.push_back(claimed(completion_queue));
  CompletionNotifier notifier(counters, requests.size());
  int allocations = 0;
  const fakes::AllocationHook count = [&] {
    ++allocations;
    return false;
  };
  fakes::before_allocation = &count;
  for (const RequestPtr& request : requests) notifier.complete(request, Outcome::result);
  pollfd watched{completion_queue->descriptor(), POLLIN, 0};
  CHECK_EQ(poll(&watched, 1, 0), 0);
  notifier.notify();
  fakes::before_allocation = nullptr;
  CHECK_EQ(allocations, 0);
  CHECK_EQ(poll(&watched, 1, 0), 1);
  CHECK_EQ(completion_queue->take().ended.size(), 40u);
}

TEST("a request that has ended does not hold its completion_queue, nor the completion_queue itself") {
  Counters counters;
  auto completion_queue = queue_of(CompletionQueue::Reader::thread);
  const RequestPtr request = claimed(completion_queue);
  {
    CompletionNotifier notifier(counters, 1);
    notifier.complete(request, Outcome::error);
    notifier.notify();
    CHECK(request->completion_queue == nullptr);
  }
  CHECK_EQ(completion_queue.use_count(), 1);
  const std::weak_ptr<CompletionQueue> left = completion_queue;
  completion_queue.reset();
  CHECK(left.expired());
  CHECK_EQ(request.use_count(), 1);
}

TEST("who sleeps is woken, whether or not the others are, and whether there are several") {
  for (const std::size_t most : {std::size_t{2}, std::size_t{6}}) {
    for (int round = 0; round < 10; ++round) {
      Counters counters;
      const auto completion_queue = queue_of(CompletionQueue::Reader::thread);
      const std::vector<RequestPtr> requests = {claimed(), claimed(completion_queue), claimed(),
                                                claimed(completion_queue), claimed()};
      std::vector<std::thread> callers;
      for (const RequestPtr& request : requests) callers.emplace_back([&request] { request->wait(kNever); });
      if (round % 2 == 0) sleep_ns(kMillisecond);
      CompletionNotifier notifier(counters, most);
      for (const RequestPtr& request : requests) notifier.complete(request, Outcome::closed);
      notifier.notify();
      for (std::thread& caller : callers) caller.join();
      CHECK_EQ(completion_queue->take().ended.size(), 2u);
      CHECK_EQ(counters.closed, 5);
    }
  }
}

TEST("nothing ended, nothing told") {
  Counters counters;
  CompletionNotifier notifier(counters, 5);
  notifier.notify();
  CompletionNotifier few(counters, 1);
  few.notify();
  CHECK_EQ(counters.results, 0);
}
