// Memory of ours for a run's large outputs, so that the session writes them where a caller keeps them.
//
// The session's own memory is an arena that lasts as long as anything in it: what a caller keeps has to be copied out
// of it, and that took 8 % of a run of PP-OCRv5's recognizer. An output's shape is taken to be that of the last run on
// inputs of the same shapes. Where it is not, the session refuses the run, and the shapes follow from the values.
#pragma once

#include <malloc.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "onnxruntime/ort_session.h"
#include "requests/spare_blocks.h"
#include "requests/tensor_copy.h"

namespace paddleinfer::onnxruntime {

class OutputMemory {
 public:
  OutputMemory(std::shared_ptr<const LoadedModel> model, std::size_t outputs)
      : model_(std::move(model)), places_(outputs) {}

  // Before a run on inputs of these shapes: puts the values that it is to write to in their places, and leaves the
  // others null, which the session makes itself. False where all are left.
  bool prepare(std::uint64_t input_shapes, std::vector<Value*>& results) {
    for (Place& place : places_) place.written = false;
    const auto known = shapes_.find(input_shapes);
    if (known == shapes_.end()) return false;
    bool any = false;
    for (std::size_t index = 0; index < places_.size(); ++index) {
      const TensorView& output = known->second[index];
      if (output.bytes() < kLeastBytes) continue;
      Place& place = places_[index];
      place.fit(*model_, output);
      place.written = any = true;
      results[index] = place.value.get();
    }
    return any;
  }

  // That run was refused, and it is to write to nothing of this.
  void withdraw() noexcept {
    for (Place& place : places_) place.written = false;
  }

  // It has gone well without: its shapes are not what they were.
  void give_up() noexcept {
    shapes_.clear();
    follow_ = false;
  }

  // After a run: what an output was like.
  void note(std::uint64_t input_shapes, std::size_t index, const TensorView& output) {
    if (!follow_ || output.bytes() < kLeastBytes) return;
    if (shapes_.size() >= kMostShapes && shapes_.count(input_shapes) == 0) shapes_.clear();
    std::vector<TensorView>& known = shapes_[input_shapes];
    known.resize(places_.size());
    known[index] = {output.dtype, output.shape, nullptr};
  }

  // Where the last run has written an output; null where the session made it.
  const TensorView* written(std::size_t index) const noexcept {
    const Place& place = places_.at(index);
    return place.written ? &place.view : nullptr;
  }

  // The same memory, for its caller; null where there is none.
  Memory take(std::size_t index) noexcept {
    Place& place = places_[index];
    if (!place.written) return nullptr;
    place.value.reset();
    return std::move(place.memory);
  }

 private:
  static constexpr std::size_t kLeastBytes = 1 << 16;  // smaller ones are copied faster than a value is made
  static constexpr std::size_t kMostShapes = 1024;

  struct Place {
    TensorView view;
    Memory memory;
    std::size_t bytes = 0;
    Held<Value> value{nullptr, nullptr};
    bool written = false;

    // At most twice what the output needs, for its caller keeps all of it.
    void fit(const LoadedModel& model, const TensorView& output) {
      const std::size_t needed = output.bytes();
      if (value && memory && view.dtype == output.dtype && view.shape == output.shape) return;
      value.reset();
      if (!memory || bytes < needed || bytes > 2 * needed) {
        memory = SpareBlocks::shared().take(needed);
        bytes = memory ? malloc_usable_size(memory.get()) : needed;
        if (!memory) memory = allocate(needed);
      }
      view = output;
      view.data = memory.get();
      value = tensor_over(model, view, memory.get());
    }
  };

  const std::shared_ptr<const LoadedModel> model_;
  const SpareBlocks::User spare_blocks_;
  std::vector<Place> places_;
  std::unordered_map<std::uint64_t, std::vector<TensorView>>
      shapes_;          // by the inputs' shapes; of the small ones nothing
  bool follow_ = true;  // an output's shape follows from the inputs'
};

}  // namespace paddleinfer::onnxruntime
