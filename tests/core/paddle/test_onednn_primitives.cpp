// The bound on oneDNN's own primitives, with a cache of our own in oneDNN's place.
#include <algorithm>
#include <vector>

#include "check.h"
#include "paddle/onednn_primitives.h"

using namespace harness;
using namespace paddleinfer::paddle;

namespace {

int held = 0;
std::vector<int> capacities;

int set_capacity(int capacity) {
  capacities.push_back(capacity);
  held = std::min(held, capacity);
  return 0;
}

int count(int* size) {
  *size = held;
  return 0;
}

OneDnnPrimitives primitives() {
  held = 0;
  capacities.clear();
  return {set_capacity, count};
}

}  // namespace

TEST("primitives within the limit all stay") {
  const OneDnnPrimitives bound = primitives();
  held = OneDnnPrimitives::kMost;
  bound.keep_within_limit();
  CHECK_EQ(held, OneDnnPrimitives::kMost);
  CHECK(capacities.empty());
}

TEST("past the limit at least half of the primitives go, and there is room again") {
  const OneDnnPrimitives bound = primitives();
  held = OneDnnPrimitives::kMost + 2;
  bound.keep_within_limit();
  CHECK(held <= OneDnnPrimitives::kMost / 2 + 1);
  CHECK_EQ(capacities.back(), OneDnnPrimitives::kCapacity);
}

TEST("an odd number of primitives waits for an even one, but not for long") {
  const OneDnnPrimitives bound = primitives();
  held = OneDnnPrimitives::kMost + 1;
  bound.keep_within_limit();
  CHECK_EQ(held, OneDnnPrimitives::kMost + 1);
  held = OneDnnPrimitives::kMost + 513;
  bound.keep_within_limit();
  CHECK(held <= OneDnnPrimitives::kMost / 2 + 257);
}

TEST("without oneDNN's functions its primitives are left alone") {
  const OneDnnPrimitives none = OneDnnPrimitives::load(Abi{});
  CHECK(!none.complete());
  none.keep_within_limit();
}
