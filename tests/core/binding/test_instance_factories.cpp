// What the binding gives to native threads, without Python.
#include "binding/instance_factories.h"
#include "check.h"

using namespace paddleinfer;

TEST("a Python object that is shared comes back once, when the last holder lets go") {
  const auto releases = std::make_shared<ReleaseList>();
  int object = 0;
  std::shared_ptr<void> first = python_object(releases, &object);
  std::shared_ptr<void> second = first;
  first.reset();
  CHECK(releases->take().empty());
  second.reset();
  CHECK(releases->take() == std::vector<void*>{&object});
  CHECK(releases->take().empty());
}
