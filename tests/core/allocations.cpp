#include "allocations.h"

#include <cstdlib>
#include <new>
#include <utility>

namespace fakes {

thread_local const AllocationHook* before_allocation = nullptr;

}  // namespace fakes

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
