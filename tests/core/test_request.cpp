#include "fakes.h"

using namespace harness;
using namespace paddleinfer;
using State = Request::State;

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

TEST("publishing wakes every sleeper, and shows it what the claimant wrote") {
  for (int round = 0; round < 20; ++round) {
    Request request;
    std::vector<std::thread> sleepers;
    for (int place = 0; place < 4; ++place) {
      sleepers.emplace_back([&] {
        CHECK_EQ(request.wait(kNever), Woken::changed);
        CHECK_EQ(request.outcome, Outcome::error);
        CHECK_EQ(request.failure.message, "said");
      });
    }
    if (round % 2 == 0) sleep_ns(kMillisecond);
    CHECK(request.start());
    if (round % 4 == 0) sleep_ns(kMillisecond);
    CHECK(request.claim(State::running));
    request.outcome = Outcome::error;
    request.failure.message = "said";
    request.publish();
    for (std::thread& sleeper : sleepers) sleeper.join();
  }
}

TEST("starting does not end a sleeper's wait") {
  Request request;
  std::atomic<bool> awake{false};
  std::thread sleeper([&] {
    request.wait(kNever);
    awake = true;
  });
  sleep_ns(2 * kMillisecond);
  CHECK(request.start());
  sleep_ns(5 * kMillisecond);
  CHECK(!awake);
  CHECK(request.claim(State::running));
  sleep_ns(2 * kMillisecond);
  CHECK(!awake);
  request.publish();
  sleeper.join();
}

TEST("a waiter may free the request as soon as it is done") {
  const std::int64_t rounds = scaled(20'000);
  std::atomic<Request*> handed{nullptr};
  std::thread publisher([&] {
    for (std::int64_t round = 0; round < rounds; ++round) {
      Request* request = nullptr;
      while ((request = handed.exchange(nullptr)) == nullptr) std::this_thread::yield();
      if (!request->claim(State::queued)) std::abort();
      request->publish();
    }
  });
  for (std::int64_t round = 0; round < rounds; ++round) {
    auto request = std::make_unique<Request>();
    handed = request.get();
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

TEST("the release list gives each object once, whoever pushes and takes") {
  const std::int64_t each = scaled(50'000);
  ReleaseList releases;
  releases.push(nullptr);
  CHECK(releases.take().empty());
  std::vector<std::atomic<int>> taken(static_cast<std::size_t>(2 * each));
  std::atomic<int> pushing{2};
  std::vector<std::thread> threads;
  for (int half = 0; half < 2; ++half) {
    threads.emplace_back([&, half] {
      for (std::int64_t place = 0; place < each; ++place)
        releases.push(&taken[static_cast<std::size_t>(half * each + place)]);
      --pushing;
    });
    threads.emplace_back([&] {
      while (pushing > 0) {
        for (void* object : releases.take()) ++*static_cast<std::atomic<int>*>(object);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (void* object : releases.take()) ++*static_cast<std::atomic<int>*>(object);
  for (const std::atomic<int>& times : taken) CHECK_EQ(times, 1);
}
