// The holes that emptying oneDNN's kernels leaves in malloc's heaps, given back to the system.
//
// What one shape's kernels leave, another's seldom fit into: over 500 widths of PP-OCRv5's recognizer 430 MB of 1,080
// were holes. Giving their pages back takes some 15 ms, and what runs next has to get its own again. So it is
// done once the process has grown, and not often.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>

#include "requests/thread_safety.h"
#include "running/malloc_trim.h"

namespace paddleinfer::paddle {

// Of this process; 0 where the system does not tell.
inline std::uint64_t resident_bytes() noexcept {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> statm(std::fopen("/proc/self/statm", "r"), std::fclose);
  unsigned long long size = 0, resident = 0;
  if (statm == nullptr || std::fscanf(statm.get(), "%llu %llu", &size, &resident) != 2) return 0;
  return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

class HeapTrim {
 public:
  static constexpr int kEmptyings = 8;
  static constexpr std::uint64_t kEmptiedBytes = std::uint64_t{256} << 20;
  static constexpr std::uint64_t kGrowthBytes = std::uint64_t{96} << 20;

  // Others in tests.
  explicit HeapTrim(std::uint64_t (*resident)() = resident_bytes, void (*trim)() = trim_malloc) noexcept
      : resident_(resident), trim_(trim) {}

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
    if (resident_() < left_bytes_ + kGrowthBytes) return;
    trim_();
    left_bytes_ = resident_();
    emptyings_ = 0;
    emptied_bytes_ = 0;
  }

 private:
  std::uint64_t (*const resident_)();
  void (*const trim_)();
  Mutex mu_;
  int emptyings_ GUARDED_BY(mu_) = 0;  // since the last trim
  std::uint64_t emptied_bytes_ GUARDED_BY(mu_) = 0;
  std::uint64_t left_bytes_ GUARDED_BY(mu_) = 0;  // resident after it
};

}  // namespace paddleinfer::paddle
