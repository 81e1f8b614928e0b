// Factories that build a backend on its instance's thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "paddle/paddle_backend.h"
#include "running/dispatcher.h"
#include "running/fall_back.h"
#include "running/python_backend.h"

namespace paddleinfer {

// Configs of Paddle's that are alike, for each makes one predictor only; and the Python object that keeps them.
class HeldConfigs {
 public:
  HeldConfigs(std::vector<std::uintptr_t> addresses, std::shared_ptr<void> holder)
      : addresses_(std::move(addresses)), holder_(std::move(holder)) {}

  const paddle::Config& take() {
    const std::size_t place = next_.fetch_add(1, std::memory_order_relaxed);
    if (place >= addresses_.size()) throw std::length_error("all configs have been used");
    return *reinterpret_cast<const paddle::Config*>(addresses_[place]);
  }

 private:
  const std::vector<std::uintptr_t> addresses_;
  const std::shared_ptr<void> holder_;
  std::atomic<std::size_t> next_{0};
};

// 0, or the number of the error where the system has no further thread.
inline int start_instance(Dispatcher& dispatcher, bool root, BackendFactory factory) {
  try {
    dispatcher.start_instance(root, std::move(factory));
    return 0;
  } catch (const NoThread& error) {
    return error.code().value();
  }
}

inline BackendFactory paddle_backend(std::shared_ptr<paddle::Model> model, const paddle::Config* config, bool root) {
  return [model = std::move(model), config, root]() -> std::unique_ptr<Backend> {
    if (root) return std::make_unique<paddle::PaddleBackend>(model, *config);
    return std::make_unique<paddle::PaddleBackend>(model);
  };
}

// The same, with something to fall back on: predictors from `others`, each with weights of its own.
inline BackendFactory paddle_backend(std::shared_ptr<paddle::Model> model, const paddle::Config* config, bool root,
                                     const std::shared_ptr<FallBack>& fall_back,
                                     const paddle::ModelOptions& other_options,
                                     const std::shared_ptr<HeldConfigs>& others) {
  const FallBackBackend::Maker second = [abi = model->abi, other_options, others]() -> std::unique_ptr<Backend> {
    return std::make_unique<paddle::PaddleBackend>(std::make_shared<paddle::Model>(abi, other_options), others->take());
  };
  const FallBackBackend::Maker first = paddle_backend(std::move(model), config, root);
  return [first, second, fall_back, root]() -> std::unique_ptr<Backend> {
    return std::make_unique<FallBackBackend>(first, second, fall_back, root);
  };
}

inline BackendFactory python_backend(const PythonFunctions& functions, std::shared_ptr<void> context,
                                     std::size_t instance, std::shared_ptr<ReleaseList> releases) {
  return [=]() -> std::unique_ptr<Backend> {
    return std::make_unique<PythonBackend>(functions, context, instance, releases);
  };
}

// Shares a Python object with native threads, which give it back through the list: once, also where this throws. The
// list has to have it promised.
inline std::shared_ptr<void> python_object(const std::shared_ptr<ReleaseList>& releases, void* owned) {
  return std::shared_ptr<void>(owned, [releases](void* object) noexcept { releases->push(object); });
}

}  // namespace paddleinfer
