// Factories that build Paddle's predictors on their instances' threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "paddle/choosing_backend.h"
#include "paddle/fall_back.h"
#include "paddle/paddle_backend.h"
#include "running/dispatcher.h"

namespace paddleinfer::paddle {

// Configs of Paddle's that are alike, for each makes one predictor only; and the Python object that keeps them.
class HeldConfigs {
 public:
  HeldConfigs(std::vector<std::uintptr_t> addresses, std::shared_ptr<void> holder)
      : addresses_(std::move(addresses)), holder_(std::move(holder)) {}

  const Config& take() {
    const std::size_t place = next_.fetch_add(1, std::memory_order_relaxed);
    if (place >= addresses_.size()) throw std::length_error("all configs have been used");
    return *reinterpret_cast<const Config*>(addresses_[place]);
  }

 private:
  const std::vector<std::uintptr_t> addresses_;
  const std::shared_ptr<void> holder_;
  std::atomic<std::size_t> next_{0};
};

inline BackendFactory paddle_backend(std::shared_ptr<Model> model, const Config* config, bool root) {
  return [model = std::move(model), config, root]() -> std::unique_ptr<Backend> {
    if (root) return std::make_unique<PaddleBackend>(model, *config);
    return std::make_unique<PaddleBackend>(model);
  };
}

// Makes predictors from `others`, each with weights of its own.
inline BackendFactory other_backend(const std::shared_ptr<Model>& model, const ModelOptions& options,
                                    const std::shared_ptr<HeldConfigs>& others) {
  return [abi = model->abi, options, others]() -> std::unique_ptr<Backend> {
    return std::make_unique<PaddleBackend>(std::make_shared<Model>(abi, options), others->take());
  };
}

// The same as the first, with something to fall back on: predictors from `others`.
inline BackendFactory paddle_backend(std::shared_ptr<Model> model, const Config* config, bool root,
                                     const std::shared_ptr<FallBack>& fall_back, const ModelOptions& other_options,
                                     const std::shared_ptr<HeldConfigs>& others) {
  const FallBackBackend::Maker second = other_backend(model, other_options, others);
  const FallBackBackend::Maker first = paddle_backend(std::move(model), config, root);
  return [first, second, fall_back, root]() -> std::unique_ptr<Backend> {
    return std::make_unique<FallBackBackend>(first, second, fall_back, root);
  };
}

// With oneDNN or without, by what is faster for a batch's shapes: `first` with, and predictors from `others` without.
inline BackendFactory choosing_backend(BackendFactory first, const std::shared_ptr<Model>& model,
                                       const ModelOptions& other_options, const std::shared_ptr<HeldConfigs>& others,
                                       std::shared_ptr<KernelChoice> choice) {
  const ChoosingBackend::Maker second = other_backend(model, other_options, others);
  return [first = std::move(first), second, outputs = other_options.outputs,
          choice = std::move(choice)]() -> std::unique_ptr<Backend> {
    return std::make_unique<ChoosingBackend>(first, second, outputs, choice);
  };
}

}  // namespace paddleinfer::paddle
