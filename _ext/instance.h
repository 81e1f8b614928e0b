// One predictor and the thread it lives on; and how a batch goes through it: gather, run, scatter.
#pragma once

#include <cxxabi.h>

#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "backend.h"
#include "parker.h"
#include "request.h"

namespace paddleinfer {

struct Instance {
  Instance(std::size_t number, bool is_root) : index(number), root(is_root) {}
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;
  // The last reference may go on the instance's own thread, when nobody closed the engine to the end.
  ~Instance() {
    if (thread.joinable()) thread.detach();
  }

  const std::size_t index;
  const bool root;  // holds what the other instances' backends were cloned from
  Parker parker;    // woken when there may be work, and at close

  // Touched only by the thread that occupies the instance: its own, or an inline caller's.
  std::unique_ptr<Backend> backend;

  // The rest is guarded by the dispatcher's lock.
  std::thread thread;
  bool idle = false;      // listed as idle: its thread sleeps, or is about to
  bool occupied = false;  // a batch runs on it
  bool exited = false;
  Batch running;
};

// What came out of one execution, a list of outputs per request.
struct Execution {
  bool failed = false;
  Failure failure;
  std::vector<std::vector<OwnedTensor>> outputs;
  Nanos run_ns = 0;
};

namespace detail {

inline void gather(Backend& backend, const Batch& batch) {
  const Request& head = *batch.front();
  std::int64_t rows = 0;
  for (const RequestPtr& request : batch) rows += request->rows;
  for (std::size_t index = 0; index < head.inputs.size(); ++index) {
    const TensorView& first = head.inputs[index];
    const Shape shape = batch.size() == 1 ? first.shape : first.shape.with_rows(rows);
    char* target = static_cast<char*>(backend.input(index, first.dtype, shape));
    for (const RequestPtr& request : batch) {
      const TensorView& view = request->inputs[index];
      std::memcpy(target, view.data, view.bytes());
      target += view.bytes();
    }
  }
}

inline std::vector<std::vector<OwnedTensor>> scatter(Backend& backend, const Batch& batch) {
  std::vector<std::vector<OwnedTensor>> outputs(batch.size());
  std::int64_t first = 0;
  for (std::size_t place = 0; place < batch.size(); ++place) {
    const Request& request = *batch[place];
    // Who has ended meanwhile (timed out, cancelled) gets nothing copied.
    if (!request.ended()) {
      outputs[place].reserve(request.wanted.size());
      for (const std::uint32_t index : request.wanted) {
        const TensorView view = backend.output(index);
        outputs[place].push_back(batch.size() == 1 ? copy_whole(view) : copy_rows(view, first, request.rows));
      }
    }
    first += request.rows;
  }
  return outputs;
}

}  // namespace detail

// Runs a batch whose requests are in state `running`, and gives their inputs back after the last read.
inline Execution execute(Backend& backend, const Batch& batch, ReleaseList& releases) {
  Execution execution;
  const auto give_back_inputs = [&] {
    for (const RequestPtr& request : batch) releases.push(std::exchange(request->input_owner, nullptr));
  };
  try {
    detail::gather(backend, batch);
    give_back_inputs();
    const Nanos begin = monotonic_now();
    backend.run();
    execution.run_ns = monotonic_now() - begin;
    execution.outputs = detail::scatter(backend, batch);
    return execution;
  } catch (abi::__forced_unwind&) {  // the interpreter ends this thread: it must not be stopped
    throw;
  } catch (const PythonFailure& failure) {
    execution.failure = {failure.what(), failure.exception()};
  } catch (const std::exception& failure) {
    execution.failure = {failure.what(), nullptr};
  } catch (...) {
    execution.failure = {"the model threw something that is not a C++ exception", nullptr};
  }
  execution.failed = true;
  give_back_inputs();
  return execution;
}

}  // namespace paddleinfer
