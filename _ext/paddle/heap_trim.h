// The holes that emptying oneDNN's kernels leaves in malloc's heaps, given back to the system.
//
// What one shape's kernels leave, another's seldom fit into: over 500 widths of PP-OCRv5's recognizer 430 MB of 1,080
// were holes. Giving their pages back takes some 15 ms, and what runs next has to get its own again. So it is
// done once the holes have grown, and not often.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>

#include "paddle/allocated_bytes.h"
#include "requests/thread_safety.h"
#include "running/malloc_trim.h"

namespace paddleinfer::paddle {

// Resident bytes of this process that no file is behind; 0 where the system does not tell.
inline std::int64_t anonymous_bytes() noexcept {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> statm(std::fopen("/proc/self/statm", "r"), std::fclose);
  long long size = 0, resident = 0, shared = 0;
  if (statm == nullptr || std::fscanf(statm.get(), "%lld %lld %lld", &size, &resident, &shared) != 3) return 0;
  return (resident - shared) * static_cast<std::int64_t>(sysconf(_SC_PAGESIZE));
}

// Those that malloc has not given out: its holes, and what never was its own, which does not change much. What is
// resident in all would not do: other instances' runs are in it, and so a busy moment would be taken for the least.
inline std::int64_t hole_bytes() noexcept { return anonymous_bytes() - static_cast<std::int64_t>(allocated_bytes()); }

class HeapTrim {
 public:
  static constexpr int kEmptyings = 8;
  static constexpr std::uint64_t kEmptiedBytes = std::uint64_t{256} << 20;
  static constexpr std::int64_t kGrowthBytes = std::int64_t{96} << 20;

  // Others in tests.
  explicit HeapTrim(std::int64_t (*holes)() = hole_bytes, void (*trim)() = trim_malloc) noexcept
      : holes_(holes), trim_(trim) {}

  // The process's, never destroyed: instances may end after main().
  static HeapTrim& shared() {
    static auto* const trim = new HeapTrim;
    return *trim;
  }

  // Of any part, which held about so many bytes.
  void note_emptying(std::uint64_t bytes) {
    const MutexLock lock(mu_);
    emptied_bytes_ += bytes;
    if (++emptyings_ < kEmptyings && emptied_bytes_ < kEmptiedBytes) return;
    emptyings_ = 0;
    emptied_bytes_ = 0;
    if (is_trimmed_ && holes_() < left_bytes_ + kGrowthBytes) return;
    trim_();
    // A run that ends meanwhile leaves holes of its own, which are not to be taken for those that cannot be helped.
    const std::int64_t left = holes_();
    left_bytes_ = is_trimmed_ ? std::min(left, left_bytes_ + kGrowthBytes / 8) : left;
    is_trimmed_ = true;
  }

 private:
  std::int64_t (*const holes_)();
  void (*const trim_)();
  Mutex mu_;
  int emptyings_ GUARDED_BY(mu_) = 0;  // since it last looked
  std::uint64_t emptied_bytes_ GUARDED_BY(mu_) = 0;
  bool is_trimmed_ GUARDED_BY(mu_) = false;
  std::int64_t left_bytes_ GUARDED_BY(mu_) = 0;  // holes after it
};

}  // namespace paddleinfer::paddle
