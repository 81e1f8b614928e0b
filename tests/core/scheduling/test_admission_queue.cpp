// Where requests wait for room, first come first served.
#include "check.h"
#include "scheduling/admission_queue.h"

using namespace paddleinfer;

namespace {

RequestPtr request_of(std::int64_t rows = 1) {
  auto request = std::make_shared<Request>();
  request->rows = rows;
  return request;
}

// Lets in what has room, and gives it.
std::vector<RequestPtr> open(AdmissionQueue& admission_queue, std::int64_t room) {
  std::vector<RequestPtr> let_in;
  admission_queue.open([&room](const Request& request) { return request.rows <= room; },
                       [&](const RequestPtr& request) {
                         room -= request->rows;
                         let_in.push_back(request);
                       });
  for (const RequestPtr& request : let_in) CHECK(!request->awaiting_admission);
  return let_in;
}

}  // namespace

TEST("those at the admission queue come in in the order they came") {
  AdmissionQueue admission_queue;
  const std::vector<RequestPtr> requests = {request_of(), request_of(), request_of()};
  for (const RequestPtr& request : requests) {
    admission_queue.push(request);
    CHECK(request->awaiting_admission);
  }
  CHECK_EQ(admission_queue.waiting(), 3);
  CHECK((open(admission_queue, 2) == std::vector<RequestPtr>{requests[0], requests[1]}));
  CHECK_EQ(admission_queue.waiting(), 1);
  CHECK(open(admission_queue, 9) == std::vector<RequestPtr>{requests[2]});
  CHECK_EQ(admission_queue.waiting(), 0);
  CHECK(open(admission_queue, 9).empty());
}

TEST("a small one does not pass a large one that has no room yet") {
  AdmissionQueue admission_queue;
  const std::vector<RequestPtr> requests = {request_of(5), request_of(1)};
  for (const RequestPtr& request : requests) admission_queue.push(request);
  CHECK(open(admission_queue, 4).empty());
  CHECK_EQ(admission_queue.waiting(), 2);
  CHECK(open(admission_queue, 6) == requests);
}

TEST("one that ended at the admission queue stands in nobody's way, and is not let in") {
  AdmissionQueue admission_queue;
  const std::vector<RequestPtr> requests = {request_of(50), request_of(1), request_of(1)};
  for (const RequestPtr& request : requests) admission_queue.push(request);
  admission_queue.forget(*requests[0]);
  admission_queue.forget(*requests[2]);
  CHECK(!requests[0]->awaiting_admission);
  CHECK_EQ(admission_queue.waiting(), 1);
  CHECK(open(admission_queue, 9) == std::vector<RequestPtr>{requests[1]});
  CHECK_EQ(admission_queue.waiting(), 0);
  for (const RequestPtr& request : requests) CHECK_EQ(request.use_count(), 1);
}

TEST("one for whom there is no memory stays at the admission queue, and those behind it") {
  AdmissionQueue admission_queue;
  const std::vector<RequestPtr> requests = {request_of(), request_of()};
  for (const RequestPtr& request : requests) admission_queue.push(request);
  CHECK_THROWS(std::bad_alloc, admission_queue.open([](const Request&) { return true; },
                                                    [](const RequestPtr&) { throw std::bad_alloc(); }));
  CHECK(requests[0]->awaiting_admission && requests[1]->awaiting_admission);
  CHECK_EQ(admission_queue.waiting(), 2);
  CHECK(open(admission_queue, 9) == requests);
}

TEST("they can be taken one by one, room or not, without those that ended") {
  AdmissionQueue admission_queue;
  const std::vector<RequestPtr> requests = {request_of(50), request_of(1), request_of(70)};
  for (const RequestPtr& request : requests) admission_queue.push(request);
  admission_queue.forget(*requests[1]);
  CHECK(admission_queue.take() == requests[0]);
  CHECK_EQ(admission_queue.waiting(), 1);
  CHECK(admission_queue.take() == requests[2]);
  for (const RequestPtr& request : requests) CHECK(!request->awaiting_admission);
  CHECK_EQ(admission_queue.waiting(), 0);
}

TEST("a million that ended behind one that waits take no memory") {
  AdmissionQueue admission_queue;
  std::int64_t alive = 0;
  std::int64_t most = 0;
  const RequestPtr first = request_of(50);
  admission_queue.push(first);
  for (int place = 0; place < 1'000'000; ++place) {
    most = std::max(most, ++alive);
    const RequestPtr request(new Request, [&](Request* gone) {
      --alive;
      delete gone;
    });
    admission_queue.push(request);
    admission_queue.forget(*request);
  }
  CHECK(most < 100);
  CHECK_EQ(admission_queue.waiting(), 1);
  CHECK(open(admission_queue, 50) == std::vector<RequestPtr>{first});
}
