// The results of a request in parts: each part writes its rows into the same arrays.
#include <numeric>

#include "ledger.h"

using namespace harness;
using namespace paddleinfer;

namespace {

// `rows` rows of `width` floats: place after place from `first`.
struct Rows {
  Rows(std::int64_t rows, std::int64_t width, float first) : numbers(static_cast<std::size_t>(rows * width)) {
    std::iota(numbers.begin(), numbers.end(), first);
    view.shape.rank = 2;
    view.shape.dims[0] = rows;
    view.shape.dims[1] = width;
    view.data = numbers.data();
  }
  std::vector<float> numbers;
  TensorView view;
};

std::vector<float> floats_of(const OwnedTensor& tensor) {
  const auto* numbers = static_cast<const float*>(tensor.data.get());
  return {numbers, numbers + tensor.shape.elements()};
}

}  // namespace

TEST("parts write their rows to their place, and the last one says that all are there") {
  PartialResult joined(5);
  Rows last(4, 2, 100);  // a batch whose rows 2 and 3 are the request's last two
  Rows first(3, 2, 0);
  joined.write({last.view}, 2, 3, 2);
  CHECK(!joined.finish_part(2));
  joined.write({first.view}, 0, 0, 3);
  CHECK(joined.finish_part(3));
  const std::vector<OwnedTensor> outputs = joined.take();
  REQUIRE(outputs.size() == 1);
  CHECK_EQ(outputs[0].shape.dims[0], 5);
  CHECK_EQ(outputs[0].shape.dims[1], 2);
  CHECK((floats_of(outputs[0]) == std::vector<float>{0, 1, 2, 3, 4, 5, 104, 105, 106, 107}));
}

TEST("parts keep several outputs apart, in the order wanted") {
  PartialResult joined(2);
  Rows narrow(2, 1, 0);
  Rows wide(2, 3, 10);
  joined.write({wide.view, narrow.view}, 0, 0, 1);
  CHECK(!joined.finish_part(1));
  joined.write({wide.view, narrow.view}, 1, 1, 1);
  CHECK(joined.finish_part(1));
  const std::vector<OwnedTensor> outputs = joined.take();
  REQUIRE(outputs.size() == 2);
  CHECK((floats_of(outputs[0]) == std::vector<float>{10, 11, 12, 13, 14, 15}));
  CHECK((floats_of(outputs[1]) == std::vector<float>{0, 1}));
}

TEST("a part whose rows have another shape or dtype than those before is refused") {
  PartialResult joined(4);
  Rows first(2, 2, 0);
  Rows wider(2, 3, 0);
  Rows other(2, 2, 0);
  other.view.dtype = DType::int32;
  joined.write({first.view}, 0, 0, 2);
  CHECK(!joined.finish_part(2));
  CHECK_THROWS(std::out_of_range, joined.write({wider.view}, 0, 2, 2));
  CHECK_THROWS(std::out_of_range, joined.write({other.view}, 0, 2, 2));
  joined.write({first.view}, 0, 2, 2);
  CHECK(joined.finish_part(2));  // neither counted
  CHECK((floats_of(joined.take()[0]) == std::vector<float>{0, 1, 2, 3, 0, 1, 2, 3}));
}

TEST("a part that does not hold its rows, or would write past the end, is refused") {
  PartialResult joined(4);
  Rows rows(2, 2, 0);
  CHECK_THROWS(std::out_of_range, joined.write({rows.view}, 0, 0, 3));
  CHECK_THROWS(std::out_of_range, joined.write({rows.view}, 1, 0, 2));
  CHECK_THROWS(std::out_of_range, joined.write({rows.view}, 0, 3, 2));
  CHECK_THROWS(std::out_of_range, joined.write({rows.view}, 0, -1, 2));
  TensorView scalar = rows.view;
  scalar.shape.rank = 0;
  CHECK_THROWS(std::out_of_range, joined.write({scalar}, 0, 0, 1));
}

TEST("the first part that does not fit into memory does not spoil the next one's place") {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // those end the program
  PartialResult joined(2);
  Rows rows(2, 2, 0);
  TensorView huge = rows.view;
  huge.shape.dims[1] = std::int64_t{1} << 56;
  CHECK_THROWS(std::bad_alloc, joined.write({rows.view, huge}, 0, 0, 1));
  joined.write({rows.view, rows.view}, 0, 0, 1);
  CHECK(!joined.finish_part(1));
  joined.write({rows.view, rows.view}, 1, 1, 1);
  CHECK(joined.finish_part(1));
  CHECK_EQ(joined.take().size(), 2u);
#endif
}

TEST("many threads write the parts of one request, and one of them is the last") {
  constexpr std::int64_t kRows = 64;
  for (std::int64_t round = 0; round < scaled(200); ++round) {
    PartialResult joined(kRows);
    Rows rows(kRows, 3, 0);
    std::atomic<std::int64_t> next{0};
    std::atomic<int> last{0};
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 3; ++thread) {
      threads.emplace_back([&] {
        for (std::int64_t part = next++; part < kRows / 4; part = next++) {
          joined.write({rows.view}, 4 * part, 4 * part, 4);
          last += joined.finish_part(4);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK_EQ(last, 1);
    CHECK(floats_of(joined.take().at(0)) == rows.numbers);
  }
}
