// How different two outputs are, for every element type.
#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "running/batch_probe.h"

using namespace paddleinfer;

namespace {

template <typename T>
double difference(DType dtype, const std::vector<T>& a, const std::vector<T>& b) {
  return relative_difference(dtype, a.data(), b.data(), a.size());
}

bool near(double a, double b, double tolerance = 1e-9) { return std::fabs(a - b) <= tolerance * std::fabs(b); }

std::uint16_t bfloat16_of(float number) {
  std::uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  return static_cast<std::uint16_t>(bits >> 16);
}

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr std::uint16_t kHalfOne = 0x3c00;  // and its neighbours
constexpr std::uint16_t kHalfInf = 0x7c00;
constexpr std::uint16_t kHalfNan = 0x7e00;

}  // namespace

TEST("the tolerance is the design's, and none for integers") {
  CHECK_EQ(tolerance_of(DType::float32), 1e-5);
  CHECK_EQ(tolerance_of(DType::float64), 1e-5);
  CHECK_EQ(tolerance_of(DType::float16), 1e-2);
  CHECK_EQ(tolerance_of(DType::bfloat16), 3e-2);
  for (const DType dtype : {DType::int8, DType::int16, DType::int32, DType::int64, DType::uint8, DType::boolean}) {
    CHECK_EQ(tolerance_of(dtype), 0.0);
  }
}

TEST("the largest difference counts, over the largest magnitude of the second") {
  CHECK_EQ(difference<float>(DType::float32, {1, 2, 3}, {1, 2, 3}), 0.0);
  CHECK(near(difference<float>(DType::float32, {1, 2.5, -8}, {1, 2, -8}), 0.5 / 8));
  CHECK(near(difference<float>(DType::float32, {-8, 1}, {-4, 1}), 4.0 / 4));
  CHECK(near(difference<double>(DType::float64, {100, 1e-3}, {100, 2e-3}), 1e-5));
  CHECK(near(difference<double>(DType::float64, {0, 5}, {-5, 5}), 1.0));
}

TEST("nothing is as nothing, and anything beside zero is infinitely different") {
  CHECK_EQ(difference<float>(DType::float32, {}, {}), 0.0);
  CHECK_EQ(difference<float>(DType::float32, {0, 0}, {0, -0.0f}), 0.0);
  CHECK_EQ(difference<float>(DType::float32, {1e-30f}, {0}), kInf);
}

TEST("not a number is as not a number, and infinitely different from any other") {
  const float nan = std::nanf("");
  const float inf = std::numeric_limits<float>::infinity();
  CHECK_EQ(difference<float>(DType::float32, {nan, 2}, {nan, 2}), 0.0);
  CHECK_EQ(difference<float>(DType::float32, {nan, 2}, {1, 2}), kInf);
  CHECK_EQ(difference<float>(DType::float32, {1, 2}, {1, nan}), kInf);
  CHECK_EQ(difference<float>(DType::float32, {inf, 1}, {inf, 1}), 0.0);
  CHECK_EQ(difference<float>(DType::float32, {inf}, {-inf}), kInf);
  CHECK_EQ(difference<float>(DType::float32, {inf}, {3e38f}), kInf);
  CHECK_EQ(difference<float>(DType::float32, {nan}, {inf}), kInf);
  // What is infinite in both says nothing about the size of the rest.
  CHECK(near(difference<float>(DType::float32, {inf, 2}, {inf, 1}), 1.0));
}

TEST("halves are read as what they are") {
  const auto half = [](std::uint16_t a, std::uint16_t b) {
    return difference<std::uint16_t>(DType::float16, {a}, {b});
  };
  CHECK_EQ(half(kHalfOne, kHalfOne), 0.0);
  CHECK(near(half(0x3c01, kHalfOne), std::ldexp(1, -10)));    // the next one above 1
  CHECK(near(half(0xc000, kHalfOne), 3.0));                   // -2
  CHECK(near(half(0x3555, kHalfOne), 1 - 0.333251953125));    // a third
  CHECK(near(half(0x0001, 0x0400), 1 - std::ldexp(1, -10)));  // the smallest of all, the smallest normal one
  CHECK(near(half(0x7bff, 0x7800), 65504.0 / 32768 - 1));     // the largest
  CHECK_EQ(half(0x8000, 0x0000), 0.0);                        // zeros
  CHECK_EQ(half(kHalfInf, kHalfInf), 0.0);
  CHECK_EQ(half(kHalfInf, 0xfc00), kInf);
  CHECK_EQ(half(kHalfInf, 0x7bff), kInf);
  CHECK_EQ(half(kHalfNan, kHalfNan), 0.0);
  CHECK_EQ(half(kHalfNan, 0x7c01), 0.0);  // another of them
  CHECK_EQ(half(kHalfNan, kHalfOne), kInf);
  CHECK_EQ(half(kHalfNan, kHalfInf), kInf);
}

TEST("bfloat16 is read as the upper half of a float") {
  const auto brain = [](float a, float b) {
    return difference<std::uint16_t>(DType::bfloat16, {bfloat16_of(a)}, {bfloat16_of(b)});
  };
  const float inf = std::numeric_limits<float>::infinity();
  CHECK_EQ(brain(1.5f, 1.5f), 0.0);
  CHECK(near(brain(1.5f, 2.0f), 0.25));
  CHECK(near(brain(-3.0f, 1.0f), 4.0));
  CHECK_EQ(brain(inf, inf), 0.0);
  CHECK_EQ(brain(inf, 1.0f), kInf);
  CHECK_EQ(brain(std::nanf(""), std::nanf("")), 0.0);
  CHECK_EQ(brain(std::nanf(""), 0.0f), kInf);
}

TEST("integers are the same or infinitely different") {
  CHECK_EQ(difference<std::int64_t>(DType::int64, {5, 1LL << 60}, {5, 1LL << 60}), 0.0);
  CHECK_EQ(difference<std::int64_t>(DType::int64, {5, (1LL << 60) + 1}, {5, 1LL << 60}), kInf);
  CHECK_EQ(difference<std::int32_t>(DType::int32, {-1}, {1}), kInf);
  CHECK_EQ(difference<std::int16_t>(DType::int16, {7, 8}, {7, 8}), 0.0);
  CHECK_EQ(difference<std::int8_t>(DType::int8, {7, 8}, {7, 9}), kInf);
  CHECK_EQ(difference<std::uint8_t>(DType::uint8, {255}, {255}), 0.0);
  CHECK_EQ(difference<std::uint8_t>(DType::boolean, {1}, {0}), kInf);
  CHECK_EQ(difference<std::int32_t>(DType::int32, {}, {}), 0.0);
}
