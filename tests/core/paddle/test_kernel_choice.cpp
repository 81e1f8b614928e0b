// Choosing between a predictor with oneDNN and one without, by the size of a batch.
#include <future>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.h"
#include "paddle/kernel_choice.h"

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
  int onednn_runs = 0;
  int plain_runs = 0;
};

class Timed final : public Backend {
 public:
  Timed(World& world, bool plain) : world_(world), plain_(plain) {}
  void* input(std::size_t, DType, const Shape& shape) override {
    rows_ = shape.dims[0];
    memory_.resize(std::size_t(rows_));
    return memory_.data();
  }
  void run() override {
    ++(plain_ ? world_.plain_runs : world_.onednn_runs);
    if (plain_ && world_.plain_fails) throw std::runtime_error("no");
    now += plain_ ? world_.plain_fixed + rows_ * world_.plain_per_row
                  : world_.onednn_fixed + rows_ * world_.onednn_per_row;
  }
  TensorView output(std::size_t) override { return {}; }

 private:
  World& world_;
  const bool plain_;
  std::int64_t rows_ = 0;
  std::vector<float> memory_;
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
                          [this] { return std::make_unique<Timed>(world, true); }, choice, fake_clock};

  void run(std::int64_t rows) {
    backend.input(0, DType::float32, shape_of(rows));
    backend.run();
  }
  void run_often(std::int64_t rows) {
    for (int turn = 0; turn < 3 * KernelChoice::kSamples; ++turn) run(rows);
  }
  bool is_plain(std::int64_t rows) const {
    return choice->is_plain(KernelChoice::class_of(shape_of(rows).bytes(DType::float32)));
  }
};

TensorView view_of(std::int64_t rows) {
  TensorView view;
  view.dtype = DType::float32;
  view.shape = shape_of(rows);
  return view;
}

}  // namespace

TEST("each size runs the way that was faster for it") {
  Chosen chosen;
  chosen.run_often(1);
  chosen.run_often(64);
  CHECK(chosen.is_plain(1));
  CHECK(!chosen.is_plain(64));
  chosen.world.plain_runs = chosen.world.onednn_runs = 0;
  for (int turn = 0; turn < 10; ++turn) chosen.run(1);
  CHECK_EQ(chosen.world.plain_runs, 10);
  for (int turn = 0; turn < 10; ++turn) chosen.run(64);
  CHECK_EQ(chosen.world.onednn_runs, 10);
}

TEST("a predictor's first run of a size does not count") {
  Chosen chosen;
  chosen.world.onednn_fixed = 500;  // it is faster, but for its first run
  chosen.run(1);
  now += 1'000'000'000;
  chosen.run_often(1);
  CHECK(!chosen.is_plain(1));
  CHECK(chosen.choice->is_decided(KernelChoice::class_of(4)));
}

TEST("where a run with oneDNN is long nothing is run without") {
  Chosen chosen;
  chosen.world.onednn_fixed = 2 * KernelChoice::kLongRun;
  chosen.run_often(1);
  CHECK_EQ(chosen.world.plain_runs, 0);
  CHECK(!chosen.is_plain(1));
}

TEST("a size that fails without oneDNN stays with it") {
  Chosen chosen;
  chosen.world.plain_fails = true;
  int failures = 0;
  for (int turn = 0; turn < 40; ++turn) {
    try {
      chosen.run(1);
    } catch (const std::runtime_error&) {
      ++failures;
    }
  }
  CHECK_EQ(failures, KernelChoice::kFailures);
  CHECK(!chosen.is_plain(1));
}

TEST("without a second predictor everything runs with oneDNN, and nothing inline") {
  World world;
  const auto choice = std::make_shared<KernelChoice>();
  ChoosingBackend backend([&world] { return std::make_unique<Timed>(world, false); },
                          []() -> std::unique_ptr<Backend> { throw std::runtime_error("no memory"); }, choice,
                          fake_clock);
  for (int turn = 0; turn < 30; ++turn) {
    backend.input(0, DType::float32, shape_of(1));
    backend.run();
  }
  CHECK_EQ(world.onednn_runs, 30);
  CHECK(!choice->may_run({view_of(1)}));
}

TEST("a model that fails with oneDNN while it is made has no choice") {
  World world;
  bool failed = false;
  try {
    const ChoosingBackend backend([]() -> std::unique_ptr<Backend> { throw std::runtime_error("no"); },
                                  [&world] { return std::make_unique<Timed>(world, true); },
                                  std::make_shared<KernelChoice>(), fake_clock);
  } catch (const std::runtime_error&) {
    failed = true;
  }
  CHECK(failed);
}

TEST("a caller's thread runs without oneDNN whatever the size, and may run what is decided to") {
  Chosen chosen;
  CHECK(!chosen.choice->may_run({view_of(1)}));
  CHECK(!chosen.choice->may_run({}));
  chosen.run_often(1);
  chosen.run_often(64);
  CHECK(chosen.choice->may_run({view_of(1)}));
  CHECK(!chosen.choice->may_run({view_of(64)}));
  chosen.world.onednn_runs = chosen.world.plain_runs = 0;
  std::thread([&chosen] {
    chosen.run(64);
    chosen.run(7);
  }).join();
  CHECK_EQ(chosen.world.onednn_runs, 0);
  CHECK_EQ(chosen.world.plain_runs, 2);
}

TEST("each decision is told once") {
  Chosen chosen;
  CHECK(!chosen.choice->take_change());
  chosen.run_often(1);
  CHECK(chosen.choice->take_change());
  CHECK(!chosen.choice->take_change());
  CHECK(chosen.choice->plain_classes() == std::vector<std::size_t>{KernelChoice::class_of(4)});
}

TEST("instances find out together") {
  const auto choice = std::make_shared<KernelChoice>();
  std::vector<std::thread> instances;
  for (int instance = 0; instance < 4; ++instance) {
    instances.emplace_back([&choice] {
      for (int turn = 0; turn < 200; ++turn) {
        for (std::size_t place = 3; place < 6; ++place) {
          choice->note(place, choice->tries_plain(place), place == 4 ? 5 : 7);
        }
      }
    });
  }
  for (std::thread& instance : instances) instance.join();
  for (std::size_t place = 3; place < 6; ++place) CHECK(choice->is_decided(place));
  CHECK(!choice->is_decided(6));
}

TEST("sizes between two powers of two are one class") {
  CHECK_EQ(KernelChoice::class_of(0), 0u);
  CHECK_EQ(KernelChoice::class_of(1), 1u);
  CHECK_EQ(KernelChoice::class_of(512), KernelChoice::class_of(1023));
  CHECK(KernelChoice::class_of(1024) != KernelChoice::class_of(1023));
  CHECK_EQ(KernelChoice::class_of(~std::size_t{0}), 64u);
}
