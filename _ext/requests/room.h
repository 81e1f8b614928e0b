// Room made beforehand, so that what must not fail needs no memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace paddleinfer {

// Room for `more` further elements: adding them cannot fail. Grows as push_back() does.
template <typename Element>
void make_room(std::vector<Element>& vector, std::size_t more = 1) {
  if (vector.capacity() - vector.size() < more) vector.reserve(std::max(vector.size() + more, 2 * vector.capacity()));
}

}  // namespace paddleinfer
