// What a request has to do with the cache of results: its key, and the equal request that it leads or follows.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "requests/tensor_copy.h"

namespace paddleinfer {

class Request;

// A cryptographic digest of all that the results depend on. Nobody knows two contents of one digest.
using CacheKey = std::array<std::uint8_t, 32>;

struct HashOfKey {
  std::size_t operator()(const CacheKey& key) const noexcept {
    std::size_t hash = 0;
    std::memcpy(&hash, key.data(), sizeof hash);
    return hash;
  }
};

// What a key is the digest of, before the bytes of the inputs: their dtypes and shapes, and the outputs wanted. It says
// how long each part is, so that no two requests have one text.
inline std::string described(const std::vector<TensorView>& inputs, const std::vector<std::uint32_t>& wanted) {
  std::string text;
  const auto add = [&text](std::int64_t value) { text.append(reinterpret_cast<const char*>(&value), sizeof value); };
  add(std::int64_t(inputs.size()));
  for (const TensorView& input : inputs) {
    add(std::int64_t(input.dtype));
    add(std::int64_t(input.shape.rank));
    for (std::size_t axis = 0; axis < input.shape.rank; ++axis) add(input.shape.dims[axis]);
  }
  add(std::int64_t(wanted.size()));
  for (const std::uint32_t output : wanted) add(output);
  return text;
}

// The outputs of a request, in the order in which they were wanted.
struct CachedResult {
  std::vector<OwnedTensor> outputs;
};

struct CacheUse {
  enum class Role : std::uint8_t { none, leads, follows };

  CacheKey key{};

  // Guarded by the dispatcher's lock.
  Role role = Role::none;
  std::vector<std::shared_ptr<Request>> followers;  // of one that leads
  Request* leader = nullptr;                        // of one that follows; it lives as long as this does
  std::shared_ptr<const CachedResult> answer;       // found at its admission, for whoever admits it
};

}  // namespace paddleinfer
