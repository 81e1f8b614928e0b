// When the heap's holes go back to the system, with a process of our own.
#include <algorithm>
#include <memory>

#include "check.h"
#include "paddle/heap_trim.h"

using namespace harness;
using namespace paddleinfer::paddle;

namespace {

std::int64_t holes_now = 0;
std::int64_t left_by_a_run = 0;  // that ends during a trim
int trims = 0;

std::int64_t holes() { return holes_now; }

void trim() {
  ++trims;
  holes_now = left_by_a_run;
}

void empty(HeapTrim& heap, int times, std::int64_t hole_bytes, std::uint64_t emptied_bytes = 0) {
  for (int time = 0; time < times; ++time) {
    holes_now += hole_bytes;
    heap.note_emptying(emptied_bytes);
  }
}

HeapTrim new_process() {
  holes_now = left_by_a_run = 0;
  trims = 0;
  return HeapTrim(holes, trim);
}

}  // namespace

TEST("a process whose holes grow stays within the growth that is allowed") {
  HeapTrim heap = new_process();
  constexpr std::int64_t kHole = 4 << 20;
  std::int64_t most = 0;
  for (int round = 0; round < 1000; ++round) {
    empty(heap, 1, kHole);
    most = std::max(most, holes_now);
  }
  CHECK(trims > 10);
  CHECK(most <= HeapTrim::kGrowthBytes + HeapTrim::kEmptyings * kHole);
}

TEST("a process without further holes is trimmed once") {
  HeapTrim heap = new_process();
  empty(heap, 1000, 0);
  CHECK_EQ(trims, 1);
}

TEST("however much grows back at once, several emptyings lie between two trims") {
  HeapTrim heap = new_process();
  empty(heap, 80, HeapTrim::kGrowthBytes);
  CHECK_EQ(trims, 80 / HeapTrim::kEmptyings);
}

TEST("emptyings of large parts are followed by a trim sooner") {
  HeapTrim heap = new_process();
  empty(heap, 8, HeapTrim::kGrowthBytes, HeapTrim::kEmptiedBytes / 2);
  CHECK_EQ(trims, 4);
}

TEST("a run that ends during a trim does not put the next one off by what it leaves") {
  HeapTrim heap = new_process();
  empty(heap, HeapTrim::kEmptyings, 0);
  left_by_a_run = 8 * HeapTrim::kGrowthBytes;
  empty(heap, HeapTrim::kEmptyings, HeapTrim::kGrowthBytes);
  left_by_a_run = 0;
  empty(heap, HeapTrim::kEmptyings, 0);
  CHECK_EQ(trims, 3);
  CHECK_EQ(holes_now, 0);
}

// Under a sanitizer memory comes from an allocator of its own.
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
TEST("what runs hold while the heap is trimmed does not put the next trim off") {
  constexpr std::size_t kHeld = std::size_t{64} << 20;
  const std::int64_t before = hole_bytes();
  const std::unique_ptr<char[]> held(new char[kHeld]);
  std::fill_n(held.get(), kHeld, 'x');
  CHECK(hole_bytes() - before < std::int64_t{kHeld} / 2);
}
#endif

TEST("this process has bytes that no file is behind") { CHECK(anonymous_bytes() > 100'000); }
