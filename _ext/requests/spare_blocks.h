// Memory of large results, kept for the next ones once their callers have let go of them.
//
// malloc gives blocks of such sizes back to the system, and each page of a new one costs a fault: with eight callers
// of PP-OCRv5's recognizer and six lines a request that took an eighth of the throughput.
#pragma once

#include <malloc.h>

#include <cstddef>
#include <iterator>
#include <mutex>
#include <utility>
#include <vector>

#include "requests/tensor_copy.h"
#include "requests/thread_safety.h"

namespace paddleinfer {

// Blocks come from malloc, so that whoever does not know of this may free() them.
class SpareBlocks {
 public:
  static constexpr std::size_t kLeastBytes = std::size_t{1} << 20;
  static constexpr std::size_t kMostBytes = std::size_t{128} << 20;  // of all that are kept

  // The process's, never destroyed: arrays may go after main().
  static SpareBlocks& shared() {
    static auto* const blocks = new SpareBlocks;
    return *blocks;
  }

  // While there is one, blocks are kept.
  class User {
   public:
    explicit User(SpareBlocks& blocks = shared()) : blocks_(blocks) { blocks_.open(); }
    User(const User&) = delete;
    User& operator=(const User&) = delete;
    ~User() { blocks_.close(); }

   private:
    SpareBlocks& blocks_;
  };

  // Of so many bytes, and at most twice as many. Null where there is none.
  Memory take(std::size_t bytes) noexcept {
    if (bytes < kLeastBytes) return nullptr;
    const MutexLock lock(mu_);
    for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {  // the last one is the warmest
      if (block->bytes < bytes || block->bytes > 2 * bytes) continue;
      Memory memory = std::move(block->memory);
      kept_bytes_ -= block->bytes;
      blocks_.erase(std::next(block).base());
      return memory;
    }
    return nullptr;
  }

  // Of a result that nobody has any more. It is freed where another thread is here just now: that may be one of the
  // process which this one was forked from, and never leave.
  void give(Memory memory) noexcept {
    const std::size_t bytes = malloc_usable_size(memory.get());
    if (!mu_.try_lock()) return;
    const MutexLock lock(mu_, std::adopt_lock);
    if (users_ == 0 || bytes < kLeastBytes || bytes > kMostBytes || blocks_.capacity() == 0) return;
    while (!blocks_.empty() && (kept_bytes_ + bytes > kMostBytes || blocks_.size() == blocks_.capacity())) {
      kept_bytes_ -= blocks_.front().bytes;
      blocks_.erase(blocks_.begin());
    }
    kept_bytes_ += bytes;
    blocks_.push_back({std::move(memory), bytes});
  }

  std::size_t kept_bytes() {
    const MutexLock lock(mu_);
    return kept_bytes_;
  }

 private:
  static constexpr std::size_t kMostBlocks = 32;

  struct Block {
    Memory memory;
    std::size_t bytes = 0;
  };

  void open() {
    const MutexLock lock(mu_);
    blocks_.reserve(kMostBlocks);
    ++users_;
  }

  void close() noexcept {
    std::vector<Block> going;  // they are freed without the lock
    const MutexLock lock(mu_);
    if (--users_ > 0) return;
    kept_bytes_ = 0;
    going.swap(blocks_);
  }

  Mutex mu_;
  std::vector<Block> blocks_ GUARDED_BY(mu_);  // the oldest first
  std::size_t kept_bytes_ GUARDED_BY(mu_) = 0;
  int users_ GUARDED_BY(mu_) = 0;
};

}  // namespace paddleinfer
