// Whether rows are together what they are alone: models of all kinds, and the verdict on each.
#include <algorithm>
#include <numeric>

#include "bench.h"
#include "running/batch_probe.h"

using namespace fakes;
using Kind = ProbeVerdict::Kind;

namespace {

struct Output {
  DType dtype = DType::float32;
  Shape shape;
  std::vector<char> data;

  template <typename T>
  static Output of(DType dtype, std::vector<std::int64_t> dims, const std::vector<T>& numbers) {
    Output output;
    output.dtype = dtype;
    output.shape.rank = dims.size();
    std::copy(dims.begin(), dims.end(), output.shape.dims);
    const auto* bytes = reinterpret_cast<const char*>(numbers.data());
    output.data.assign(bytes, bytes + numbers.size() * sizeof(T));
    return output;
  }
  static Output floats(std::vector<std::int64_t> dims, const std::vector<float>& numbers) {
    return of(DType::float32, std::move(dims), numbers);
  }
};

// Its outputs are what the test makes of the rows' first numbers.
class Function final : public Backend {
 public:
  using Outputs = std::function<std::vector<Output>(const std::vector<float>& rows)>;
  explicit Function(Outputs outputs) : make_(std::move(outputs)) {}
  void* input(std::size_t, DType dtype, const Shape& shape) override {
    shape_ = shape;
    memory_.resize(shape.bytes(dtype));
    return memory_.data();
  }
  void run() override {
    const auto* numbers = reinterpret_cast<const float*>(memory_.data());
    std::vector<float> rows;
    for (std::int64_t row = 0; row < shape_.dims[0]; ++row) rows.push_back(numbers[row * shape_.dims[1]]);
    runs.push_back(rows);
    outputs_ = make_(rows);
  }
  TensorView output(std::size_t index) override {
    const Output& output = outputs_.at(index);
    return {output.dtype, output.shape, output.data.data()};
  }
  std::vector<std::vector<float>> runs;

 private:
  const Outputs make_;
  Shape shape_;
  std::vector<char> memory_;
  std::vector<Output> outputs_;
};

// What is found out about a model from requests of so many rows each: alone, then together.
struct Probed {
  Probed(Function::Outputs outputs, std::vector<std::int64_t> rows = {1, 1, 1},
         std::vector<std::string> names = {"scores"}, OutputRecord* record = nullptr)
      : model(std::move(outputs)) {
    Batch batch;
    for (const std::int64_t count : rows)
      batch.push_back(Bench::whole(bench.started(float(10 * batch.size() + 1), count)));
    Execution execution(model, batch, bench.releases);
    execution.keep_inputs();
    execution.keep_outputs(names.size());
    execution.run(/*apart=*/true);
    std::vector<std::vector<OwnedTensor>> alone;
    for (std::size_t place = 0; place < batch.size(); ++place) alone.push_back(std::move(execution.kept(place)));
    verdict = BatchProbe(model, names, record).together(batch, alone);
    CHECK(bench.releases.take().empty());
    execution.release_inputs();
  }
  bool says(const std::string& text) const { return verdict.reason.find(text) != std::string::npos; }

  Bench bench;
  Function model;
  ProbeVerdict verdict;
};

Output each(const std::vector<float>& rows, const std::function<float(float)>& function) {
  std::vector<float> numbers;
  for (const float row : rows) numbers.push_back(function(row));
  return Output::floats({std::int64_t(rows.size())}, numbers);
}

}  // namespace

TEST("a model that treats each row by itself may merge") {
  const Probed probed([](const std::vector<float>& rows) {
    return std::vector<Output>{each(rows, [](float row) { return row * 2; })};
  });
  CHECK(probed.verdict.kind == Kind::same);
  CHECK(probed.verdict.reason.empty());
}

TEST("each request runs alone, then all of them together, in order and in reversed order") {
  const auto twice = [](const std::vector<float>& rows) {
    return std::vector<Output>{each(rows, [](float row) { return row * 2; })};
  };
  using Runs = std::vector<std::vector<float>>;
  CHECK((Probed(twice).model.runs == Runs{{1}, {11}, {21}, {1, 11, 21}, {21, 11, 1}}));
  CHECK((Probed(twice, {1, 2}).model.runs == Runs{{1}, {11, 12}, {1, 11, 12}, {11, 12, 1}}));
}

TEST("of a large request some rows run alone, from its beginning to its end, then those together") {
  Bench bench;
  Function model(
      [](const std::vector<float>& rows) { return std::vector<Output>{each(rows, [](float row) { return row; })}; });
  const RequestPtr large = bench.started(100, 40);
  const std::vector<std::string> names = {"scores"};
  BatchProbe probe(model, names);
  CHECK(probe.probe(Bench::whole(large)).kind == Kind::same);
  CHECK((model.runs ==
         std::vector<std::vector<float>>{{100}, {113}, {126}, {139}, {100, 113, 126, 139}, {139, 126, 113, 100}}));
  CHECK_EQ(probe.runs().size(), 6u);
  CHECK(probe.runs().back().internal);
  large->release_inputs(bench.releases);
}

TEST("a model whose rows depend on their neighbours may not merge, and the reason says how much") {
  const Probed probed([](const std::vector<float>& rows) {
    const float sum = std::accumulate(rows.begin(), rows.end(), 0.0f);
    return std::vector<Output>{each(rows, [&](float row) { return row / sum; })};
  });
  CHECK(probed.verdict.kind == Kind::different);
  CHECK(probed.says("output scores of a row differs by"));
  CHECK(probed.says("3 rows together"));
}

TEST("a model that sorts its rows is found, though they come in its order") {
  for (const bool falls : {false, true}) {
    const Probed probed([falls](const std::vector<float>& rows) {
      std::vector<float> sorted = rows;
      std::sort(sorted.begin(), sorted.end());
      if (falls) std::reverse(sorted.begin(), sorted.end());
      return std::vector<Output>{Output::floats({std::int64_t(rows.size())}, sorted)};
    });
    CHECK(probed.verdict.kind == Kind::different);
    CHECK(probed.says("output scores of a row differs by"));
  }
}

TEST("a difference that shows only with three rows is found") {
  const Probed probed([](const std::vector<float>& rows) {
    return std::vector<Output>{each(rows, [&](float row) { return rows.size() > 2 ? -row : row; })};
  });
  CHECK(probed.verdict.kind == Kind::different);
  CHECK(probed.says("3 rows together"));
}

TEST("a difference in the last row alone is found") {
  const Probed probed([](const std::vector<float>& rows) {
    Output output = each(rows, [](float row) { return row; });
    if (rows.size() == 3) reinterpret_cast<float*>(output.data.data())[2] += 1;
    return std::vector<Output>{output};
  });
  CHECK(probed.verdict.kind == Kind::different);
}

TEST("differences within the tolerance are none") {
  for (const bool within : {true, false}) {
    const float factor = within ? 1 + 0.5e-5f : 1 + 3e-5f;
    const Probed probed([&](const std::vector<float>& rows) {
      return std::vector<Output>{each(rows, [&](float row) { return rows.size() > 1 ? row * factor : row; })};
    });
    CHECK(probed.verdict.kind == (within ? Kind::same : Kind::different));
  }
}

TEST("every output is compared, and the one at fault is named") {
  const Probed probed(
      [](const std::vector<float>& rows) {
        std::vector<std::int64_t> numbers(rows.size());
        std::iota(numbers.begin(), numbers.end(), 0);
        return std::vector<Output>{
            each(rows, [](float row) { return row; }),
            Output::of(DType::int64, {std::int64_t(rows.size())}, numbers),
        };
      },
      {1, 1}, {"scores", "places"});
  CHECK(probed.verdict.kind == Kind::different);
  CHECK(probed.says("output places"));
}

TEST("an output that does not have the batch's rows is found, with its shape") {
  const Probed scalar([](const std::vector<float>&) { return std::vector<Output>{Output::floats({}, {1})}; });
  CHECK(scalar.verdict.kind == Kind::different);
  CHECK_EQ(scalar.verdict.reason, "output scores has the shape [] for 1 rows");
  const Probed one([](const std::vector<float>&) { return std::vector<Output>{Output::floats({1, 2}, {1, 2})}; });
  CHECK(one.verdict.kind == Kind::different);
  CHECK_EQ(one.verdict.reason, "output scores has the shape [1, 2] for 3 rows");
  const Probed twice([](const std::vector<float>& rows) {
    return std::vector<Output>{Output::floats({2 * std::int64_t(rows.size())}, std::vector<float>(2 * rows.size()))};
  });
  CHECK_EQ(twice.verdict.reason, "output scores has the shape [2] for 1 rows");
}

TEST("an output whose further shape or dtype follows the rows is found") {
  const Probed wider([](const std::vector<float>& rows) {
    const auto count = std::int64_t(rows.size());
    return std::vector<Output>{Output::floats({count, count}, std::vector<float>(rows.size() * rows.size()))};
  });
  CHECK(wider.verdict.kind == Kind::different);
  CHECK(wider.says("output scores changes its shape"));
  const Probed retyped([](const std::vector<float>& rows) {
    Output output = each(rows, [](float) { return 0; });
    if (rows.size() > 1) output.dtype = DType::int32;
    return std::vector<Output>{output};
  });
  CHECK(retyped.verdict.kind == Kind::different);
}

TEST("a model that fails with several rows and not with one may not merge") {
  const Probed probed([](const std::vector<float>& rows) {
    if (rows.size() > 1) throw std::runtime_error("batch size must be 1");
    return std::vector<Output>{each(rows, [](float row) { return row; })};
  });
  CHECK(probed.verdict.kind == Kind::different);
  CHECK(probed.says("fails with 3 rows together"));
  CHECK(probed.says("batch size must be 1"));
}

TEST("a model that throws what is no C++ exception with several rows may not merge either") {
  const Probed probed([](const std::vector<float>& rows) {
    if (rows.size() > 2) throw 5;
    return std::vector<Output>{each(rows, [](float row) { return row; })};
  });
  CHECK(probed.verdict.kind == Kind::different);
  CHECK(probed.says("fails with 3 rows together"));
}

TEST("where memory does not suffice for all of them together nothing is known") {
  for (const bool named : {true, false}) {
    const Probed probed([named](const std::vector<float>& rows) {
      if (rows.size() > 1 && named) throw std::runtime_error("ResourceExhausted: Out of memory");
      if (rows.size() > 1) throw std::bad_alloc();
      return std::vector<Output>{each(rows, [](float row) { return row; })};
    });
    CHECK(probed.verdict.kind == Kind::unclear);
  }
}

TEST("outputs near zero do not condemn a model: differences of a millionth, or of less than it ever gave, are noise") {
  const auto noisy = [](float scale, float noise) {
    return [=](const std::vector<float>& rows) {
      return std::vector<Output>{each(rows, [&](float row) { return row * scale + (rows.size() > 1 ? noise : 0); })};
    };
  };
  CHECK(Probed(noisy(1e-7f, 1e-7f)).verdict.kind == Kind::same);  // a tenth of it
  CHECK(Probed(noisy(1e-7f, 3e-6f)).verdict.kind == Kind::different);
  OutputRecord record;
  CHECK(Probed(noisy(1e-3f, 2e-5f), {1, 1}, {"scores"}, &record).verdict.kind == Kind::different);
  const std::vector<float> seen = {5'000};
  record.note_values(0, {DType::float32,
                         [] {
                           Shape shape;
                           shape.rank = 1;
                           shape.dims[0] = 1;
                           return shape;
                         }(),
                         seen.data()});
  CHECK(Probed(noisy(1e-3f, 2e-5f), {1, 1}, {"scores"}, &record).verdict.kind == Kind::same);
  CHECK(Probed(noisy(1e-3f, 1e-4f), {1, 1}, {"scores"}, &record).verdict.kind == Kind::different);
}

TEST("a class may differ where the scores that it comes from are a tie, and only there") {
  for (const float second : {0.5f, 0.4f}) {
    const Probed probed(
        [second](const std::vector<float>& rows) {
          std::vector<float> scores;
          std::vector<std::int64_t> classes(rows.size(), rows.size() > 1 ? 2 : 1);
          for (std::size_t row = 0; row < rows.size(); ++row) scores.insert(scores.end(), {0.1f, 0.5f, second});
          return std::vector<Output>{Output::of(DType::int64, {std::int64_t(rows.size())}, classes),
                                     Output::floats({std::int64_t(rows.size()), 3}, scores)};
        },
        {1, 1}, {"class", "scores"});
    CHECK(probed.verdict.kind == (second == 0.5f ? Kind::same : Kind::different));
  }
}

TEST("outputs of no elements, and rows that are not numbers, are the same as themselves") {
  const Probed empty([](const std::vector<float>& rows) {
    return std::vector<Output>{Output::floats({std::int64_t(rows.size()), 0}, {})};
  });
  CHECK(empty.verdict.kind == Kind::same);
  const Probed nan([](const std::vector<float>& rows) {
    return std::vector<Output>{each(rows, [](float) { return std::nanf(""); })};
  });
  CHECK(nan.verdict.kind == Kind::same);
}
