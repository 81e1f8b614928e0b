// Ends of requests that nobody waits for natively: they gather here for one reader, one wake-up a batch.
#pragma once

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "request.h"

namespace paddleinfer {

struct News {
  std::vector<RequestPtr> ended;
  std::vector<RequestPtr> overdue;  // watched, past their deadline, not ended yet
  bool stopped = false;
};

class CompletionQueue {
 public:
  // One more end is to come. stop() does not take effect before it has.
  void expect() {
    const std::lock_guard<std::mutex> lock(mu_);
    ++expected_;
  }
  void expect_one_less() {
    bool stopped = false;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      --expected_;
      stopped = stopped_;
    }
    if (stopped) parker_.wake();
  }

  // The reader is woken at the deadline of a watched request, so that it can end it in time.
  void watch(const RequestPtr& request) {
    if (request->deadline == kNever) return;
    bool sooner = false;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      sooner = watched_.empty() || request->deadline < watched_.front().deadline;
      if (watched_.size() >= 2 * kept_ + 64) forget_ended();
      watched_.push_back({request->deadline, request});
      std::push_heap(watched_.begin(), watched_.end(), later);
    }
    if (sooner) parker_.wake();
  }

  void push(std::vector<RequestPtr>&& ended) {
    if (ended.empty()) return;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      for (RequestPtr& request : ended) ended_.push_back(std::move(request));
    }
    parker_.wake();
  }

  void stop() {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      stopped_ = true;
    }
    parker_.wake();
  }

  // Blocks until there is news. After stop() what is left comes first, then `stopped`.
  News wait() {
    for (;;) {
      const std::uint32_t seen = parker_.epoch();
      News news;
      Nanos wake_at = kNever;
      {
        const std::lock_guard<std::mutex> lock(mu_);
        news.ended.swap(ended_);
        expected_ -= news.ended.size();
        const Nanos now = monotonic_now();
        while (!watched_.empty()) {
          const bool done = watched_.front().request->ended();
          if (!done && watched_.front().deadline > now) break;
          std::pop_heap(watched_.begin(), watched_.end(), later);
          if (!done) news.overdue.push_back(std::move(watched_.back().request));
          watched_.pop_back();
        }
        if (!watched_.empty()) wake_at = watched_.front().deadline;
        news.stopped = stopped_ && news.ended.empty() && expected_ == 0;
      }
      if (news.stopped || !news.ended.empty() || !news.overdue.empty()) return news;
      parker_.wait(seen, wake_at);
    }
  }

 private:
  struct Watched {
    Nanos deadline;
    RequestPtr request;
  };
  static bool later(const Watched& a, const Watched& b) noexcept { return a.deadline > b.deadline; }

  // Ended requests would stay until their deadline otherwise. Amortised O(1). Under mu_.
  void forget_ended() {
    const auto ended = [](const Watched& watched) { return watched.request->ended(); };
    watched_.erase(std::remove_if(watched_.begin(), watched_.end(), ended), watched_.end());
    std::make_heap(watched_.begin(), watched_.end(), later);
    kept_ = watched_.size();
  }

  std::mutex mu_;
  std::size_t kept_ = 0;           // guarded by mu_; watched after the last clean-up
  std::vector<RequestPtr> ended_;  // guarded by mu_
  std::vector<Watched> watched_;   // guarded by mu_; a heap, soonest first
  std::size_t expected_ = 0;       // guarded by mu_; ends that have not been read
  bool stopped_ = false;           // guarded by mu_
  Parker parker_;
};

}  // namespace paddleinfer
