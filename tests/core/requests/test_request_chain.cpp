// Requests in a row.
#include <memory>
#include <vector>

#include "check.h"
#include "requests/request.h"

using namespace harness;
using namespace paddleinfer;

namespace {

std::vector<RequestPtr> requests(std::size_t count) {
  std::vector<RequestPtr> made;
  for (std::size_t place = 0; place < count; ++place) made.push_back(std::make_shared<Request>());
  return made;
}

void push(RequestChain& chain, const std::vector<RequestPtr>& all, std::size_t begin, std::size_t end) {
  for (std::size_t place = begin; place < end; ++place) chain.push(all[place]);
}

std::vector<RequestPtr> popped(RequestChain& chain) {
  std::vector<RequestPtr> all;
  while (!chain.empty()) all.push_back(chain.pop());
  return all;
}

}  // namespace

TEST("a chain gives its requests in the order in which they came") {
  const std::vector<RequestPtr> all = requests(3);
  RequestChain chain;
  push(chain, all, 0, 3);
  CHECK_EQ(chain.size(), 3u);
  CHECK(popped(chain) == all);
  CHECK_EQ(chain.size(), 0u);
}

TEST("a chain that is put behind another leaves nothing behind, and either may be empty") {
  const std::vector<RequestPtr> all = requests(4);
  for (const std::size_t middle : {0, 2, 4}) {
    RequestChain first, second;
    push(first, all, 0, middle);
    push(second, all, middle, 4);
    first.append(std::move(second));
    CHECK(second.empty());
    CHECK_EQ(second.size(), 0u);
    CHECK_EQ(first.size(), 4u);
    CHECK(popped(first) == all);
    push(second, all, 0, 4);  // it goes on as a new one
    CHECK(popped(second) == all);
  }
}

TEST("a long chain is let go of without going down it") {
  RequestChain chain;
  for (int place = 0; place < 200'000; ++place) chain.push(std::make_shared<Request>());
  chain.clear();
  CHECK(chain.empty());
}
