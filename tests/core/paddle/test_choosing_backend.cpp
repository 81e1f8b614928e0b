// Running a batch with oneDNN or without, and comparing the two.
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "paddle/choosing_backend.h"

using namespace paddleinfer;
using namespace paddleinfer::paddle;

namespace {

Nanos now = 0;
Nanos fake_clock() { return now; }

struct World {
  Nanos onednn_fixed = 100'000;
  Nanos onednn_per_row = 100;
  Nanos plain_fixed = 10'000;
  Nanos plain_per_row = 5'000;
  bool plain_fails = false;
  float plain_factor = 1;  // of what it gives
  int onednn_runs = 0;
  int plain_runs = 0;
};

// Doubles its input, and spoils it, as Paddle may.
class Timed final : public Backend {
 public:
  Timed(World& world, bool plain) : world_(world), plain_(plain) {}
  void* input(std::size_t, DType, const Shape& shape) override {
    shape_ = shape;
    given_.assign(std::size_t(shape.dims[0]), 0);
    return given_.data();
  }
  void run() override {
    ++(plain_ ? world_.plain_runs : world_.onednn_runs);
    if (plain_ && world_.plain_fails) throw std::runtime_error("no");
    const std::int64_t rows = shape_.dims[0];
    now +=
        plain_ ? world_.plain_fixed + rows * world_.plain_per_row : world_.onednn_fixed + rows * world_.onednn_per_row;
    result_.clear();
    for (float& value : given_) {
      result_.push_back(2 * value * (plain_ ? world_.plain_factor : 1));
      value = -1;
    }
  }
  TensorView output(std::size_t) override { return {DType::float32, shape_, result_.data()}; }

 private:
  World& world_;
  const bool plain_;
  Shape shape_;
  std::vector<float> given_, result_;
};

Shape shape_of(std::int64_t rows) {
  Shape shape;
  shape.rank = 1;
  shape.dims[0] = rows;
  return shape;
}

struct Chosen {
  World world;
  std::shared_ptr<KernelChoice> choice = std::make_shared<KernelChoice>();
  ChoosingBackend backend{[this] { return std::make_unique<Timed>(world, false); },
                          [this] { return std::make_unique<Timed>(world, true); },
                          {"y"},
                          choice,
                          fake_clock};

  // What the last row gave.
  float run(std::int64_t rows, float value = 3) {
    auto* const data = static_cast<float*>(backend.input(0, DType::float32, shape_of(rows)));
    for (std::int64_t row = 0; row < rows; ++row) data[row] = value;
    backend.run();
    return static_cast<const float*>(backend.output(0).data)[rows - 1];
  }
  void run_often(std::int64_t rows) {
    for (int turn = 0; turn < KernelChoice::kSamples + 2; ++turn) CHECK_EQ(run(rows, float(turn)), 2.0f * float(turn));
  }
  KernelChoice::Way way(std::int64_t rows) const {
    return choice->way(signature_of({{DType::float32, shape_of(rows), nullptr}}, /*with_rows=*/true));
  }
  void forget_runs() { world.onednn_runs = world.plain_runs = 0; }
};

using Way = KernelChoice::Way;

}  // namespace

TEST("each shape runs the way that was faster for it") {
  Chosen chosen;
  chosen.run_often(1);
  chosen.run_often(64);
  CHECK(chosen.way(1) == Way::plain);
  CHECK(chosen.way(64) == Way::onednn);
  chosen.forget_runs();
  for (int turn = 0; turn < 10; ++turn) CHECK_EQ(chosen.run(1), 6.0f);
  CHECK_EQ(chosen.world.plain_runs, 10);
  for (int turn = 0; turn < 10; ++turn) CHECK_EQ(chosen.run(64), 6.0f);
  CHECK_EQ(chosen.world.onednn_runs, 10);
}

TEST("inputs go to the predictor that runs them, whichever the batch before ran on") {
  Chosen chosen;
  chosen.run_often(1);
  chosen.run_often(64);
  for (int turn = 0; turn < 10; ++turn) {
    CHECK_EQ(chosen.run(1, float(turn)), 2.0f * float(turn));
    CHECK_EQ(chosen.run(64, float(turn) + 0.5f), 2.0f * float(turn) + 1);
  }
}

TEST("it says what a comparison took, so that nobody takes that for the time of a run") {
  Chosen chosen;
  for (int turn = 0; turn < KernelChoice::kSamples + 2; ++turn) {
    chosen.run(1);
    CHECK_EQ(chosen.backend.comparison_ns(), turn == 0 ? 0 : chosen.world.onednn_fixed + chosen.world.onednn_per_row);
  }
  for (std::uint32_t turn = 0; turn < KernelChoice::kCheckEvery; ++turn) {
    const int before = chosen.world.onednn_runs;
    chosen.run(1);
    const bool compared = chosen.world.onednn_runs > before;
    CHECK_EQ(chosen.backend.comparison_ns(), compared ? chosen.world.onednn_fixed + chosen.world.onednn_per_row : 0);
  }
}

TEST("shapes that come once run once") {
  Chosen chosen;
  for (std::int64_t rows = 1; rows < 1'000; ++rows) chosen.run(rows);
  CHECK_EQ(chosen.world.plain_runs, 0);
  CHECK_EQ(chosen.world.onednn_runs, 999);
}

TEST("the first run of either predictor does not count") {
  Chosen chosen;
  chosen.world.onednn_fixed = 500;  // it is faster, but for its first run
  chosen.run(1);
  now += 1'000'000'000;
  chosen.run_often(1);
  CHECK(chosen.way(1) == Way::onednn);
}

TEST("where a run with oneDNN is long nothing is run without") {
  Chosen chosen;
  chosen.world.onednn_fixed = 2 * KernelChoice::kLongRun;
  chosen.run_often(1);
  CHECK_EQ(chosen.world.plain_runs, 0);
  CHECK(chosen.way(1) == Way::onednn);
}

TEST("shapes that fail without oneDNN keep it, and nobody sees the failure") {
  Chosen chosen;
  chosen.world.plain_fails = true;
  chosen.run_often(1);
  for (std::uint32_t turn = 0; turn < 2 * KernelChoice::kCheckEvery; ++turn) CHECK_EQ(chosen.run(1), 6.0f);
  CHECK_EQ(chosen.world.plain_runs, 1);
  CHECK(chosen.way(1) == Way::onednn_only);
  CHECK(chosen.way(2) == Way::open);
}

TEST("what is decided is measured again now and then, and decided anew") {
  Chosen chosen;
  chosen.world.onednn_fixed = 1'000;  // for the other was slowed by something else
  chosen.run_often(1);
  CHECK(chosen.way(1) == Way::onednn);
  chosen.world.onednn_fixed = 100'000;
  chosen.forget_runs();
  for (int turn = 0; turn < 512; ++turn) chosen.run(1);
  CHECK(chosen.way(1) == Way::plain);
  CHECK_EQ(chosen.world.onednn_runs + chosen.world.plain_runs, 512 + KernelChoice::kSamples);
  chosen.world.onednn_fixed = 1'000;
  for (int turn = 0; turn < 512; ++turn) chosen.run(1);
  CHECK(chosen.way(1) == Way::onednn);
}

TEST("a run with oneDNN that was long for once decides nothing") {
  Chosen chosen;
  chosen.run(1);
  chosen.world.onednn_fixed = 2 * KernelChoice::kLongRun;
  chosen.run(1);
  chosen.world.onednn_fixed = 100'000;
  chosen.run_often(1);
  CHECK(chosen.way(1) == Way::plain);
}

TEST("where the two differ everything runs with oneDNN, and results are oneDNN's") {
  Chosen chosen;
  chosen.run_often(1);
  CHECK(chosen.way(1) == Way::plain);
  chosen.world.plain_factor = 1.001f;
  chosen.run_often(2);
  CHECK(chosen.way(1) == Way::onednn_only);
  CHECK(chosen.way(2) == Way::onednn_only);
  CHECK_EQ(chosen.choice->reason(), "output y of a row differs by 0.001 of its magnitude without it");
  CHECK_EQ(chosen.run(1), 6.0f);
}

TEST("a difference that begins later is found, and the run that finds it gives oneDNN's result") {
  Chosen chosen;
  chosen.run_often(1);
  chosen.world.plain_factor = 2;
  std::uint32_t wrong = 0;
  for (std::uint32_t turn = 0; turn < 2 * KernelChoice::kCheckEvery; ++turn) wrong += chosen.run(1) != 6.0f;
  CHECK_EQ(wrong, KernelChoice::kFirstCheck - 1);
  CHECK(chosen.way(1) == Way::onednn_only);
}

TEST("without a second predictor everything runs with oneDNN") {
  World world;
  const auto choice = std::make_shared<KernelChoice>();
  ChoosingBackend backend([&world] { return std::make_unique<Timed>(world, false); },
                          []() -> std::unique_ptr<Backend> { throw std::runtime_error("bad file"); }, {"y"}, choice,
                          fake_clock);
  for (int turn = 0; turn < 30; ++turn) {
    backend.input(0, DType::float32, shape_of(1));
    backend.run();
  }
  CHECK_EQ(world.onednn_runs, 30);
  CHECK_EQ(choice->reason(), "no predictor without it can be made: bad file");
}

TEST("a model that fails with oneDNN while it is made has no choice") {
  World world;
  bool failed = false;
  try {
    const ChoosingBackend backend([]() -> std::unique_ptr<Backend> { throw std::runtime_error("no"); },
                                  [&world] { return std::make_unique<Timed>(world, true); }, {"y"},
                                  std::make_shared<KernelChoice>(), fake_clock);
  } catch (const std::runtime_error&) {
    failed = true;
  }
  CHECK(failed);
}

TEST("a caller's thread runs without oneDNN, whatever is decided meanwhile, and its runs count for the next check") {
  Chosen chosen;
  chosen.run_often(1);
  chosen.run_often(64);
  chosen.forget_runs();
  std::thread([&] {
    for (std::uint32_t turn = 1; turn < KernelChoice::kFirstCheck; ++turn) chosen.run(1);
    CHECK_EQ(chosen.run(64), 6.0f);
  }).join();
  CHECK_EQ(chosen.world.onednn_runs, 0);
  CHECK_EQ(chosen.run(1), 6.0f);
  CHECK_EQ(chosen.world.onednn_runs, 1);
}
