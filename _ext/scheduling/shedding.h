// Drops requests before they run: those that have ended or expired, those that cannot be in time, and in overload
// those whose loss lets the others be in time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#include "requests/request.h"
#include "requests/room.h"
#include "scheduling/batching_policy.h"
#include "scheduling/bucket.h"
#include "scheduling/deadlines.h"
#include "scheduling/request_queue.h"
#include "scheduling/scheduler_types.h"

namespace paddleinfer {

class Shedding {
 public:
  Shedding(const EngineStatus& status, const BatchingPolicy& policy, const Deadlines& deadlines, RequestQueue& queue)
      : status_(status), policy_(policy), deadlines_(deadlines), queue_(queue) {}

  // Drops heads that have ended, that have expired, and that can no longer be in time. Whether there were any.
  bool drop_late(Decision& decision, Bucket& bucket, Nanos now) {
    bool dropped = false;
    for (; !bucket.empty(); dropped = true) {
      Request& head = *bucket.first();
      if (!head.in_queue) {  // ended early, and given back then
        queue_.pop(bucket);
        continue;
      }
      const bool expired = head.deadline <= now;
      if (!expired && !(deadlines_.minds_deadlines(head) && deadlines_.too_late(bucket, head, now))) break;
      std::vector<RequestPtr>& dropped_ones = expired ? decision.expired : decision.shed;
      make_room(dropped_ones);
      const RequestPtr late = queue_.pop(bucket);
      if (!expired)
        late->needs_ns =
            Nanos(bucket.times.predict_p95_ns(deadlines_.part_of(bucket, *late)) + deadlines_.delivery_latency_ns);
      queue_.leave_queue(bucket, *late, now);
      dropped_ones.push_back(late);
    }
    return dropped;
  }

  // In overload: when the most urgent request forces a small batch, and the one behind that batch would force another,
  // batches stay small for as long as requests keep coming. So the shortest run of heads is shed whose loss lets a
  // full batch go, unless small batches would lose less of all that waits.
  void shed_for_throughput(Decision& decision, Bucket& bucket, Nanos now) noexcept {
    const std::int64_t full = policy_.target_rows(bucket);
    if (status_.merging != Merging::yes || !deadlines_.minds_deadlines(*bucket.first()) || bucket.queued_rows <= full)
      return;
    const LatencyModel& times = bucket.times;
    const auto allowed = [&](const Request& head, double start) {
      return head.deadline == kNever ? full : times.rows_within(deadlines_.run_by(head) - start, full);
    };
    const std::int64_t rows = std::max<std::int64_t>(1, allowed(*bucket.first(), double(now)));
    const double rows_ns = times.predict_ns(rows);
    const double loss = 1 - double(rows) / rows_ns * times.predict_ns(full) / double(full);
    if (rows == full || loss < kLossToShed) return;

    std::vector<std::pair<Place, RequestPtr>> heads;
    std::size_t prefix = 0;   // of heads, that would have to go
    std::int64_t passed = 0;  // rows
    std::int64_t lost = 0;    // rows of the prefix
    bool stays_small = false;
    const auto have_room = [](auto& list, std::size_t more) noexcept {
      try {
        make_room(list, more);
        return true;
      } catch (const std::bad_alloc&) {
        return false;
      }
    };
    while (!bucket.empty() && have_room(heads, 1) && passed <= full * std::max<std::int64_t>(1, status_.instances)) {
      const Request& head = *bucket.first();
      if (head.in_queue) {
        if (prefix == 0 && allowed(head, double(now)) == full) {
          prefix = heads.size();
          lost = passed;
        }
        if (!stays_small && passed >= rows) {
          stays_small = allowed(head, double(now) + rows_ns) < full;
          if (!stays_small) break;
        }
        if (stays_small && prefix > 0) break;
        passed += head.rows - head.next_row;
      }
      const Place place = bucket.first_place();
      if (RequestPtr request = queue_.pop(bucket)) heads.push_back({place, std::move(request)});
    }
    const bool pays = stays_small && prefix > 0 && double(lost) < loss * double(bucket.queued_rows - lost) &&
                      have_room(decision.shed, prefix);
    for (std::size_t place = 0; place < heads.size(); ++place) {
      RequestPtr& request = heads[place].second;
      if (pays && place < prefix) {
        queue_.leave_queue(bucket, *request, now);
        decision.shed.push_back(std::move(request));
      } else {
        queue_.buckets.push(bucket, heads[place].first, request);
      }
    }
  }

 private:
  static constexpr double kLossToShed = 0.1;  // of the best rate

  const EngineStatus& status_;
  const BatchingPolicy& policy_;
  const Deadlines& deadlines_;
  RequestQueue& queue_;
};

}  // namespace paddleinfer
