// One predictor and the thread it lives on.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <thread>
#include <unordered_set>

#include "backend.h"
#include "parker.h"
#include "request.h"

namespace paddleinfer {

// The batches an instance has run before, by bucket and rows.
class SizesRun {
 public:
  // Whether this is the first of its size here.
  bool note(std::uint64_t signature, std::int64_t rows) {
    if (seen_.size() >= kMost) seen_.clear();
    return seen_.insert((signature ^ std::uint64_t(rows)) * 0x9e3779b97f4a7c15u).second;
  }

 private:
  static constexpr std::size_t kMost = 4096;
  std::unordered_set<std::uint64_t> seen_;
};

struct Instance {
  Instance(std::size_t number, bool is_root) : index(number), root(is_root) {}
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;
  // The last reference may go on the instance's own thread, when nobody closed the engine to the end.
  ~Instance() {
    if (thread.joinable()) thread.detach();
  }

  const std::size_t index;
  const bool root;  // holds what the other instances' backends were cloned from
  Parker parker;    // woken when there may be work, and at close

  // Touched only by the thread that occupies the instance: its own, or an inline caller's.
  std::unique_ptr<Backend> backend;
  SizesRun sizes_run;

  // The rest is guarded by the dispatcher's lock.
  std::thread thread;
  bool idle = false;      // listed as idle: its thread sleeps, or is about to
  bool coming = false;    // woken, and has not looked yet
  bool occupied = false;  // a batch runs on it
  bool exited = false;
  Batch running;
  std::deque<RequestPtr> orders;  // to be run on this very instance
};

}  // namespace paddleinfer
