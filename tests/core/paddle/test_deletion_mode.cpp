// Paddle's flag for the deletion of tensors, with a flag of our own.
#include "fakes.h"
#include "paddle/deletion_mode.h"

using namespace fakes;
using namespace harness;
using paddle::DeletionMode;
using paddle::DeletionScope;

TEST("a scope sets the flag, and the last of several puts it back") {
  double flag = 0.5;
  {
    const DeletionScope outer({&flag, -1});
    {
      const DeletionScope inner({&flag, -1});
      CHECK_EQ(flag, -1);
    }
    CHECK_EQ(flag, -1);
  }
  CHECK_EQ(flag, 0.5);
}

TEST("a scope of another value waits until the first has gone") {
  double flag = 0.5;
  Gate gate;
  std::thread first([&] {
    const DeletionScope scope({&flag, -1});
    gate.pass();
    CHECK_EQ(flag, -1);
  });
  REQUIRE(gate.await(1));
  std::thread second([&] {
    const DeletionScope scope({&flag, 0});
    CHECK_EQ(flag, 0);
  });
  sleep_ns(5 * kMillisecond);
  gate.open();
  first.join();
  second.join();
  CHECK_EQ(flag, 0.5);
}

TEST("a scope does not wait for ever for a run that hangs, and has its value all the same") {
  double flag = 0.5;
  {
    const DeletionScope hangs({&flag, -1});
    {
      const DeletionScope late({&flag, 0}, kMillisecond);
      CHECK_EQ(flag, 0);
    }
  }
  CHECK_EQ(flag, 0.5);
}

TEST("what the program sets meanwhile stays") {
  double flag = 0.5;
  {
    const DeletionScope scope({&flag, -1});
    flag = 2;
  }
  CHECK_EQ(flag, 2);
}

TEST("without a flag nothing is set") { const DeletionScope scope({nullptr, -1}); }
