// What the tests put in place of onnxruntime: a table of its C functions, over a model that doubles its inputs.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "onnxruntime/ort_api.h"

namespace fakes {

struct FakeTensor {
  int type = 1;
  std::vector<std::int64_t> dims;
  void* data = nullptr;  // of the caller, or of `own`
  std::vector<float> own;
};

// The model: its tensors, and what its runs do.
struct FakeOrt {
  struct Described {
    std::string name;
    int type = 1;
    std::vector<std::int64_t> dims;
    bool tensor = true;
  };
  std::vector<Described> inputs = {{"x", 1, {-1, 2}, true}};
  std::vector<Described> outputs = {{"doubled", 1, {-1, 2}, true}};
  std::string version = "1.32.0";
  bool has_table = true;
  bool fail_load = false;
  std::string fail_run;  // with this message
  int result_type = 1;
  std::size_t result_rank = 0;   // 0: the input's
  std::int64_t result_rows = 0;  // likewise; not more than the input has
  int threads = 0;
  std::string path;
  std::atomic<int> objects{0};  // that are to be released
  std::atomic<int> runs{0};
  std::atomic<int> tensors_made{0};
  std::atomic<int> results_given{0};  // that runs wrote to memory of the caller's

  // Puts it in place of the library; one at a time.
  const paddleinfer::onnxruntime::ApiBase* base();
};

}  // namespace fakes
