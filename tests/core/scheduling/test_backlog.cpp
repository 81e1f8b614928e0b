// The work that waits ahead of a key.
#include <map>
#include <random>

#include "check.h"
#include "scheduling/backlog.h"

using namespace paddleinfer;
using namespace harness;

namespace {

constexpr Nanos kSlot = 4 * kMillisecond;  // keys within it are not told apart

}  // namespace

TEST("the work ahead of a key is that of keys that are not later") {
  Backlog backlog;
  CHECK_EQ(backlog.ahead(kNever, 0), 0);
  backlog.add(10 * kSlot, 5);
  backlog.add(20 * kSlot, 7);
  backlog.add(100 * kSlot, 11);
  CHECK_EQ(backlog.ahead(9 * kSlot, 0), 0);
  CHECK_EQ(backlog.ahead(10 * kSlot, 0), 5);
  CHECK_EQ(backlog.ahead(19 * kSlot, 0), 5);
  CHECK_EQ(backlog.ahead(50 * kSlot, 0), 12);
  CHECK_EQ(backlog.ahead(kNever, 0), 23);
  backlog.remove(20 * kSlot, 7);
  CHECK_EQ(backlog.ahead(50 * kSlot, 0), 5);
  backlog.remove(10 * kSlot, 2);
  CHECK_EQ(backlog.ahead(kNever, 0), 14);
}

TEST("keys a few milliseconds apart may not be told apart, and are never lost for it") {
  Backlog backlog;
  backlog.add(10 * kSlot + kMillisecond, 5);
  CHECK_EQ(backlog.ahead(10 * kSlot, 0), 5);
  CHECK_EQ(backlog.ahead(11 * kSlot, 0), 5);
  CHECK_EQ(backlog.ahead(10 * kSlot - 1, 0), 0);
}

TEST("what is overdue is ahead of everything, and a key may be farther away than any") {
  Backlog backlog;
  const Nanos now = 100 * kNanosPerSecond;
  backlog.add(now - 15 * kNanosPerSecond, 3);
  backlog.add(now - kSlot, 4);
  backlog.add(now + 10 * kNanosPerSecond, 5);
  CHECK_EQ(backlog.ahead(now, now), 7);
  CHECK_EQ(backlog.ahead(now - 10 * kNanosPerSecond, now), 3);
  CHECK_EQ(backlog.ahead(now + 3600 * kNanosPerSecond, now), 12);
  CHECK_EQ(backlog.ahead(kNever, now), 12);
}

TEST("the ring of slots may wrap wherever it likes") {
  for (std::uint32_t seed = 1; seed <= 5; ++seed) {
    std::mt19937_64 random(seed);
    const auto pick = [&](Nanos below) { return Nanos(random() % std::uint64_t(below)); };
    Backlog backlog;
    std::multimap<Nanos, std::int64_t> waiting;
    for (Nanos now = pick(40 * kNanosPerSecond); now < 200 * kNanosPerSecond; now += pick(2 * kNanosPerSecond)) {
      for (int place = 0; place < 5; ++place) {
        const Nanos key = now + pick(10 * kNanosPerSecond);
        backlog.add(key, 1 + place);
        waiting.insert({key, 1 + place});
      }
      // Nobody waits for longer than that past the key.
      while (!waiting.empty() && (waiting.size() > 30 || waiting.begin()->first < now - 12 * kNanosPerSecond)) {
        backlog.remove(waiting.begin()->first, waiting.begin()->second);
        waiting.erase(waiting.begin());
      }
      for (int look = 0; look < 10; ++look) {
        const Nanos key = now + pick(20 * kNanosPerSecond) - std::min(now, 5 * kNanosPerSecond);
        std::int64_t expected = 0;
        for (const auto& [other, work] : waiting) expected += other / kSlot <= key / kSlot ? work : 0;
        CHECK_EQ(backlog.ahead(key, now), expected);
      }
    }
  }
}
