// Chooses a replica for a request, by what the router knows of the replicas.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "requests/time.h"

namespace paddleinfer {

enum class Routing : std::uint8_t {
  round_robin,
  random,
  power_of_two_requests,  // of two chosen at random the one with fewer requests under way
  power_of_two_rows,      // with fewer rows under way
  power_of_two_delay,     // with the shorter predicted delay
  least_delay,            // of all, the one with the shortest predicted delay
};
inline constexpr std::size_t kRoutings = std::size_t(Routing::least_delay) + 1;

constexpr const char* to_string(Routing value) noexcept {
  switch (value) {
    case Routing::round_robin:
      return "round_robin";
    case Routing::random:
      return "random";
    case Routing::power_of_two_requests:
      return "power_of_two_requests";
    case Routing::power_of_two_rows:
      return "power_of_two_rows";
    case Routing::power_of_two_delay:
      return "power_of_two_delay";
    case Routing::least_delay:
      return "least_delay";
  }
  return "";
}

// What a replica says of itself.
struct Figures {
  std::int64_t requests = 0;  // that wait or run
  std::int64_t rows = 0;
  Nanos free_at = 0;  // when a request that came now is predicted to start
};

class Router {
 public:
  Router(Routing routing, std::uint64_t seed) : routing_(routing), random_(seed) {}

  bool asks_replicas() const noexcept { return routing_ != Routing::round_robin && routing_ != Routing::random; }

  // One of `open`, which is not empty; `known` has a place for each replica.
  std::size_t choose(const std::vector<std::size_t>& open, const std::vector<Figures>& known, Nanos now) {
    switch (routing_) {
      case Routing::random:
        return open[below(open.size())];
      case Routing::power_of_two_requests:
        return better_of_two(open, [&](std::size_t replica) { return known[replica].requests; });
      case Routing::power_of_two_rows:
        return better_of_two(open, [&](std::size_t replica) { return known[replica].rows; });
      case Routing::power_of_two_delay:
        return better_of_two(open, [&](std::size_t replica) { return std::max(now, known[replica].free_at); });
      case Routing::least_delay:
        return least_delay(open, known, now);
      case Routing::round_robin:
        break;
    }
    return open[next_++ % open.size()];
  }

 private:
  // The high half of a product: no division, and the same on every machine.
  std::size_t below(std::size_t count) { return std::size_t(((random_() >> 32) * std::uint64_t(count)) >> 32); }

  template <typename Cost>
  std::size_t better_of_two(const std::vector<std::size_t>& open, Cost&& cost) {
    if (open.size() == 1) return open.front();
    const std::size_t one = below(open.size());
    const std::size_t other = (one + 1 + below(open.size() - 1)) % open.size();
    return cost(open[other]) < cost(open[one]) ? open[other] : open[one];
  }

  // Those that are equal take turns.
  std::size_t least_delay(const std::vector<std::size_t>& open, const std::vector<Figures>& known, Nanos now) {
    const std::size_t first = next_++ % open.size();
    std::size_t best = open[first];
    for (std::size_t step = 0; step < open.size() && known[best].free_at > now; ++step) {
      const std::size_t replica = open[first + step < open.size() ? first + step : first + step - open.size()];
      if (known[replica].free_at < known[best].free_at) best = replica;
    }
    return best;
  }

  const Routing routing_;
  std::mt19937_64 random_;
  std::size_t next_ = 0;
};

}  // namespace paddleinfer
