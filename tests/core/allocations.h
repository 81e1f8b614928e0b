// A place to stop a thread between two steps of the core: where it allocates.
#pragma once

#include <functional>

namespace fakes {

// Called before each `operator new` of the thread that set it, until it gives true. Null: nothing.
// For where a thread might be preempted as well, and where no callback of the core's comes by.
using AllocationHook = std::function<bool()>;
extern thread_local const AllocationHook* before_allocation;

}  // namespace fakes
