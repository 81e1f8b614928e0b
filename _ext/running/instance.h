// One predictor and the thread it lives on.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <thread>
#include <unordered_set>
#include <utility>

#include "requests/parker.h"
#include "requests/request.h"
#include "running/backend.h"
#include "scheduling/scheduler_types.h"

namespace paddleinfer {

// The batches an instance has run before, by bucket and rows.
class SizesRun {
 public:
  // Says of a run whether it is the first of its size here, and whether the one before had another.
  void note(std::uint64_t signature, RunRecord& run) {
    if (seen_.size() >= kMost) seen_.clear();
    const std::uint64_t size = (signature ^ std::uint64_t(run.rows)) * 0x9e3779b97f4a7c15u;
    run.first_of_its_size = seen_.insert(size).second;
    run.size_changed = std::exchange(last_, size) != size;
  }

 private:
  static constexpr std::size_t kMost = 4096;
  std::unordered_set<std::uint64_t> seen_;
  std::uint64_t last_ = 0;
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
  bool idle = false;           // listed as idle: its thread sleeps, or is about to
  bool wake_pending = false;   // woken, and has not looked yet
  bool occupied = false;       // a batch runs on it
  bool takes_no_more = false;  // its thread is leaving
  bool exited = false;
  Nanos idle_since = 0;                    // while nothing runs on it
  const Batch* running = nullptr;          // that batch, as long as it is
  bool awaits_clones = false;              // a root that goes when they have gone
  std::deque<RequestPtr> pinned_requests;  // to be run on this very instance
};

}  // namespace paddleinfer
