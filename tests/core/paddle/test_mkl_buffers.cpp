// When MKL's buffers are given back, with a pointer of our own for Paddle's.
#include "check.h"
#include "paddle/mkl_buffers.h"

using namespace harness;
using paddleinfer::paddle::MklBuffers;

namespace {

int given_back = 0;
void give_back() { ++given_back; }

}  // namespace

TEST("MKL's buffers are given back at times, and not after every run") {
  MklBuffers::GiveBack pointer = give_back;
  const unsigned char is_found = 1;
  const MklBuffers buffers(&pointer, &is_found);
  buffers.keep();
  buffers.keep();
  CHECK(pointer != give_back);
  given_back = 0;
  const paddleinfer::Nanos began = paddleinfer::monotonic_now();
  for (int run = 0; run < 1000; ++run) pointer();
  const paddleinfer::Nanos taken = paddleinfer::monotonic_now() - began;
  CHECK(given_back >= 1);
  CHECK(given_back <= 1 + taken / MklBuffers::kInterval);
}

TEST("before Paddle has found the function nothing is put in its place") {
  MklBuffers::GiveBack pointer = give_back;
  const unsigned char is_found = 0;
  MklBuffers(&pointer, &is_found).keep();
  CHECK(pointer == give_back);
  MklBuffers().keep();
}
