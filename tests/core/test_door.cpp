// Where requests wait for room, first come first served.
#include "check.h"
#include "door.h"

using namespace paddleinfer;

namespace {

RequestPtr request_of(std::int64_t rows = 1) {
  auto request = std::make_shared<Request>();
  request->rows = rows;
  return request;
}

// Lets in what has room, and gives it.
std::vector<RequestPtr> open(Door& door, std::int64_t room) {
  std::vector<RequestPtr> let_in;
  door.open([&room](const Request& request) { return request.rows <= room; },
            [&](const RequestPtr& request) {
              room -= request->rows;
              CHECK(!request->at_door);
              let_in.push_back(request);
            });
  return let_in;
}

}  // namespace

TEST("those at the door come in in the order they came") {
  Door door;
  const std::vector<RequestPtr> requests = {request_of(), request_of(), request_of()};
  for (const RequestPtr& request : requests) {
    door.push(request);
    CHECK(request->at_door);
  }
  CHECK_EQ(door.waiting(), 3);
  CHECK((open(door, 2) == std::vector<RequestPtr>{requests[0], requests[1]}));
  CHECK_EQ(door.waiting(), 1);
  CHECK(open(door, 9) == std::vector<RequestPtr>{requests[2]});
  CHECK_EQ(door.waiting(), 0);
  CHECK(open(door, 9).empty());
}

TEST("a small one does not pass a large one that has no room yet") {
  Door door;
  const std::vector<RequestPtr> requests = {request_of(5), request_of(1)};
  for (const RequestPtr& request : requests) door.push(request);
  CHECK(open(door, 4).empty());
  CHECK_EQ(door.waiting(), 2);
  CHECK(open(door, 6) == requests);
}

TEST("one that ended at the door stands in nobody's way, and is not let in") {
  Door door;
  const std::vector<RequestPtr> requests = {request_of(50), request_of(1), request_of(1)};
  for (const RequestPtr& request : requests) door.push(request);
  door.forget(*requests[0]);
  door.forget(*requests[2]);
  CHECK(!requests[0]->at_door);
  CHECK_EQ(door.waiting(), 1);
  CHECK(open(door, 9) == std::vector<RequestPtr>{requests[1]});
  CHECK_EQ(door.waiting(), 0);
  for (const RequestPtr& request : requests) CHECK_EQ(request.use_count(), 1);
}

TEST("all can be taken at once, without those that ended") {
  Door door;
  const std::vector<RequestPtr> requests = {request_of(50), request_of(1), request_of(70)};
  for (const RequestPtr& request : requests) door.push(request);
  door.forget(*requests[1]);
  std::vector<RequestPtr> taken = {requests[1]};  // appended to
  door.take_all(taken);
  CHECK((taken == std::vector<RequestPtr>{requests[1], requests[0], requests[2]}));
  CHECK_EQ(door.waiting(), 0);
}

TEST("a million that ended behind one that waits take no memory") {
  Door door;
  std::int64_t alive = 0;
  std::int64_t most = 0;
  const RequestPtr first = request_of(50);
  door.push(first);
  for (int place = 0; place < 1'000'000; ++place) {
    most = std::max(most, ++alive);
    const RequestPtr request(new Request, [&](Request* gone) {
      --alive;
      delete gone;
    });
    door.push(request);
    door.forget(*request);
  }
  CHECK(most < 100);
  CHECK_EQ(door.waiting(), 1);
  CHECK(open(door, 50) == std::vector<RequestPtr>{first});
}
