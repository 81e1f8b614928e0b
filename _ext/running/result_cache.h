// Keeps results by their requests' keys, up to a number of bytes; what was asked for longest ago goes first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <new>
#include <unordered_map>
#include <utility>

#include "requests/cache_use.h"

namespace paddleinfer {

// Guarded by the dispatcher's lock, as a whole.
class ResultCache {
 public:
  // What an entry takes beside its results: its key twice, the links, and what malloc adds.
  static constexpr std::size_t kEntryBytes = 320;

  explicit ResultCache(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  bool on() const noexcept { return max_bytes_ > 0; }
  std::size_t max_bytes() const noexcept { return max_bytes_; }
  std::size_t bytes() const noexcept { return bytes_; }
  std::size_t entries() const noexcept { return places_.size(); }
  // Entries that had to make room for others.
  std::int64_t evictions() const noexcept { return evictions_; }

  static std::size_t bytes_of(const std::vector<OwnedTensor>& outputs) noexcept {
    std::size_t bytes = kEntryBytes;
    for (const OwnedTensor& output : outputs) bytes += sizeof(OwnedTensor) + output.shape.bytes(output.dtype);
    return bytes;
  }

  bool has(const CacheKey& key) const noexcept { return places_.count(key) > 0; }

  // Null where there is none. What is found has been asked for most recently.
  std::shared_ptr<const CachedResult> find(const CacheKey& key) noexcept {
    const auto place = places_.find(key);
    if (place == places_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, place->second);
    return place->second->result;
  }

  // Unless there is one already, or it is larger than all that may be kept, or there is no memory.
  void insert(const CacheKey& key, std::shared_ptr<const CachedResult> result) noexcept {
    const std::size_t bytes = bytes_of(result->outputs);
    if (bytes > max_bytes_ || has(key)) return;
    try {
      entries_.push_front({key, std::move(result), bytes});
    } catch (const std::bad_alloc&) {
      return;
    }
    try {
      places_.emplace(key, entries_.begin());
    } catch (const std::bad_alloc&) {
      entries_.pop_front();
      return;
    }
    bytes_ += bytes;
    while (bytes_ > max_bytes_) {
      drop_last();
      ++evictions_;
    }
  }

  void clear() noexcept {
    while (!entries_.empty()) drop_last();
  }

 private:
  struct Entry {
    CacheKey key;
    std::shared_ptr<const CachedResult> result;
    std::size_t bytes;
  };

  void drop_last() noexcept {
    const Entry& last = entries_.back();
    bytes_ -= last.bytes;
    places_.erase(last.key);
    entries_.pop_back();
  }

  const std::size_t max_bytes_;
  std::list<Entry> entries_;  // the most recently asked for first
  std::unordered_map<CacheKey, std::list<Entry>::iterator, HashOfKey> places_;
  std::size_t bytes_ = 0;
  std::int64_t evictions_ = 0;
};

}  // namespace paddleinfer
