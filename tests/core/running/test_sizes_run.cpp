// Which sizes an instance has run.
#include <utility>

#include "check.h"
#include "running/instance.h"

using namespace paddleinfer;

TEST("an instance tells the first run of a size, and the first after another size") {
  SizesRun sizes;
  const auto noted = [&](std::uint64_t signature, std::int64_t rows) {
    RunRecord ran;
    ran.rows = rows;
    sizes.note(signature, ran);
    return std::pair{ran.first_of_its_size, ran.size_changed};
  };
  CHECK((noted(7, 1) == std::pair{true, true}));
  CHECK((noted(7, 1) == std::pair{false, false}));
  CHECK((noted(7, 2) == std::pair{true, true}));
  CHECK((noted(8, 1) == std::pair{true, true}));  // of another shape
  CHECK((noted(7, 1) == std::pair{false, true}));
  CHECK((noted(7, 1) == std::pair{false, false}));
}

TEST("the sizes an instance has run do not grow without end") {
  SizesRun sizes;
  constexpr std::uint64_t kSizes = 20'000;
  const auto is_first = [&](std::uint64_t signature) {
    RunRecord ran;
    ran.rows = 1;
    sizes.note(signature, ran);
    return ran.first_of_its_size;
  };
  for (std::uint64_t signature = 1; signature <= kSizes; ++signature) is_first(signature);
  std::uint64_t known = 0;
  while (known < kSizes && !is_first(kSizes - known)) ++known;
  CHECK(known >= 1 && known <= 4'096);
}
