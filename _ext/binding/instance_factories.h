// Factories that build a backend on its instance's thread.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "running/dispatcher.h"
#include "running/python_backend.h"

namespace paddleinfer {

// 0, or the number of the error where the system has no further thread.
inline int start_instance(Dispatcher& dispatcher, bool root, BackendFactory factory) {
  try {
    dispatcher.start_instance(root, std::move(factory));
    return 0;
  } catch (const NoThread& error) {
    return error.code().value();
  }
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
