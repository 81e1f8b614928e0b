// A place to stop a thread between two steps of the core, where it allocates; and allocations that fail.
#pragma once

#include <cstdint>
#include <functional>

namespace fakes {

// Called before each `operator new` of the thread that set it, until it gives true. Null: nothing.
// For where a thread might be preempted as well, and where no callback of the core's comes by.
using AllocationHook = std::function<bool()>;
extern thread_local const AllocationHook* before_allocation;

// Whether this thread's allocations are counted, and may fail: `new` and what tensors get from malloc.
extern thread_local bool may_lack_memory;

// While it stands, the n-th allocation of all those threads fails, counted from 1, and so many after it.
class LackOfMemory {
 public:
  LackOfMemory(std::int64_t nth, std::int64_t several);
  LackOfMemory(const LackOfMemory&) = delete;
  LackOfMemory& operator=(const LackOfMemory&) = delete;
  ~LackOfMemory() { end(); }
  // Whether it came to the n-th.
  bool end();
  static bool has_struck();
};

// Of this thread.
class MayLackMemory {
 public:
  MayLackMemory() { may_lack_memory = true; }
  MayLackMemory(const MayLackMemory&) = delete;
  MayLackMemory& operator=(const MayLackMemory&) = delete;
  ~MayLackMemory() { may_lack_memory = false; }
};

}  // namespace fakes
