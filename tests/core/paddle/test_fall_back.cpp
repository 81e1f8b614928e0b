// Falling back on another way to make a predictor.
#include "check.h"
#include "paddle/fall_back.h"

using namespace paddleinfer;
using namespace paddleinfer::paddle;

namespace {

struct World {
  std::string first_fails;   // the text of each run's failure; empty: it does not
  std::string second_fails;  // likewise
  std::string first_cannot_be_made;
  int seconds_made = 0;
  std::vector<std::string> gone;  // destroyed, in order
};

// Gives back what it was given, plus one where it is the second.
class Scripted final : public Backend {
 public:
  Scripted(World& world, std::string name, bool second) : world_(world), name_(std::move(name)), second_(second) {
    if (!second && !world.first_cannot_be_made.empty()) throw std::runtime_error(world.first_cannot_be_made);
    if (second) ++world.seconds_made;
  }
  ~Scripted() override { world_.gone.push_back(name_); }
  void* input(std::size_t, DType, const Shape& shape) override {
    memory_.resize(std::size_t(shape.dims[0]));
    shape_ = shape;
    return memory_.data();
  }
  void run() override {
    const std::string& failure = second_ ? world_.second_fails : world_.first_fails;
    if (!failure.empty()) throw std::runtime_error(failure);
    for (float& number : memory_) number += second_ ? 1 : 0;
  }
  TensorView output(std::size_t) override {
    TensorView view;
    view.dtype = DType::float32;
    view.shape = shape_;
    view.data = memory_.data();
    return view;
  }

 private:
  World& world_;
  const std::string name_;
  const bool second_;
  Shape shape_;
  std::vector<float> memory_;
};

std::unique_ptr<FallBackBackend> instance(World& world, const std::shared_ptr<FallBack>& shared,
                                          const std::string& name, bool root = false) {
  return std::make_unique<FallBackBackend>(
      [&world, name] { return std::make_unique<Scripted>(world, name, false); },
      [&world, name] { return std::make_unique<Scripted>(world, name + " anew", true); }, shared, root);
}

float answer(Backend& backend, float number) {
  Shape shape;
  shape.rank = 1;
  shape.dims[0] = 1;
  *static_cast<float*>(backend.input(0, DType::float32, shape)) = number;
  backend.run();
  return *static_cast<const float*>(backend.output(0).data);
}

std::string failure_of(Backend& backend) {
  try {
    answer(backend, 1);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST("a run that fails on the first way is run on the second, with the inputs it had") {
  World world;
  const auto shared = std::make_shared<FallBack>(true);
  auto one = instance(world, shared, "one", true);
  CHECK_EQ(answer(*one, 5), 5.0f);
  CHECK(!shared->in_force());
  world.first_fails = "(Unimplemented) no kernel";
  CHECK_EQ(answer(*one, 5), 6.0f);
  CHECK(shared->in_force());
  CHECK(shared->take_change());
  CHECK(!shared->take_change());
  CHECK_EQ(shared->reason(), std::string("(Unimplemented) no kernel"));
  CHECK_EQ(answer(*one, 7), 8.0f);
  CHECK_EQ(world.seconds_made, 1);
}

TEST("once it has helped one instance the others change over, and the root's first goes after its clones'") {
  World world;
  const auto shared = std::make_shared<FallBack>(true);
  auto root = instance(world, shared, "root", true);
  auto clone = instance(world, shared, "clone");
  world.first_fails = "RuntimeError: std::exception";
  CHECK_EQ(answer(*root, 1), 2.0f);
  CHECK(world.gone.empty());
  world.first_fails = "";
  CHECK_EQ(answer(*clone, 1), 2.0f);
  CHECK(world.gone == std::vector<std::string>({"clone"}));
  CHECK_EQ(answer(*root, 1), 2.0f);
  CHECK(world.gone == std::vector<std::string>({"clone", "root"}));
  auto late = instance(world, shared, "late");
  CHECK_EQ(answer(*late, 1), 2.0f);
  CHECK_EQ(world.seconds_made, 3);
}

TEST("what fails either way is told as the first failed, and is tried three times at most") {
  World world;
  const auto shared = std::make_shared<FallBack>(true);
  auto one = instance(world, shared, "one", true);
  world.first_fails = "(Unimplemented) first";
  world.second_fails = "second";
  for (int turn = 0; turn < 5; ++turn) CHECK_EQ(failure_of(*one), std::string("(Unimplemented) first"));
  CHECK_EQ(world.seconds_made, 3);
  CHECK(!shared->in_force());
  world.first_fails = "";
  CHECK_EQ(answer(*one, 3), 3.0f);
}

TEST("other failures are not tried, and one without a reason only where that is allowed") {
  World world;
  const auto careful = std::make_shared<FallBack>(false);
  auto one = instance(world, careful, "one", true);
  for (const char* failure : {"(InvalidArgument) no", "std::exception", "RuntimeError: std::exception", "no"}) {
    world.first_fails = failure;
    CHECK_EQ(failure_of(*one), std::string(failure));
  }
  CHECK_EQ(world.seconds_made, 0);
  world.first_fails = "UnimplementedError: no";
  CHECK_EQ(answer(*one, 1), 2.0f);
}

TEST("an instance that cannot be made the first way is made the second") {
  World world;
  world.first_cannot_be_made = "(Unimplemented) no pass";
  const auto shared = std::make_shared<FallBack>(false);
  auto one = instance(world, shared, "one", true);
  CHECK_EQ(answer(*one, 1), 2.0f);
  CHECK(shared->in_force());
  const auto other = std::make_shared<FallBack>(false);
  world.first_cannot_be_made = "(NotFound) no file";
  std::string failure;
  try {
    instance(world, other, "none", true);
  } catch (const std::exception& error) {
    failure = error.what();
  }
  CHECK_EQ(failure, std::string("(NotFound) no file"));
}
