// The headers that need Paddle's library at run time: that they compile, and what they say without it.
#include "binding/paddle_factories.h"
#include "check.h"

using namespace paddleinfer;

TEST("a library that is not loaded is named as missing") {
  const paddle::Abi abi = paddle::Abi::load("libpaddle-that-is-not-there.so");
  CHECK(!abi.complete());
  CHECK_EQ(abi.missing.size(), 1u);
  CHECK_EQ(abi.missing.at(0), "libpaddle-that-is-not-there.so");
}

TEST("a library without the symbols names each of them") {
  const paddle::Abi abi = paddle::Abi::load("libc.so.6");
  CHECK(abi.library != nullptr);
  CHECK(!abi.complete());
  CHECK(abi.missing.size() > 20);
  CHECK_EQ(abi.missing.at(0), "_ZN12paddle_infer15CreatePredictorERKN6paddle14AnalysisConfigE");
  CHECK(!paddle::OneDnnSymbols::load(abi, &abi).complete());
}
