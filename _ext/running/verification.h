// Verification in service: now and then one request of a batch runs again alone, and is compared with what it was
// given.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "requests/request.h"
#include "requests/tensor_copy.h"
#include "running/batch_probe.h"
#include "running/output_record.h"

namespace paddleinfer {

// A request to run again, with the results that it was given. It holds copies: the caller may do with its own arrays
// what it likes once it has its result.
class Verification {
 public:
  // Of a slice that ran among others, before its inputs are let go of. Of a part: one row, `row` of the request.
  // `outputs`: how many the model has; the run alone gives them all.
  Verification(const Slice& slice, std::int64_t row, std::vector<OwnedTensor>&& given, std::size_t outputs)
      : request(std::make_shared<Request>()), wanted_(slice.request->wanted), given_(std::move(given)) {
    const Request& original = *slice.request;
    const std::int64_t rows = slice.whole() ? original.rows : 1;
    for (const TensorView& input : original.inputs) {
      inputs_.push_back(slice.whole() ? copy_whole(input) : copy_rows(input, row, 1));
      request->inputs.push_back(view_of(inputs_.back()));
      bytes += inputs_.back().shape.bytes(inputs_.back().dtype);
    }
    for (const OwnedTensor& output : given_) bytes += output.shape.bytes(output.dtype);
    for (std::uint32_t output = 0; output < outputs; ++output) request->wanted.push_back(output);
    request->rows = rows;
    request->signature = original.signature;
    request->outside_queue = true;
    batch = {{request, 0, rows}};
  }

  // `outputs`: of its run alone.
  ProbeVerdict compare(const std::vector<OwnedTensor>& outputs, const std::vector<std::string>& names,
                       OutputRecord& record) const {
    std::vector<TensorView> given, alone;
    for (const OwnedTensor& output : given_) given.push_back(view_of(output));
    for (const OwnedTensor& output : outputs) alone.push_back(view_of(output));
    const std::string reason =
        RowComparison(names, &record).differ(wanted_, given, alone, "between a run with others and alone");
    return {reason.empty() ? ProbeVerdict::Kind::same : ProbeVerdict::Kind::different, reason};
  }

  const RequestPtr request;
  Batch batch;            // of it
  std::size_t bytes = 0;  // that it holds
  Nanos idle_ns = 0;      // that an instance has to have been idle for it
  Nanos given_up_at = kNever;

 private:
  std::vector<OwnedTensor> inputs_;
  const std::vector<std::uint32_t> wanted_;  // which outputs `given_` are
  const std::vector<OwnedTensor> given_;
};

// Which requests are verified, and those that wait for an idle instance. Under the dispatcher's lock.
class Verifications {
 public:
  static constexpr std::int64_t kFirstRuns = 4;  // of a bucket, each of which is verified
  static constexpr std::size_t kMostBytes = std::size_t{64} << 20;
  static constexpr std::size_t kMostWaiting = 16;
  static constexpr Nanos kPatience = 30 * kNanosPerSecond;
  static constexpr Nanos kLeastIdle = 1'000'000;
  static constexpr Nanos kMostIdle = kNanosPerSecond;

  // One of so many requests that share a run; 0: none.
  explicit Verifications(std::int64_t every) : every_(every) {}

  // Whether one of the requests of a batch is to be verified.
  bool wants(const Batch& batch) {
    if (every_ == 0) return false;
    since_last_ += std::int64_t(batch.size());
    if (waiting_.size() >= kMostWaiting || bytes_ >= kMostBytes) return false;
    if (first_runs_.size() >= kMostBuckets) first_runs_.clear();
    std::int64_t& runs = first_runs_[batch.front().request->signature];
    if (runs >= kFirstRuns && since_last_ < every_) return false;
    if (runs < kFirstRuns) ++runs;
    since_last_ = 0;
    return true;
  }

  // Whether so many bytes may be kept.
  static bool fits(std::size_t bytes) noexcept { return bytes <= kMostBytes / 2; }

  // `run_ns`: what its run is predicted to take; 0 where nothing is known. An instance that has been idle as long is
  // likely to stay so: real work hardly ever waits for it.
  void add(std::unique_ptr<Verification> verification, double run_ns, Nanos now) {
    verification->idle_ns = std::clamp(Nanos(run_ns), kLeastIdle, kMostIdle);
    verification->given_up_at = now + kPatience;
    const std::size_t bytes = verification->bytes;
    waiting_.push_back(std::move(verification));
    bytes_ += bytes;
  }

  // The next one for an instance that has been idle since then; null where it should wait, until due().
  std::unique_ptr<Verification> take(Nanos idle_since, Nanos now) noexcept {
    while (!waiting_.empty() && waiting_.front()->given_up_at <= now) pop();
    return due(idle_since) <= now ? pop() : nullptr;
  }
  Nanos due(Nanos idle_since) const noexcept {
    return waiting_.empty() ? kNever : idle_since + waiting_.front()->idle_ns;
  }

  void clear() noexcept {
    waiting_.clear();
    bytes_ = 0;
  }

 private:
  static constexpr std::size_t kMostBuckets = 4096;

  std::unique_ptr<Verification> pop() noexcept {
    std::unique_ptr<Verification> next = std::move(waiting_.front());
    waiting_.pop_front();
    bytes_ -= next->bytes;
    return next;
  }

  const std::int64_t every_;
  std::int64_t since_last_ = 0;  // requests
  std::size_t bytes_ = 0;        // of those that wait
  std::deque<std::unique_ptr<Verification>> waiting_;
  std::unordered_map<std::uint64_t, std::int64_t> first_runs_;  // by bucket
};

}  // namespace paddleinfer
