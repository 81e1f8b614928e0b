// Collects ended requests that no thread waits for natively, for one reader, and wakes it once a batch.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <new>
#include <system_error>
#include <utility>
#include <vector>

#include "requests/parker.h"
#include "requests/request.h"
#include "requests/request_wait.h"
#include "requests/room.h"
#include "requests/thread_safety.h"

namespace paddleinfer {

struct CompletionEvents {
  std::vector<RequestPtr> ended;
  std::vector<RequestPtr> overdue;  // watched, past their deadline, not ended yet
  Nanos next_deadline = kNever;     // of those still watched
  bool stopped = false;
};

// The reader is a thread that calls wait(), or an event loop that watches descriptor() and calls take().
class CompletionQueue {
 public:
  enum class Reader { thread, loop };

  explicit CompletionQueue(Reader reader) {
    if (reader == Reader::thread) return;
    descriptor_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "no descriptor for the event loop");
  }
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;
  ~CompletionQueue() { abandon(); }

  // So many ends are to come, of which so many are to be watched. stop() does not take effect before they have.
  void expect(std::size_t count = 1, std::size_t watches = 0) {
    const MutexLock lock(mu_);
    make_room(watched_, watches_to_come_ + watches);
    watches_to_come_ += watches;
    expected_ += count;
  }
  void expect_less(std::size_t count = 1, std::size_t watches = 0) noexcept {
    const MutexLock lock(mu_);
    watches_to_come_ -= std::min(watches_to_come_, watches);
    expected_ -= count;
    if (stopped_) notify();
  }

  // Of a request that is expected: the reader hears of it at its deadline, so that it can end it in time. A loop is
  // not woken for it: it asks for next_deadline.
  void watch(const RequestPtr& request) noexcept {
    if (request->deadline == kNever) return;
    const MutexLock lock(mu_);
    watches_to_come_ -= std::min<std::size_t>(watches_to_come_, 1);
    if (abandoned_) return;
    const bool sooner = watched_.empty() || request->deadline < watched_.front().deadline;
    if (watched_.size() >= 2 * kept_ + 64) forget_ended();
    watched_.push_back({request->deadline, request});
    std::push_heap(watched_.begin(), watched_.end(), later);
    if (sooner && descriptor_ < 0) notify();
  }

  void push(RequestChain&& ended) noexcept {
    if (ended.empty()) return;
    const MutexLock lock(mu_);
    if (abandoned_) return;  // nobody will ask for them
    const bool first = ended_.empty();
    ended_.append(std::move(ended));
    if (first) notify();
  }

  void stop() {
    const MutexLock lock(mu_);
    stopped_ = true;
    notify();
  }

  // Blocks until there are events. After stop() it returns the remaining ones first, then `stopped`.
  CompletionEvents wait() {
    for (;;) {
      const std::uint32_t seen = parker_.epoch();
      CompletionEvents events = take();
      if (events.stopped || !events.ended.empty() || !events.overdue.empty()) return events;
      parker_.wait(seen, events.next_deadline);
    }
  }

  // What there is now. Where it throws, all is still there.
  CompletionEvents take() {
    CompletionEvents events;
    const MutexLock lock(mu_);
    events.ended.reserve(ended_.size());
    take_due(events.overdue);
    if (descriptor_ >= 0) {
      std::uint64_t count = 0;
      static_cast<void>(!read(descriptor_, &count, sizeof count));  // empty: somebody has read it already
    }
    while (!ended_.empty()) events.ended.push_back(ended_.pop());
    expected_ -= events.ended.size();
    if (!watched_.empty()) events.next_deadline = watched_.front().deadline;
    events.stopped = stopped_ && events.ended.empty() && expected_ == 0;
    if (stopped_ && !events.stopped && expected_ == 0) notify();  // a loop has to look once more
    return events;
  }

  // The loop is gone: what came and what will come is dropped, and the descriptor freed.
  void abandon() noexcept {
    const MutexLock lock(mu_);
    abandoned_ = true;
    ended_.clear();
    watched_.clear();
    if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
  }

  // -1 for a thread's, and when it has been freed.
  int descriptor() const {
    const MutexLock lock(mu_);
    return descriptor_;
  }

 private:
  struct Watched {
    Nanos deadline;
    RequestPtr request;
  };
  static bool later(const Watched& a, const Watched& b) noexcept { return a.deadline > b.deadline; }

  // Once the lock is free the descriptor may be closed, and its number be another's.
  void notify() noexcept REQUIRES(mu_) {
    if (descriptor_ < 0) return parker_.wake();
    const std::uint64_t one = 1;
    static_cast<void>(!write(descriptor_, &one, sizeof one));  // full: the loop is told already
  }

  // Those watched whose deadline has passed. Takes some of them, or none and throws, where there is no memory.
  void take_due(std::vector<RequestPtr>& due) REQUIRES(mu_) {
    const Nanos now = watched_.empty() ? 0 : monotonic_now();
    while (!watched_.empty()) {
      const bool done = watched_.front().request->ended();
      if (!done && watched_.front().deadline > now) break;
      try {
        make_room(due);
      } catch (const std::bad_alloc&) {
        if (due.empty()) throw;
        break;  // the others at the next look
      }
      std::pop_heap(watched_.begin(), watched_.end(), later);
      if (!done) due.push_back(std::move(watched_.back().request));
      watched_.pop_back();
    }
  }

  // Ended requests would stay until their deadline otherwise. Amortised O(1).
  void forget_ended() noexcept REQUIRES(mu_) {
    const auto ended = [](const Watched& watched) { return watched.request->ended(); };
    watched_.erase(std::remove_if(watched_.begin(), watched_.end(), ended), watched_.end());
    std::make_heap(watched_.begin(), watched_.end(), later);
    kept_ = watched_.size();
  }

  mutable Mutex mu_;
  int descriptor_ GUARDED_BY(mu_) = -1;
  std::size_t kept_ GUARDED_BY(mu_) = 0;  // watched after the last clean-up
  RequestChain ended_ GUARDED_BY(mu_);
  std::vector<Watched> watched_ GUARDED_BY(mu_);  // a heap, soonest first
  std::size_t watches_to_come_ GUARDED_BY(mu_) = 0;
  std::size_t expected_ GUARDED_BY(mu_) = 0;  // ends that have not been read
  bool stopped_ GUARDED_BY(mu_) = false;
  bool abandoned_ GUARDED_BY(mu_) = false;
  Parker parker_;
};

}  // namespace paddleinfer
