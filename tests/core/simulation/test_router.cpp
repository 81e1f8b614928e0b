// Which replica a router chooses.
#include <algorithm>
#include <vector>

#include "check.h"
#include "simulation/reports.h"
#include "simulation/router.h"

using namespace paddleinfer;

namespace {

using Open = std::vector<std::size_t>;

// So many choices by each replica, of five of which the one in the middle does not take requests.
std::vector<int> chosen(Routing routing, const std::vector<Figures>& known, int times) {
  Router router(routing, 7);
  std::vector<int> counts(5);
  for (int turn = 0; turn < times; ++turn) ++counts[router.choose({0, 1, 3, 4}, known, 100)];
  return counts;
}

const std::vector<Figures> kEqual(5);
// Requests, rows, and when it is free: the second has the fewest of the first, the fourth of the second and so on.
const std::vector<Figures> kBusy = {{9, 90, 900}, {1, 70, 700}, {0, 0, 0}, {5, 10, 500}, {7, 80, 200}};

}  // namespace

TEST("every router sends requests to open replicas alone, and to each of equal ones") {
  for (std::size_t place = 0; place < kRoutings; ++place) {
    const std::vector<int> counts = chosen(Routing(place), kEqual, 4'000);
    CHECK_EQ(counts[2], 0);
    for (const std::size_t replica : {0, 1, 3, 4}) CHECK(counts[replica] > 800 && counts[replica] < 1'200);
  }
}

TEST("in turn means in turn") { CHECK((chosen(Routing::round_robin, kBusy, 10) == std::vector<int>{3, 3, 0, 2, 2})); }

TEST("of two the one with less is taken, so the one with most never is and the one with least in half of the cases") {
  const auto expect = [](Routing routing, std::size_t least) {
    const std::vector<int> counts = chosen(routing, kBusy, 4'000);
    CHECK_EQ(counts[0], 0);
    CHECK(counts[least] > 1'800 && counts[least] < 2'200);
  };
  expect(Routing::power_of_two_requests, 1);
  expect(Routing::power_of_two_rows, 3);
  expect(Routing::power_of_two_delay, 4);
}

TEST("of all the one that is free first is taken, and those that are free now take turns") {
  CHECK((chosen(Routing::least_delay, kBusy, 50) == std::vector<int>{0, 0, 0, 0, 50}));
  std::vector<Figures> two_free = kBusy;
  two_free[0].free_at = 90;
  two_free[3].free_at = 100;
  const std::vector<int> counts = chosen(Routing::least_delay, two_free, 100);
  CHECK_EQ(counts[0] + counts[3], 100);
  CHECK(std::min(counts[0], counts[3]) >= 25);
}

TEST("a router knows what was so long ago, and no more") {
  Reports reports(50);
  reports.add_replica();
  reports.note(0, {1, 10, 0}, 100);
  reports.note(0, {2, 20, 0}, 120);
  CHECK_EQ(reports.known(149)[0].requests, 0);
  CHECK_EQ(reports.known(150)[0].requests, 1);
  CHECK_EQ(reports.known(169)[0].rows, 10);
  CHECK_EQ(reports.known(500)[0].rows, 20);
}
