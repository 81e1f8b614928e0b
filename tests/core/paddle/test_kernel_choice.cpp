// Which shapes of input are decided to run without oneDNN.
#include <thread>
#include <vector>

#include "check.h"
#include "paddle/kernel_choice.h"

using namespace paddleinfer;
using namespace paddleinfer::paddle;
using Way = KernelChoice::Way;

namespace {

TensorView view_of(std::int64_t rows) {
  TensorView view;
  view.dtype = DType::float32;
  view.shape.rank = 1;
  view.shape.dims[0] = rows;
  return view;
}

std::uint64_t shapes_of(std::int64_t rows) { return signature_of({view_of(rows)}, /*with_rows=*/true); }

void note_often(KernelChoice& choice, std::uint64_t shapes, Nanos onednn_ns, Nanos plain_ns) {
  for (int turn = 0; turn < KernelChoice::kSamples; ++turn) choice.note(shapes, onednn_ns, plain_ns);
}

}  // namespace

TEST("a shape runs without oneDNN unless its shortest run with it is shorter by a tenth") {
  KernelChoice choice;
  note_often(choice, 1, 95, 100);
  note_often(choice, 2, 85, 100);
  note_often(choice, 3, 50, 100);
  CHECK(choice.way(1) == Way::plain);
  CHECK(choice.way(2) == Way::onednn);
  CHECK(choice.way(3) == Way::onednn);
  CHECK(choice.way(4) == Way::open);
  for (int turn = 0; turn < KernelChoice::kSamples; ++turn) choice.note(4, 100 + turn, turn < 2 ? 50 : 1'000);
  CHECK(choice.way(4) == Way::plain);
}

TEST("where the shortest runs vary it takes more of them, up to a limit") {
  KernelChoice choice;
  for (int turn = 1; turn < KernelChoice::kMostSamples; ++turn) choice.note(1, 100, turn == 2 ? 50 : 1'000);
  CHECK(choice.way(1) == Way::open);
  choice.note(1, 100, 1'000);
  CHECK(choice.way(1) == Way::plain);
  for (int turn = 0; turn < KernelChoice::kSamples; ++turn) choice.note(2, turn == 0 ? 30 : 100, 1'000);
  CHECK(choice.way(2) == Way::open);
  choice.note(2, 35, 1'000);
  CHECK(choice.way(2) == Way::onednn);
}

TEST("nothing is decided by fewer runs than are wanted") {
  KernelChoice choice;
  for (int turn = 1; turn < KernelChoice::kSamples; ++turn) choice.note(1, 100, 50);
  CHECK(choice.way(1) == Way::open);
  choice.note(1, 100, 50);
  CHECK(choice.way(1) == Way::plain);
}

TEST("what is decided is decided anew by as many runs") {
  KernelChoice choice;
  note_often(choice, 1, 100, 50);
  note_often(choice, 1, 50, 100);
  CHECK(choice.way(1) == Way::onednn);
  for (int turn = 1; turn < KernelChoice::kSamples; ++turn) choice.note(1, 100, 50);
  CHECK(choice.way(1) == Way::onednn);
  choice.note(1, 100, 50);
  CHECK(choice.way(1) == Way::plain);
}

TEST("a shape whose runs are long, all but some, is decided by those") {
  KernelChoice choice;
  for (int turn = 0; turn < KernelChoice::kSamples; ++turn) choice.note_long(1, 100);
  CHECK(choice.way(1) == Way::onednn);
  for (int turn = 0; turn < 2; ++turn) choice.note(2, 100, 50);
  for (int turn = 2; turn < KernelChoice::kSamples; ++turn) choice.note_long(2, 1'000);
  CHECK(choice.way(2) == Way::plain);
}

TEST("shapes past the limit run with oneDNN") {
  KernelChoice choice;
  for (std::uint64_t shapes = 1; shapes <= KernelChoice::kShapes; ++shapes) {
    CHECK(choice.way(shapes * 7) == Way::open);
    note_often(choice, shapes * 7, 100, 50);
  }
  CHECK(choice.way(3) == Way::onednn_only);
  note_often(choice, 3, 100, 50);
  choice.keep_onednn(3);
  CHECK(choice.way(3) == Way::onednn_only);
  CHECK_EQ(choice.plain_shapes(), KernelChoice::kShapes);
}

TEST("a shape may be kept to oneDNN, also after it was decided otherwise") {
  KernelChoice choice;
  choice.keep_onednn(1);
  note_often(choice, 1, 100, 50);
  CHECK(choice.way(1) == Way::onednn_only);
  note_often(choice, 2, 100, 50);
  choice.keep_onednn(2);
  CHECK(choice.way(2) == Way::onednn_only);
}

TEST("who gives up gives up for all shapes, with the first reason") {
  KernelChoice choice;
  note_often(choice, 1, 100, 50);
  choice.give_up("y differs");
  choice.give_up("z differs");
  CHECK(choice.way(1) == Way::onednn_only);
  CHECK(choice.way(2) == Way::onednn_only);
  CHECK_EQ(choice.plain_shapes(), 0u);
  CHECK_EQ(choice.reason(), "y differs");
}

TEST("a caller's thread may run what is decided to run without oneDNN, but for some runs that are compared") {
  KernelChoice choice;
  CHECK(!choice.may_run({view_of(1)}));
  CHECK(!choice.may_run({}));
  note_often(choice, shapes_of(1), 100, 50);
  note_often(choice, shapes_of(64), 50, 100);
  CHECK(!choice.may_run({view_of(64)}));
  CHECK(!choice.may_run({view_of(1), view_of(1)}));
  for (std::uint32_t run = 1; run < KernelChoice::kFirstCheck; ++run) {
    CHECK(choice.may_run({view_of(1)}));
    CHECK(!choice.count_run(shapes_of(1)));
  }
  CHECK(!choice.may_run({view_of(1)}));
  CHECK(choice.count_run(shapes_of(1)));
  CHECK(choice.may_run({view_of(1)}));
}

TEST("decided shapes run both ways again, often at first and rarely later on") {
  KernelChoice choice;
  CHECK(!choice.count_run(1));
  note_often(choice, 1, 100, 50);
  std::vector<std::uint32_t> checked;
  for (std::uint32_t run = 1; run <= 3 * KernelChoice::kCheckEvery; ++run) {
    if (choice.count_run(1)) checked.push_back(run);
  }
  CHECK(checked == std::vector<std::uint32_t>({16, 32, 64, 128, 256, 512, 1'024, 2'048, 3'072}));
}

TEST("each change is told once") {
  KernelChoice choice;
  CHECK(!choice.take_change());
  note_often(choice, 1, 100, 50);
  CHECK(choice.take_change());
  CHECK(!choice.take_change());
  CHECK_EQ(choice.plain_shapes(), 1u);
  note_often(choice, 1, 100, 50);
  CHECK(!choice.take_change());
  choice.give_up("y differs");
  CHECK(choice.take_change());
}

TEST("instances find out together") {
  KernelChoice choice;
  std::vector<std::thread> instances;
  for (int instance = 0; instance < 4; ++instance) {
    instances.emplace_back([&choice] {
      for (int turn = 0; turn < 200; ++turn) {
        for (std::uint64_t shapes = 3; shapes < 300; ++shapes) {
          if (choice.way(shapes) == Way::open) choice.note(shapes, 100, shapes % 2 == 0 ? 50 : 200);
        }
      }
    });
  }
  for (std::thread& instance : instances) instance.join();
  std::size_t plain = 0;
  for (std::uint64_t shapes = 3; shapes < 300; ++shapes) {
    CHECK(choice.way(shapes) != Way::open);
    if (choice.way(shapes) == Way::plain) ++plain;
  }
  CHECK_EQ(choice.plain_shapes(), plain);
}
