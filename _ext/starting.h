// How instances come to be: the closures that make a backend on its instance's own thread.
#pragma once

#include <memory>
#include <utility>

#include "dispatcher.h"
#include "paddle_backend.h"
#include "python_backend.h"

namespace paddleinfer {

inline void start_paddle_instance(Dispatcher& dispatcher, std::shared_ptr<paddle::Model> model,
                                  const paddle::Config* config, bool root) {
  dispatcher.start_instance(root, [model = std::move(model), config, root]() -> std::unique_ptr<Backend> {
    if (root) return std::make_unique<paddle::PaddleBackend>(model, *config);
    return std::make_unique<paddle::PaddleBackend>(model);
  });
}

inline void start_python_instance(Dispatcher& dispatcher, const PythonFunctions& functions,
                                  std::shared_ptr<void> context, std::size_t instance) {
  const std::shared_ptr<ReleaseList> releases = dispatcher.releases();
  dispatcher.start_instance(instance == 0, [=]() -> std::unique_ptr<Backend> {
    return std::make_unique<PythonBackend>(functions, context, instance, releases);
  });
}

// Shares a Python object with native threads, which give it back through the list.
inline std::shared_ptr<void> python_object(const std::shared_ptr<ReleaseList>& releases, void* owned) {
  return std::shared_ptr<void>(owned, [releases](void* object) { releases->push(object); });
}

}  // namespace paddleinfer
