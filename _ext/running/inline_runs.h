// Says which runs a caller's thread may do, where the backend's way depends on the inputs' shapes.
#pragma once

#include <vector>

#include "requests/tensor_copy.h"

namespace paddleinfer {

class InlineRuns {
 public:
  InlineRuns() = default;
  InlineRuns(const InlineRuns&) = delete;
  InlineRuns& operator=(const InlineRuns&) = delete;
  virtual ~InlineRuns() = default;

  virtual bool may_run(const std::vector<TensorView>& inputs) const noexcept = 0;
};

}  // namespace paddleinfer
