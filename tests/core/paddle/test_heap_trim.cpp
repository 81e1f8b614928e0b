// When the heap's holes go back to the system, with a process of our own.
#include <algorithm>

#include "check.h"
#include "paddle/heap_trim.h"

using namespace harness;
using namespace paddleinfer::paddle;

namespace {

std::uint64_t resident_now = 0;
std::uint64_t holes = 0;
int trims = 0;

std::uint64_t resident() { return resident_now; }

void trim() {
  ++trims;
  resident_now -= holes;
  holes = 0;
}

void empty(HeapTrim& heap, int times, std::uint64_t hole_bytes, std::uint64_t emptied_bytes = 0) {
  for (int time = 0; time < times; ++time) {
    resident_now += hole_bytes;
    holes += hole_bytes;
    heap.note_emptying(emptied_bytes);
  }
}

HeapTrim process_of(std::uint64_t bytes) {
  resident_now = bytes;
  holes = 0;
  trims = 0;
  return HeapTrim(resident, trim);
}

constexpr std::uint64_t kLive = std::uint64_t{1} << 30;

}  // namespace

TEST("a process that grows by its holes stays within the growth that is allowed") {
  HeapTrim heap = process_of(kLive);
  constexpr std::uint64_t kHole = 4 << 20;
  std::uint64_t most = 0;
  for (int round = 0; round < 1000; ++round) {
    empty(heap, 1, kHole);
    most = std::max(most, resident_now);
  }
  CHECK(trims > 10);
  CHECK(most <= kLive + HeapTrim::kGrowthBytes + kHole);
}

TEST("a process that does not grow is trimmed once") {
  HeapTrim heap = process_of(kLive);
  empty(heap, 1000, 0);
  CHECK_EQ(trims, 1);
}

TEST("however much grows back at once, several emptyings lie between two trims") {
  HeapTrim heap = process_of(kLive);
  empty(heap, 80, HeapTrim::kGrowthBytes);
  CHECK_EQ(trims, 80 / HeapTrim::kEmptyings);
}

TEST("this process has a resident size") { CHECK(resident_bytes() > 1'000'000u); }

TEST("emptyings of large parts are followed by a trim sooner") {
  HeapTrim heap = process_of(kLive);
  empty(heap, 8, HeapTrim::kGrowthBytes, HeapTrim::kEmptiedBytes / 2);
  CHECK_EQ(trims, 4);
}
