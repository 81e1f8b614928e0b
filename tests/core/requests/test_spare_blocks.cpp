// Blocks of large results that are used again.
#include <malloc.h>

#include <utility>

#include "check.h"
#include "requests/spare_blocks.h"

using namespace harness;
using namespace paddleinfer;

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

}  // namespace

TEST("a block that was given is taken again, once") {
  SpareBlocks blocks;
  const SpareBlocks::User user(blocks);
  CHECK(blocks.take(4 * kMiB) == nullptr);
  Memory memory = allocate(4 * kMiB);
  const void* const given = memory.get();
  blocks.give(std::move(memory));
  CHECK(blocks.kept_bytes() >= 4 * kMiB);
  const Memory taken = blocks.take(4 * kMiB);
  CHECK(taken.get() == given);
  CHECK_EQ(blocks.kept_bytes(), 0u);
  CHECK(blocks.take(4 * kMiB) == nullptr);
}

TEST("a block serves what needs at least half of it") {
  SpareBlocks blocks;
  const SpareBlocks::User user(blocks);
  blocks.give(allocate(4 * kMiB));
  CHECK(blocks.take(5 * kMiB) == nullptr);
  CHECK(blocks.take(2 * kMiB - 4096) == nullptr);
  CHECK(blocks.take(3 * kMiB) != nullptr);
}

TEST("small blocks, and those that are larger than all that is kept, are not kept") {
  SpareBlocks blocks;
  const SpareBlocks::User user(blocks);
  blocks.give(allocate(SpareBlocks::kLeastBytes / 2));
  blocks.give(allocate(SpareBlocks::kMostBytes + 1));
  CHECK_EQ(blocks.kept_bytes(), 0u);
}

TEST("the oldest blocks go where there is no room for a further one") {
  SpareBlocks blocks;
  const SpareBlocks::User user(blocks);
  blocks.give(allocate(2 * kMiB));
  for (int each = 0; each < 8; ++each) {
    blocks.give(allocate(20 * kMiB));
    CHECK(blocks.kept_bytes() <= SpareBlocks::kMostBytes);
  }
  CHECK(blocks.take(2 * kMiB) == nullptr);
  CHECK(blocks.take(20 * kMiB) != nullptr);
  for (int each = 0; each < 100; ++each) blocks.give(allocate(kMiB));
  CHECK(blocks.kept_bytes() <= SpareBlocks::kMostBytes);
}

TEST("without a user nothing is kept, and the last one frees what is") {
  SpareBlocks blocks;
  blocks.give(allocate(2 * kMiB));
  CHECK_EQ(blocks.kept_bytes(), 0u);
  {
    const SpareBlocks::User first(blocks);
    {
      const SpareBlocks::User second(blocks);
      blocks.give(allocate(2 * kMiB));
    }
    CHECK(blocks.kept_bytes() > 0);
  }
  CHECK_EQ(blocks.kept_bytes(), 0u);
  blocks.give(allocate(2 * kMiB));
  CHECK_EQ(blocks.kept_bytes(), 0u);
}
