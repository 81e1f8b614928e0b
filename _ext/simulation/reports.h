// Keeps what a router knows of the replicas: what they were a while ago.
#pragma once

#include <cstddef>
#include <deque>
#include <vector>

#include "requests/time.h"
#include "simulation/router.h"

namespace paddleinfer {

class Reports {
 public:
  explicit Reports(Nanos delay) : delay_(delay) {}

  void add_replica() { known_.emplace_back(); }

  void note(std::size_t replica, const Figures& figures, Nanos now) {
    if (delay_ == 0) {
      known_[replica] = figures;
    } else {
      under_way_.push_back({now + delay_, replica, figures});
    }
  }

  const std::vector<Figures>& known(Nanos now) {
    for (; !under_way_.empty() && under_way_.front().at <= now; under_way_.pop_front()) {
      known_[under_way_.front().replica] = under_way_.front().figures;
    }
    return known_;
  }

 private:
  struct Report {
    Nanos at;
    std::size_t replica;
    Figures figures;
  };

  const Nanos delay_;
  std::vector<Figures> known_;
  std::deque<Report> under_way_;
};

}  // namespace paddleinfer
