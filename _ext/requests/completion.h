// Ends of requests that nobody waits for natively: they gather here for one reader, one wake-up a batch.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>
#include <vector>

#include "request.h"

namespace paddleinfer {

struct News {
  std::vector<RequestPtr> ended;
  std::vector<RequestPtr> overdue;  // watched, past their deadline, not ended yet
  Nanos next_deadline = kNever;     // of those still watched
  bool stopped = false;
};

// The reader is a thread that calls wait(), or an event loop that watches descriptor() and calls take().
class CompletionQueue {
 public:
  enum class Reader { thread, loop };

  CompletionQueue(Reader reader, std::shared_ptr<ReleaseList> releases) : releases_(std::move(releases)) {
    if (reader == Reader::thread) return;
    descriptor_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "no descriptor for the event loop");
  }
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;
  ~CompletionQueue() { abandon(); }

  // More ends are to come. stop() does not take effect before they have.
  void expect(std::size_t count = 1) {
    const std::lock_guard<std::mutex> lock(mu_);
    expected_ += count;
  }
  void expect_less(std::size_t count = 1) {
    const std::lock_guard<std::mutex> lock(mu_);
    expected_ -= count;
    if (stopped_) notify();
  }

  // The reader hears of a watched request at its deadline, so that it can end it in time. A loop is not woken
  // for it: it asks for next_deadline.
  void watch(const RequestPtr& request) {
    if (request->deadline == kNever) return;
    const std::lock_guard<std::mutex> lock(mu_);
    if (abandoned_) return;
    const bool sooner = watched_.empty() || request->deadline < watched_.front().deadline;
    if (watched_.size() >= 2 * kept_ + 64) forget_ended();
    watched_.push_back({request->deadline, request});
    std::push_heap(watched_.begin(), watched_.end(), later);
    if (sooner && descriptor_ < 0) notify();
  }

  void push(std::vector<RequestPtr>&& ended) {
    if (ended.empty()) return;
    const std::lock_guard<std::mutex> lock(mu_);
    if (abandoned_) return drop(ended);
    const bool first = ended_.empty();
    for (RequestPtr& request : ended) ended_.push_back(std::move(request));
    if (first) notify();
  }

  void stop() {
    const std::lock_guard<std::mutex> lock(mu_);
    stopped_ = true;
    notify();
  }

  // Blocks until there is news. After stop() what is left comes first, then `stopped`.
  News wait() {
    for (;;) {
      const std::uint32_t seen = parker_.epoch();
      News news = take();
      if (news.stopped || !news.ended.empty() || !news.overdue.empty()) return news;
      parker_.wait(seen, news.next_deadline);
    }
  }

  // What there is now.
  News take() {
    News news;
    const std::lock_guard<std::mutex> lock(mu_);
    if (descriptor_ >= 0) {
      std::uint64_t count = 0;
      static_cast<void>(!read(descriptor_, &count, sizeof count));  // empty: somebody has read it already
    }
    news.ended.swap(ended_);
    expected_ -= news.ended.size();
    const Nanos now = watched_.empty() ? 0 : monotonic_now();
    while (!watched_.empty()) {
      const bool done = watched_.front().request->ended();
      if (!done && watched_.front().deadline > now) break;
      std::pop_heap(watched_.begin(), watched_.end(), later);
      if (!done) news.overdue.push_back(std::move(watched_.back().request));
      watched_.pop_back();
    }
    if (!watched_.empty()) news.next_deadline = watched_.front().deadline;
    news.stopped = stopped_ && news.ended.empty() && expected_ == 0;
    if (stopped_ && !news.stopped && expected_ == 0) notify();  // a loop has to look once more
    return news;
  }

  // The loop is gone: what came and what will come is dropped, and the descriptor freed.
  void abandon() {
    const std::lock_guard<std::mutex> lock(mu_);
    abandoned_ = true;
    drop(ended_);
    ended_.clear();
    watched_.clear();
    if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
  }

  // -1 for a thread's, and when it has been freed.
  int descriptor() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return descriptor_;
  }

 private:
  struct Watched {
    Nanos deadline;
    RequestPtr request;
  };
  static bool later(const Watched& a, const Watched& b) noexcept { return a.deadline > b.deadline; }

  // Under mu_: once it is free the descriptor may be closed, and its number be another's.
  void notify() noexcept {
    if (descriptor_ < 0) return parker_.wake();
    const std::uint64_t one = 1;
    static_cast<void>(!write(descriptor_, &one, sizeof one));  // full: the loop is told already
  }

  void drop(const std::vector<RequestPtr>& ended) {
    for (const RequestPtr& request : ended) releases_->push(std::exchange(request->waiter, nullptr));
  }

  // Ended requests would stay until their deadline otherwise. Amortised O(1). Under mu_.
  void forget_ended() {
    const auto ended = [](const Watched& watched) { return watched.request->ended(); };
    watched_.erase(std::remove_if(watched_.begin(), watched_.end(), ended), watched_.end());
    std::make_heap(watched_.begin(), watched_.end(), later);
    kept_ = watched_.size();
  }

  const std::shared_ptr<ReleaseList> releases_;
  mutable std::mutex mu_;
  int descriptor_ = -1;            // guarded by mu_
  std::size_t kept_ = 0;           // guarded by mu_; watched after the last clean-up
  std::vector<RequestPtr> ended_;  // guarded by mu_
  std::vector<Watched> watched_;   // guarded by mu_; a heap, soonest first
  std::size_t expected_ = 0;       // guarded by mu_; ends that have not been read
  bool stopped_ = false;           // guarded by mu_
  bool abandoned_ = false;         // guarded by mu_
  Parker parker_;
};

}  // namespace paddleinfer
