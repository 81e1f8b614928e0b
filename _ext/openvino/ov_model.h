// A model that OpenVINO has read and compiled, for all instances of an engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "openvino/ov_api.h"
#include "running/malloc_trim.h"

namespace paddleinfer::openvino {

struct TensorInfo {
  std::string name;
  int type = 0;                    // OpenVINO's number
  std::vector<std::int64_t> dims;  // -1 where a size is free; empty for a scalar, and where the rank is free
};

// How the instances compute.
struct Threads {
  int instances = 1;
  int per_instance = 1;
  // Whether each instance has a compiled model of its own, and computes on the thread that asks; else they share one,
  // whose weights count once, and it computes on threads of OpenVINO's, one stream for each instance.
  bool apart = false;
};

// How many kernels of each kind a stream keeps of the shapes that it has run, the oldest of which go first. With
// OpenVINO's 5,000 what PP-OCRv5 has read of hundreds of page sizes stays, 600 MB with 2,048; and six models that went
// round 12 to 64 shapes were as fast with 64 as with 5,000, for a kernel is soon made.
inline constexpr int kKernelsKept = 256;

class LoadedModel {
 public:
  LoadedModel(Api api, const std::string& path, const Threads& threads)
      : api_(std::move(api)), core_(made<Core>(api_, api_.free_core, api_.create_core)) {
    compile(path, threads);
    inputs_ = tensors(api_.input_count, api_.input_port);
    outputs_ = tensors(api_.output_count, api_.output_port);
    trim_malloc();  // what it took to read the file
  }
  LoadedModel(const LoadedModel&) = delete;
  LoadedModel& operator=(const LoadedModel&) = delete;

  const Api& api() const noexcept { return api_; }
  const std::vector<TensorInfo>& inputs() const noexcept { return inputs_; }
  const std::vector<TensorInfo>& outputs() const noexcept { return outputs_; }

  // Where the input with this name is among inputs(); negative where there is none. A tensor may have several names, of
  // which OpenVINO tells one.
  int input_index(const std::string& name) const {
    Port* port = nullptr;
    if (api_.named_input(compiled_.front().get(), name.c_str(), &port) != 0) return -1;
    const Held<Port> held(port, api_.free_port);
    const std::string told = name_of(port);
    for (std::size_t index = 0; index < inputs_.size(); ++index) {
      if (inputs_[index].name == told) return int(index);
    }
    return -1;
  }

  // Where one instance computes. To be made, and freed, on its thread.
  Held<InferRequest> request(std::size_t instance) const {
    const CompiledModel* const compiled = compiled_[instance % compiled_.size()].get();
    return made<InferRequest>(api_, api_.free_request,
                              [&](InferRequest** out) { return api_.create_request(compiled, out); });
  }

  // What is in force for one compiled model, as OpenVINO says it.
  std::string property(const char* name) const {
    char* value = nullptr;
    api_.check(api_.property(compiled_.front().get(), name, &value));
    const Held<const char> held(value, api_.free_text);
    return value;
  }

 private:
  void compile(const std::string& path, const Threads& threads) {
    const auto model = made<Model>(
        api_, api_.free_model, [&](Model** out) { return api_.read_model(core_.get(), path.c_str(), nullptr, out); });
    const int models = threads.apart ? threads.instances : 1;
    const int streams = threads.instances / models;
    // As it likes best it would compute in fewer bits, and on cores of its choice.
    const std::vector<std::pair<std::string, std::string>> properties = {
        {"NUM_STREAMS", std::to_string(streams)},
        {"INFERENCE_NUM_THREADS", std::to_string(streams * threads.per_instance)},
        {"EXECUTION_MODE_HINT", "ACCURACY"},
        {"INFERENCE_PRECISION_HINT", "f32"},
        {"ENABLE_CPU_PINNING", "NO"},
        {"CPU_RUNTIME_CACHE_CAPACITY", std::to_string(kKernelsKept)},
    };
    const auto name = [&](std::size_t place) { return properties[place].first.c_str(); };
    const auto value = [&](std::size_t place) { return properties[place].second.c_str(); };
    for (int number = 0; number < models; ++number) {
      compiled_.push_back(made<CompiledModel>(api_, api_.free_compiled, [&](CompiledModel** out) {
        return api_.compile(core_.get(), model.get(), "CPU", 2 * properties.size(), out, name(0), value(0), name(1),
                            value(1), name(2), value(2), name(3), value(3), name(4), value(4), name(5), value(5));
      }));
    }
  }

  std::vector<TensorInfo> tensors(int (*count)(const CompiledModel*, std::size_t*),
                                  int (*port)(const CompiledModel*, std::size_t, Port**)) const {
    const CompiledModel* const compiled = compiled_.front().get();
    std::size_t number = 0;
    api_.check(count(compiled, &number));
    std::vector<TensorInfo> found(number);
    for (std::size_t place = 0; place < number; ++place) {
      const auto held = made<Port>(api_, api_.free_port, [&](Port** out) { return port(compiled, place, out); });
      describe(held.get(), found[place]);
    }
    return found;
  }

  std::string name_of(const Port* port) const {
    char* name = nullptr;
    api_.check(api_.port_name(port, &name));
    const Held<const char> held(name, api_.free_text);
    return name;
  }

  void describe(const Port* port, TensorInfo& tensor) const {
    tensor.name = name_of(port);
    api_.check(api_.port_type(port, &tensor.type));
    PartialSizes sizes{};
    api_.check(api_.port_sizes(port, &sizes));
    const Held<PartialSizes> held(&sizes, api_.free_partial_sizes);
    if (sizes.dims == nullptr) return;
    for (std::int64_t axis = 0; axis < sizes.rank.max; ++axis) {
      const Dimension& size = sizes.dims[axis];
      tensor.dims.push_back(size.min == size.max ? size.max : -1);
    }
  }

  const Api api_;
  const TrimAtTheEnd trim_;  // goes after all that the library holds
  const Held<Core> core_;
  std::vector<Held<CompiledModel>> compiled_;
  std::vector<TensorInfo> inputs_;
  std::vector<TensorInfo> outputs_;
};

}  // namespace paddleinfer::openvino
