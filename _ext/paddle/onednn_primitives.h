// oneDNN's own cache of primitives, one for the process, beside Paddle's map of kernels.
//
// A shape that a part of Paddle's map has lost is cheap again while its primitives are here: in PP-OCRv5's recognizer
// a width has 93 of them, 28 KB each, and a run of 38 ms takes 65 with all of them made anew. oneDNN keeps 1,024, which
// is eleven such widths, and past that searches all of them for the oldest at each new one, while other threads wait:
// at 4,096 that took 10 ms a width. So its own limit stands above ours, at which half or more are dropped at once.
#pragma once

#include <cstdlib>

#include "paddle/paddle_abi.h"

namespace paddleinfer::paddle {

struct OneDnnPrimitives {
  static constexpr int kMost = 4096;
  static constexpr int kCapacity = kMost + 1024;  // what one run makes, and what others in the process do

  int (*set_capacity)(int) = nullptr;  // dnnl_set_primitive_cache_capacity
  int (*count)(int*) = nullptr;        // dnnl::impl::get_primitive_cache_size

  // Nothing is found where the user has set a capacity: then that holds.
  static OneDnnPrimitives load(const Abi& abi) {
    OneDnnPrimitives found;
    for (const char* const name : {"ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"})
      if (std::getenv(name) != nullptr) return found;
    if (!find_symbol(abi.library, found.set_capacity, "dnnl_set_primitive_cache_capacity") ||
        !find_symbol(abi.library, found.count, "_ZN4dnnl4impl24get_primitive_cache_sizeEPi"))
      return {};
    found.set_capacity(kCapacity);
    return found;
  }
  bool complete() const noexcept { return set_capacity != nullptr; }

  // After a run that may have made some. Those in use live on in the part that uses them.
  void keep_within_limit() const noexcept {
    int size = 0;
    if (!complete() || count(&size) != 0 || size <= kMost) return;
    // Where as many go as may stay, oneDNN drops all, in one pass; else the oldest one by one, each after a search.
    constexpr int kWaitForEven = 512;
    if (size % 2 != 0 && size < kMost + kWaitForEven) return;
    set_capacity(size / 2);
    set_capacity(kCapacity);
  }
};

}  // namespace paddleinfer::paddle
