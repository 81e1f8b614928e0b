// What a cache of results keeps, and what it lets go of.
#include "check.h"
#include "running/result_cache.h"

using namespace paddleinfer;

namespace {

constexpr std::size_t kEntry = ResultCache::kEntryBytes + sizeof(OwnedTensor);

CacheKey key_of(std::uint8_t number) {
  CacheKey key{};
  key[31] = number;
  return key;
}

std::shared_ptr<const CachedResult> result_of(std::int64_t bytes) {
  Shape shape;
  shape.rank = 1;
  shape.dims[0] = bytes;
  auto result = std::make_shared<CachedResult>();
  result->outputs.push_back({DType::uint8, shape, allocate(std::size_t(bytes))});
  return result;
}

}  // namespace

TEST("a cache gives what it was given, and knows its bytes") {
  ResultCache cache(10 * kEntry);
  const auto result = result_of(100);
  cache.insert(key_of(1), result);
  CHECK(cache.find(key_of(1)) == result);
  CHECK(cache.find(key_of(2)) == nullptr);
  CHECK_EQ(cache.entries(), 1u);
  CHECK_EQ(cache.bytes(), kEntry + 100);
}

TEST("what was asked for longest ago makes room for others") {
  ResultCache cache(3 * (kEntry + 100));
  for (std::uint8_t number = 1; number <= 3; ++number) cache.insert(key_of(number), result_of(100));
  CHECK(cache.find(key_of(1)) != nullptr);
  cache.insert(key_of(4), result_of(100));
  CHECK(cache.has(key_of(1)));
  CHECK(!cache.has(key_of(2)));
  CHECK(cache.has(key_of(3)));
  CHECK_EQ(cache.evictions(), 1);
  cache.insert(key_of(5), result_of(std::int64_t(2 * kEntry + 300)));
  CHECK_EQ(cache.entries(), 1u);
  CHECK_EQ(cache.bytes(), 3 * (kEntry + 100));
  CHECK_EQ(cache.evictions(), 4);
}

TEST("what is larger than the whole cache is not kept, and nothing makes room for it") {
  ResultCache cache(kEntry + 100);
  cache.insert(key_of(1), result_of(100));
  cache.insert(key_of(2), result_of(101));
  CHECK(cache.has(key_of(1)));
  CHECK_EQ(cache.entries(), 1u);
}

TEST("the first result of a key stays") {
  ResultCache cache(10 * kEntry);
  const auto first = result_of(1);
  cache.insert(key_of(1), first);
  cache.insert(key_of(1), result_of(2));
  CHECK(cache.find(key_of(1)) == first);
  CHECK_EQ(cache.bytes(), kEntry + 1);
}

TEST("a cleared cache is empty, and has evicted nothing") {
  ResultCache cache(10 * kEntry);
  cache.insert(key_of(1), result_of(1));
  cache.clear();
  CHECK_EQ(cache.entries(), 0u);
  CHECK_EQ(cache.bytes(), 0u);
  CHECK_EQ(cache.evictions(), 0);
  CHECK(cache.find(key_of(1)) == nullptr);
}
