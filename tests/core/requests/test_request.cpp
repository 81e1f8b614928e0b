// One request: its states, who waits for it, what its signature says.
#include <numeric>

#include "ledger.h"
#include "requests/request_wait.h"

using namespace harness;
using namespace paddleinfer;
using State = Request::State;

namespace {

// As the core ends one: whoever sleeps is woken.
void publish(const RequestPtr& request) {
  if (request->publish()) request->wake();
}

}  // namespace

TEST("a request is queued, runs, is claimed, is done") {
  Request request;
  CHECK_EQ(request.state(), State::queued);
  CHECK(!request.started() && !request.ended() && !request.done());
  CHECK(request.start());
  CHECK_EQ(request.state(), State::running);
  CHECK(request.started() && !request.ended());
  CHECK(request.claim(State::running));
  CHECK(request.ended() && !request.done());
  request.publish();
  CHECK(request.done());
}

TEST("a request that runs already starts again for a further part, one that has ended does not") {
  Request request;
  CHECK(request.start());
  CHECK(request.start());
  CHECK_EQ(request.state(), State::running);
  CHECK(request.claim(State::running));
  CHECK(!request.start());
  CHECK_EQ(request.state(), State::claimed);
  request.publish();
  CHECK(!request.start());
  CHECK_EQ(request.state(), State::done);
}

TEST("publishing says whether somebody sleeps, and waking how many") {
  Request lonely;
  CHECK(lonely.claim(State::queued));
  CHECK(!lonely.publish());
  CHECK_EQ(lonely.wake(), 0);

  Request awaited;
  std::vector<std::thread> sleepers;
  for (int place = 0; place < 2; ++place) sleepers.emplace_back([&] { awaited.wait(kNever); });
  sleep_ns(10 * kMillisecond);  // both may sleep by now, or else come to a request that is done
  CHECK(awaited.claim(State::queued));
  const bool somebody = awaited.publish();
  const long woken = awaited.wake();
  for (std::thread& sleeper : sleepers) sleeper.join();
  CHECK(woken <= 2);
  if (woken > 0) CHECK(somebody);
}

TEST("who gave up waiting still counts as a sleeper, and is not there to be woken") {
  Request request;
  CHECK_EQ(request.wait(0), Woken::timed_out);
  CHECK(request.start());
  CHECK_EQ(request.state(), State::running);
  CHECK(request.claim(State::running));
  CHECK(request.publish());
  CHECK_EQ(request.wake(), 0);
}

TEST("no step is done twice, skipped or taken back") {
  Request request;
  CHECK(!request.claim(State::running));
  CHECK(request.claim(State::queued));
  CHECK(!request.start());
  CHECK(!request.claim(State::queued));
  CHECK(!request.claim(State::running));
  request.publish();
  CHECK(!request.start());
  CHECK(!request.claim(State::queued));
}

TEST("of many claimants one wins") {
  constexpr int kThreads = 4;
  const std::int64_t rounds = scaled(4'000);
  std::vector<std::unique_ptr<Request>> requests;
  for (std::int64_t round = 0; round < rounds; ++round) requests.push_back(std::make_unique<Request>());
  std::vector<std::int64_t> wins(kThreads);
  std::vector<std::int64_t> starts(kThreads);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      const auto place = static_cast<std::size_t>(thread);
      for (const auto& request : requests) {
        if (thread == 0 && request->start()) ++starts[place];
        const State from = thread % 2 == 0 ? State::running : State::queued;
        if (!request->claim(from)) continue;
        request->outcome = Outcome::cancelled;  // a second winner would be a data race
        ++wins[place];
        request->publish();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(std::accumulate(wins.begin(), wins.end(), std::int64_t{0}), rounds);
  for (const auto& request : requests) CHECK(request->done());
}

TEST("a wait returns at its deadline, not before") {
  Request request;
  const Nanos deadline = from_now(20 * kMillisecond);
  CHECK_EQ(request.wait(deadline), Woken::timed_out);
  CHECK(monotonic_now() >= deadline);
  CHECK_EQ(request.wait(0), Woken::timed_out);
}

TEST("a wait for what is done returns at once") {
  Request request;
  CHECK(request.claim(State::queued));
  request.publish();
  CHECK_EQ(request.wait(kNever), Woken::changed);
  CHECK_EQ(request.wait(0), Woken::changed);
}

TEST("an end wakes every sleeper, and shows it what the claimant wrote") {
  for (int round = 0; round < 20; ++round) {
    const auto request = std::make_shared<Request>();
    std::vector<std::thread> sleepers;
    for (int place = 0; place < 4; ++place) {
      sleepers.emplace_back([&] {
        CHECK_EQ(request->wait(kNever), Woken::changed);
        CHECK_EQ(request->outcome, Outcome::error);
        CHECK_EQ(request->failure.message, "said");
      });
    }
    if (round % 2 == 0) sleep_ns(kMillisecond);
    CHECK(request->start());
    if (round % 4 == 0) sleep_ns(kMillisecond);
    CHECK(request->claim(State::running));
    request->outcome = Outcome::error;
    request->failure.message = "said";
    publish(request);
    for (std::thread& sleeper : sleepers) sleeper.join();
  }
}

TEST("starting does not end a sleeper's wait") {
  const auto request = std::make_shared<Request>();
  std::atomic<bool> awake{false};
  std::thread sleeper([&] {
    request->wait(kNever);
    awake = true;
  });
  sleep_ns(2 * kMillisecond);
  CHECK(request->start());
  sleep_ns(5 * kMillisecond);
  CHECK(!awake);
  CHECK(request->claim(State::running));
  sleep_ns(2 * kMillisecond);
  CHECK(!awake);
  publish(request);
  sleeper.join();
}

TEST("a waiter may let go of the request as soon as it is done") {
  const std::int64_t rounds = scaled(20'000);
  std::mutex mu;
  RequestPtr handed;  // guarded by mu
  std::thread publisher([&] {
    for (std::int64_t round = 0; round < rounds; ++round) {
      RequestPtr request;
      while (!request) {
        {
          const std::lock_guard<std::mutex> lock(mu);
          request = std::move(handed);
        }
        if (!request) std::this_thread::yield();
      }
      if (!request->claim(State::queued)) std::abort();
      publish(request);
    }
  });
  for (std::int64_t round = 0; round < rounds; ++round) {
    auto request = std::make_shared<Request>();
    {
      const std::lock_guard<std::mutex> lock(mu);
      handed = request;
    }
    CHECK_EQ(request->wait(kNever), Woken::changed);
  }
  publisher.join();
}

TEST("the signature knows dtypes and shapes, and rows only where asked") {
  const auto view = [](DType dtype, std::vector<std::int64_t> dims) {
    TensorView result;
    result.dtype = dtype;
    result.shape.rank = dims.size();
    std::copy(dims.begin(), dims.end(), result.shape.dims);
    return result;
  };
  const std::vector<TensorView> base = {view(DType::float32, {2, 3}), view(DType::int64, {2})};
  const std::vector<TensorView> more_rows = {view(DType::float32, {5, 3}), view(DType::int64, {5})};
  CHECK(signature_of(base, false) == signature_of(more_rows, false));
  CHECK(signature_of(base, true) != signature_of(more_rows, true));
  const std::vector<std::vector<TensorView>> others = {
      {view(DType::float32, {2, 4}), view(DType::int64, {2})},
      {view(DType::float64, {2, 3}), view(DType::int64, {2})},
      {view(DType::float32, {2, 3, 1}), view(DType::int64, {2})},
      {view(DType::int64, {2}), view(DType::float32, {2, 3})},
      {view(DType::float32, {2, 3})},
  };
  for (const auto& other : others) CHECK(signature_of(base, false) != signature_of(other, false));
}

TEST("rows of both may stand in one batch only where dtypes and shapes are the same beyond the rows") {
  const auto view = [](DType dtype, std::vector<std::int64_t> dims) {
    TensorView result;
    result.dtype = dtype;
    result.shape.rank = dims.size();
    std::copy(dims.begin(), dims.end(), result.shape.dims);
    return result;
  };
  const std::vector<TensorView> base = {view(DType::float32, {2, 3}), view(DType::int64, {2})};
  CHECK(same_beyond_rows(base, {view(DType::float32, {5, 3}), view(DType::int64, {5})}));
  CHECK(!same_beyond_rows(base, {view(DType::float32, {2, 4}), view(DType::int64, {2})}));
  CHECK(!same_beyond_rows(base, {view(DType::float64, {2, 3}), view(DType::int64, {2})}));
  CHECK(!same_beyond_rows(base, {view(DType::float32, {2, 3, 1}), view(DType::int64, {2})}));
  CHECK(!same_beyond_rows(base, {view(DType::float32, {2, 3})}));
  CHECK(!same_beyond_rows(base, {}));
}

TEST("a slice of all rows is whole, a batch counts the rows of its slices") {
  const auto request = std::make_shared<Request>();
  request->rows = 7;
  CHECK((Slice{request, 0, 7}.whole()));
  CHECK((!Slice{request, 0, 6}.whole()));
  CHECK((!Slice{request, 6, 1}.whole()));
  CHECK_EQ(rows_of({}), 0);
  CHECK_EQ(rows_of({{request, 0, 4}, {request, 4, 3}, {std::make_shared<Request>(), 0, 1}}), 8);
}
