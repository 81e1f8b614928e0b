// Other programs' libraries: functions found at run time by their names, and objects that they make.
#pragma once

#include <dlfcn.h>

#include <memory>
#include <string>

namespace paddleinfer {

// False, and null, where the library does not have it.
template <typename Function>
bool find_symbol(void* library, Function& function, const char* name) noexcept {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

// A library that is loaded if it is not yet, and stays.
class SharedLibrary {
 public:
  explicit SharedLibrary(const char* path) : handle_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ != nullptr) return;
    const char* const why = dlerror();
    problem_ = why == nullptr ? "it cannot be loaded" : why;
  }

  // A function that must be there; the first that is not is the problem.
  template <typename Function>
  void find(Function& function, const char* name) {
    function = nullptr;
    if (handle_ == nullptr || find_symbol(handle_, function, name) || !problem_.empty()) return;
    problem_ = std::string("it does not export ") + name;
  }

  // Why it cannot be used; empty if it can.
  const std::string& problem() const noexcept { return problem_; }

 private:
  void* const handle_;
  std::string problem_;
};

// An object of a library's, which its own function frees.
template <typename T>
using Held = std::unique_ptr<T, void (*)(T*)>;

// What `create`, called with the place for its result, makes. `api.check` throws where it failed.
template <typename T, typename Api, typename Create>
Held<T> made(const Api& api, void (*release)(T*), const Create& create) {
  T* result = nullptr;
  api.check(create(&result));
  return Held<T>(result, release);
}

}  // namespace paddleinfer
