// Runs the tests whose name or file holds one of the arguments; all without arguments.
//
//   test-core [--list] [--stress FACTOR] [SUBSTRING...]
//
// PADDLEINFER_STRESS=FACTOR does the same as --stress: that many times the work in the tests that race.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>

#include "check.h"

namespace harness {
namespace {

// A hung test ends the program by SIGALRM; its name is the last line printed.
constexpr int kSecondsPerTest = 300;

std::atomic<int> failures{0};  // of the running test
double stress = 1.0;

bool wanted(const Test& test, const std::vector<std::string>& filters) {
  if (filters.empty()) return true;
  return std::any_of(filters.begin(), filters.end(), [&](const std::string& filter) {
    return std::strstr(test.name, filter.c_str()) != nullptr || std::strstr(test.file, filter.c_str()) != nullptr;
  });
}

bool passes(const Test& test) {
  failures = 0;
  std::printf("%s: %s ", std::strrchr(test.file, '/') ? std::strrchr(test.file, '/') + 1 : test.file, test.name);
  std::fflush(stdout);
  alarm(static_cast<unsigned>(kSecondsPerTest * std::max(1.0, stress)));
  const paddleinfer::Nanos begin = paddleinfer::monotonic_now();
  try {
    test.body();
  } catch (const Stop&) {
  } catch (const std::exception& error) {
    fail(test.file, 0, (std::string("the test threw: ") + error.what()).c_str());
  }
  alarm(0);
  std::printf("%s (%lld ms)\n", failures == 0 ? "ok" : "FAILED",
              static_cast<long long>((paddleinfer::monotonic_now() - begin) / kMillisecond));
  return failures == 0;
}

}  // namespace

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

void fail(const char* file, int line, const char* what) {
  static std::mutex printing;
  const std::lock_guard<std::mutex> lock(printing);
  constexpr int kShown = 5;
  const int before = failures.fetch_add(1);
  if (before < kShown) std::printf("\n  %s:%d: %s ", file, line, what);
  if (before == kShown) std::printf("\n  and more ");
  std::fflush(stdout);
}

std::int64_t scaled(std::int64_t count) {
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(static_cast<double>(count) * stress / kSlowdown));
}

bool survives(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    alarm(kSecondsPerTest / 2);
    failures = 0;
    try {
      body();
    } catch (const Stop&) {
    }
    std::fflush(nullptr);
    _exit(failures == 0 ? 0 : 1);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace harness

int main(int argc, char** argv) {
  using namespace harness;
  std::vector<std::string> filters;
  bool list = false;
  if (const char* factor = std::getenv("PADDLEINFER_STRESS")) stress = std::atof(factor);
  for (int place = 1; place < argc; ++place) {
    const std::string argument = argv[place];
    if (argument == "--list") {
      list = true;
    } else if (argument == "--stress" && place + 1 < argc) {
      stress = std::atof(argv[++place]);
    } else if (argument[0] == '-') {
      std::fprintf(stderr, "usage: %s [--list] [--stress FACTOR] [SUBSTRING...]\n", argv[0]);
      return 2;
    } else {
      filters.push_back(argument);
    }
  }
  if (stress <= 0) stress = 1.0;
  std::stable_sort(tests().begin(), tests().end(),
                   [](const Test& a, const Test& b) { return std::strcmp(a.file, b.file) < 0; });
  int passed = 0;
  std::vector<const char*> failed;
  for (const Test& test : tests()) {
    if (!wanted(test, filters)) continue;
    if (list) {
      std::printf("%s\n", test.name);
    } else if (passes(test)) {
      ++passed;
    } else {
      failed.push_back(test.name);
    }
  }
  if (list) return 0;
  for (const char* name : failed) std::printf("failed: %s\n", name);
  if (passed == 0 && failed.empty()) std::printf("no test has such a name\n");
  std::printf("%d passed, %zu failed\n", passed, failed.size());
  return passed > 0 && failed.empty() ? 0 : 1;
}
