// What the tests put in place of OpenVINO: its C functions by name, over a model that doubles its inputs.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "openvino/ov_api.h"

namespace fakes {

// The model: its tensors, and what its runs do.
struct FakeOv {
  struct Described {
    std::string name;
    int type = 4;
    std::vector<std::int64_t> dims;
    bool ranked = true;
    std::string other_name;
  };
  std::vector<Described> inputs = {{"x", 4, {-1, 2}, true, ""}};
  std::vector<Described> outputs = {{"doubled", 4, {-1, 2}, true, ""}};
  std::string version = "2026.4.1-22982-e213a147257-releases/2026/4";
  bool has_version = true;
  std::string lacking;    // a function that the library does not have
  std::string fail_read;  // with this message, or, where it is "-", without one
  std::string fail_run;   // likewise
  int result_type = 4;
  std::size_t result_rank = 0;  // 0: the input's
  bool scalar_result = false;
  std::string path;
  std::map<std::string, std::string> properties;  // of the model that was compiled last
  std::atomic<int> compiled{0};
  std::atomic<int> objects{0};  // that are to be freed
  std::atomic<int> runs{0};
  std::atomic<int> tensors_made{0};
  std::mutex mu;
  std::string last_error;

  // Puts it in place of the library; one at a time.
  paddleinfer::openvino::Api api();
};

}  // namespace fakes
