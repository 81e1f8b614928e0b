// How long a request's inputs are held, and the list they are given back through.
#include "ledger.h"

using namespace harness;
using namespace fakes;

TEST("inputs are given back when their one reader has done with them") {
  Ledger ledger;
  ReleaseList releases;
  const RequestPtr request = request_for(ledger, 1);
  CHECK(releases.take().empty());
  request->release_inputs(releases);
  ledger.drain(releases);
  CHECK_EQ(ledger.held(), 0u);
  CHECK(request->take_inputs_back() == nullptr);
}

TEST("inputs that several may read are given back by the last of them, and once") {
  for (int readers = 2; readers < 6; ++readers) {
    Ledger ledger;
    ReleaseList releases;
    const RequestPtr request = request_for(ledger, 1, readers);
    for (int more = 1; more < readers; ++more) request->hold_inputs();
    for (int reader = 1; reader < readers; ++reader) {
      request->release_inputs(releases);
      CHECK(releases.take().empty());
    }
    request->release_inputs(releases);
    const std::vector<void*> released = releases.take();
    CHECK_EQ(released.size(), 1u);
    for (void* object : released) ledger.give_back(object);
  }
}

TEST("a request that owns nothing gives nothing back") {
  ReleaseList releases;
  Request request;
  request.release_inputs(releases);
  CHECK(releases.take().empty());
  CHECK(request.take_inputs_back() == nullptr);
}

TEST("the inputs of a request that was refused go back to its caller") {
  Ledger ledger;
  ReleaseList releases;
  const RequestPtr request = request_for(ledger, 1);
  CHECK(ledger.take_back(*request));
  CHECK(!ledger.take_back(*request));
  CHECK(releases.take().empty());
}

TEST("readers on many threads give inputs back once, after the last read") {
  const std::int64_t rounds = scaled(3'000);
  Ledger ledger;
  ReleaseList releases;
  std::vector<RequestPtr> requests;
  for (std::int64_t round = 0; round < rounds; ++round) {
    requests.push_back(request_for(ledger, float(round)));
    requests.back()->hold_inputs();
    requests.back()->hold_inputs();
  }
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 3; ++reader) {
    readers.emplace_back([&] {
      for (const RequestPtr& request : requests) {
        CHECK(static_cast<const float*>(request->inputs[0].data)[0] >= 0);  // freed memory if it came back too early
        request->release_inputs(releases);
        ledger.drain(releases);
      }
    });
  }
  for (std::thread& reader : readers) reader.join();
  ledger.drain(releases);
  CHECK_EQ(ledger.held(), 0u);
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
