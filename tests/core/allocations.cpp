#include "allocations.h"

#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>
#include <utility>

namespace fakes {

thread_local const AllocationHook* before_allocation = nullptr;
thread_local bool may_lack_memory = false;

namespace {

constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
std::atomic<std::int64_t> first{kNone};  // that fails
std::atomic<std::int64_t> last{kNone};
std::atomic<std::int64_t> counted{0};

bool is_lacking() {
  if (!may_lack_memory || first.load() == kNone) return false;
  const std::int64_t number = counted.fetch_add(1) + 1;
  return number >= first.load() && number <= last.load();
}

}  // namespace

LackOfMemory::LackOfMemory(std::int64_t nth, std::int64_t several) {
  counted = 0;
  last = nth + several;
  first = nth;
}

bool LackOfMemory::has_struck() { return counted.load() >= first.load(); }

bool LackOfMemory::end() {
  const bool struck = has_struck();
  first = kNone;
  return struck;
}

}  // namespace fakes

// What this program's own objects call instead of malloc (the linker's --wrap).
extern "C" void* __real_malloc(std::size_t bytes);
extern "C" void* __wrap_malloc(std::size_t bytes) { return fakes::is_lacking() ? nullptr : __real_malloc(bytes); }

void* operator new(std::size_t bytes) {
  using fakes::before_allocation;
  if (before_allocation != nullptr) {
    const fakes::AllocationHook* hook = std::exchange(before_allocation, nullptr);  // it may allocate itself
    if (!(*hook)()) before_allocation = hook;
  }
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}

// The AddressSanitizer brings its own of these, which would not fit the `delete` below.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return std::malloc(bytes == 0 ? 1 : bytes); }

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
