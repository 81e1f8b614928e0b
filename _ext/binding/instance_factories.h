// What the binding needs to start instances, whatever their backend.
#pragma once

#include <memory>
#include <utility>

#include "requests/release_list.h"
#include "running/dispatcher.h"

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

// Shares a Python object with native threads, which give it back through the list: once, also where this throws. The
// list has to have it promised.
inline std::shared_ptr<void> python_object(const std::shared_ptr<ReleaseList>& releases, void* owned) {
  return std::shared_ptr<void>(owned, [releases](void* object) noexcept { releases->push(object); });
}

}  // namespace paddleinfer
