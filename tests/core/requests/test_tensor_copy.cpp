#include <numeric>

#include "fakes.h"

using namespace paddleinfer;

namespace {

Shape shape_of(std::initializer_list<std::int64_t> dims) {
  Shape shape;
  for (const std::int64_t size : dims) shape.dims[shape.rank++] = size;
  return shape;
}

}  // namespace

TEST("every element type has its size") {
  const std::pair<DType, std::size_t> sizes[] = {
      {DType::float32, 4}, {DType::float64, 8}, {DType::float16, 2}, {DType::bfloat16, 2}, {DType::int8, 1},
      {DType::int16, 2},   {DType::int32, 4},   {DType::int64, 8},   {DType::uint8, 1},    {DType::boolean, 1},
  };
  for (const auto& [dtype, size] : sizes) CHECK_EQ(element_size(dtype), size);
}

TEST("a shape counts its elements, a scalar is one") {
  CHECK_EQ(shape_of({}).elements(), 1);
  CHECK_EQ(shape_of({0, 7}).elements(), 0);
  CHECK_EQ(shape_of({2, 3, 4}).elements(), 24);
  CHECK_EQ(shape_of({2, 3, 4}).bytes(DType::float16), 48u);
  CHECK_EQ(shape_of({1, 1, 1, 1, 1, 1, 1, 1, 5}).elements(), 5);
}

TEST("shapes are compared with and without their rows") {
  CHECK(shape_of({2, 3}) == shape_of({2, 3}));
  CHECK(!(shape_of({2, 3}) == shape_of({4, 3})));
  CHECK(shape_of({2, 3}).same_beyond_rows(shape_of({4, 3})));
  CHECK(!shape_of({2, 3}).same_beyond_rows(shape_of({2, 4})));
  CHECK(!shape_of({2, 3}).same_beyond_rows(shape_of({2, 3, 1})));
  CHECK(shape_of({}) == shape_of({}));
  CHECK(shape_of({9, 3}).with_rows(2) == shape_of({2, 3}));
  CHECK(shape_of({}).with_rows(2) == shape_of({}));
}

TEST("copy_rows copies exactly the rows asked for") {
  std::vector<std::int32_t> numbers(5 * 3);
  std::iota(numbers.begin(), numbers.end(), 0);
  const TensorView view{DType::int32, shape_of({5, 3}), numbers.data()};
  for (std::int64_t first = 0; first <= 5; ++first) {
    for (std::int64_t rows = 0; first + rows <= 5; ++rows) {
      const OwnedTensor copy = copy_rows(view, first, rows);
      CHECK(copy.shape == shape_of({rows, 3}));
      CHECK(copy.dtype == DType::int32);
      const auto* copied = static_cast<const std::int32_t*>(copy.data.get());
      CHECK(std::equal(copied, copied + rows * 3, numbers.begin() + first * 3));
    }
  }
}

TEST("copy_rows refuses rows that the tensor does not hold") {
  const float numbers[6] = {};
  const TensorView view{DType::float32, shape_of({3, 2}), numbers};
  const TensorView scalar{DType::float32, shape_of({}), numbers};
  CHECK_THROWS(std::out_of_range, copy_rows(view, 0, 4));
  CHECK_THROWS(std::out_of_range, copy_rows(view, 3, 1));
  CHECK_THROWS(std::out_of_range, copy_rows(view, 4, 0));
  CHECK_THROWS(std::out_of_range, copy_rows(view, -1, 1));
  CHECK_THROWS(std::out_of_range, copy_rows(scalar, 0, 1));
}

TEST("rows are copied to their place, and nothing beside it is touched") {
  std::vector<float> numbers(4 * 2);
  std::iota(numbers.begin(), numbers.end(), 0.0f);
  const TensorView view{DType::float32, shape_of({4, 2}), numbers.data()};
  OwnedTensor target = allocate_rows(view, 6);
  CHECK(target.shape == shape_of({6, 2}));
  auto* written = static_cast<float*>(target.data.get());
  std::fill(written, written + 12, -1.0f);
  copy_rows_into(target, 3, view, 1, 2);
  const std::vector<float> expected = {-1, -1, -1, -1, -1, -1, 2, 3, 4, 5, -1, -1};
  CHECK(std::equal(expected.begin(), expected.end(), written));
  copy_rows_into(target, 6, view, 4, 0);  // no rows, at the very end of both
  CHECK(std::equal(expected.begin(), expected.end(), written));
}

TEST("rows are refused that either side does not hold, or that differ in shape or dtype") {
  const float numbers[8] = {};
  const TensorView view{DType::float32, shape_of({4, 2}), numbers};
  OwnedTensor target = allocate_rows(view, 3);
  CHECK_THROWS(std::out_of_range, copy_rows_into(target, 2, view, 0, 2));
  CHECK_THROWS(std::out_of_range, copy_rows_into(target, -1, view, 0, 1));
  CHECK_THROWS(std::out_of_range, copy_rows_into(target, 0, view, 3, 2));
  CHECK_THROWS(std::out_of_range, copy_rows_into(target, 0, view, -1, 1));
  CHECK_THROWS(std::out_of_range, copy_rows_into(target, 1, view, 1, -1));
  CHECK_THROWS(std::out_of_range, copy_rows_into(target, 0, {DType::int32, shape_of({4, 2}), numbers}, 0, 1));
  CHECK_THROWS(std::out_of_range, copy_rows_into(target, 0, {DType::float32, shape_of({4, 1}), numbers}, 0, 1));
  CHECK_THROWS(std::out_of_range, copy_rows_into(target, 0, {DType::float32, shape_of({4, 2, 1}), numbers}, 0, 1));
}

TEST("only an output with the batch's rows on its first axis holds them") {
  CHECK(holds_rows({DType::float32, shape_of({3, 2}), nullptr}, 3));
  CHECK(!holds_rows({DType::float32, shape_of({3, 2}), nullptr}, 2));
  CHECK(!holds_rows({DType::float32, shape_of({}), nullptr}, 1));
}

TEST("a copy of nothing has memory of its own all the same") {
  const TensorView empty{DType::float64, shape_of({0, 4}), nullptr};
  CHECK(copy_whole(empty).data != nullptr);
  CHECK(copy_rows(empty, 0, 0).data != nullptr);
}

TEST("copy_whole copies a scalar") {
  const double number = 2.5;
  const OwnedTensor copy = copy_whole({DType::float64, shape_of({}), &number});
  CHECK_EQ(copy.shape.rank, 0u);
  CHECK_EQ(*static_cast<const double*>(copy.data.get()), 2.5);
}
