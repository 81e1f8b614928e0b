// One loaded model of onnxruntime's, which all instances of an engine share: several threads may run it at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "onnxruntime/ort_api.h"
#include "running/malloc_trim.h"

namespace paddleinfer::onnxruntime {

struct Tensor {
  std::string name;
  int type = 0;                    // ONNX's number; 0 for what is no tensor
  std::vector<std::int64_t> dims;  // -1 where a size is free
};

class LoadedModel {
 public:
  // `threads` is how many compute at most, those that call run() included; with 1 each call runs on its own thread.
  LoadedModel(Api api, const std::string& path, int threads)
      : api_(std::move(api)),
        env_(made<Env>(api_, api_.release_env, [&](Env** out) { return api_.create_env(kFatal, "paddleinfer", out); })),
        memory_(made<MemoryInfo>(api_, api_.release_memory_info,
                                 [&](MemoryInfo** out) { return api_.cpu_memory(kArena, kDefaultMemory, out); })),
        session_(create(path, threads)) {
    inputs_ = tensors(api_.input_count, api_.input_name, api_.input_type);
    outputs_ = tensors(api_.output_count, api_.output_name, api_.output_type);
    trim_malloc();  // what it took to read the file
  }
  LoadedModel(const LoadedModel&) = delete;
  LoadedModel& operator=(const LoadedModel&) = delete;

  const Api& api() const noexcept { return api_; }
  Session* session() const noexcept { return session_.get(); }
  const MemoryInfo* memory() const noexcept { return memory_.get(); }
  const std::vector<Tensor>& inputs() const noexcept { return inputs_; }
  const std::vector<Tensor>& outputs() const noexcept { return outputs_; }

 private:
  static constexpr int kArena = 1;          // OrtArenaAllocator
  static constexpr int kDefaultMemory = 0;  // OrtMemTypeDefault

  Held<Session> create(const std::string& path, int threads) const {
    const auto options = made<SessionOptions>(api_, api_.release_options, api_.create_options);
    api_.check(api_.set_log_level(options.get(), kFatal));
    api_.check(api_.set_threads(options.get(), threads));
    return made<Session>(api_, api_.release_session, [&](Session** out) {
      return api_.create_session(env_.get(), path.c_str(), options.get(), out);
    });
  }

  std::vector<Tensor> tensors(Status* (*count)(const Session*, std::size_t*),
                              Status* (*name)(const Session*, std::size_t, Allocator*, char**),
                              Status* (*type)(const Session*, std::size_t, TypeInfo**)) const {
    std::size_t number = 0;
    api_.check(count(session(), &number));
    Allocator* allocator = nullptr;
    api_.check(api_.default_allocator(&allocator));
    std::vector<Tensor> found(number);
    for (std::size_t place = 0; place < number; ++place) {
      char* text = nullptr;
      api_.check(name(session(), place, allocator, &text));
      found[place].name = text;
      api_.check(api_.free_allocated(allocator, text));
      const auto described =
          made<TypeInfo>(api_, api_.release_type_info, [&](TypeInfo** out) { return type(session(), place, out); });
      describe(described.get(), found[place]);
    }
    return found;
  }

  void describe(const TypeInfo* described, Tensor& tensor) const {
    const TensorInfo* info = nullptr;  // belongs to `described`
    api_.check(api_.tensor_info_of_type(described, &info));
    if (info == nullptr) return;
    api_.check(api_.element_type_of(info, &tensor.type));
    std::size_t rank = 0;
    api_.check(api_.rank(info, &rank));
    tensor.dims.resize(rank);
    api_.check(api_.dims(info, tensor.dims.data(), rank));
  }

  const Api api_;
  const Held<Env> env_;  // counted by the library: it is the same for all sessions, and goes after the last
  const Held<MemoryInfo> memory_;
  const TrimAtTheEnd trim_;  // goes after the session
  const Held<Session> session_;
  std::vector<Tensor> inputs_;
  std::vector<Tensor> outputs_;
};

// A value over memory that is not the library's, of the dtype and shape of `view`.
inline Held<Value> tensor_over(const LoadedModel& model, const TensorView& view, void* memory) {
  const Api& api = model.api();
  return made<Value>(api, api.release_value, [&](Value** out) {
    return api.create_tensor(model.memory(), memory, view.bytes(), view.shape.dims, view.shape.rank,
                             element_type(view.dtype), out);
  });
}

}  // namespace paddleinfer::onnxruntime
