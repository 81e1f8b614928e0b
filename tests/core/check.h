// A small test harness: TEST("what holds") { ...CHECK(...)... }
//
// CHECK notes a failure and goes on, on any thread; REQUIRE ends the test, on the test's own thread only.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "requests/parker.h"

namespace harness {

struct Test {
  const char* name;
  const char* file;
  void (*body)();
};

std::vector<Test>& tests();

struct Registered {
  Registered(const char* name, const char* file, void (*body)()) { tests().push_back({name, file, body}); }
};

struct Stop {};  // thrown by REQUIRE

// Notes a failure of the running test.
void fail(const char* file, int line, const char* what);

// Work for a test that runs longer with --stress and shorter under a sanitizer.
std::int64_t scaled(std::int64_t count);

// Whether `body`, in a forked child, ended in peace. For what would otherwise end this process.
bool survives(const std::function<void()>& body);

// Factor by which this build is slower than a plain one, roughly.
#if defined(__SANITIZE_THREAD__)
inline constexpr int kSlowdown = 3;
#elif defined(__SANITIZE_ADDRESS__)
inline constexpr int kSlowdown = 2;
#else
inline constexpr int kSlowdown = 1;
#endif

inline constexpr paddleinfer::Nanos kMillisecond = 1'000'000;

inline paddleinfer::Nanos from_now(paddleinfer::Nanos nanos) { return paddleinfer::monotonic_now() + nanos; }
inline void sleep_ns(paddleinfer::Nanos nanos) { std::this_thread::sleep_for(std::chrono::nanoseconds(nanos)); }

// Longer than anything here takes: reaching it is a failure, never a wait that a test relies on.
inline constexpr paddleinfer::Nanos kPatience = 100 * paddleinfer::kNanosPerSecond;

// Waits for what another thread brings about. False when that takes too long.
template <typename Condition>
bool eventually(const Condition& condition) {
  for (const auto until = from_now(kPatience); !condition();) {
    if (paddleinfer::monotonic_now() > until) return false;
    sleep_ns(kMillisecond / 5);
  }
  return true;
}

template <typename A, typename B>
__attribute__((noinline)) void check_equal(const char* file, int line, const char* text, const A& a, const B& b) {
  if (a == b) return;
  std::ostringstream out;
  out << text << " (" << a << " and " << b << ")";
  fail(file, line, out.str().c_str());
}

}  // namespace harness

#define HARNESS_JOIN_(a, b) a##b
#define HARNESS_JOIN(a, b) HARNESS_JOIN_(a, b)
#define HARNESS_TEST(name, id)                                                                             \
  static void HARNESS_JOIN(test_, id)();                                                                   \
  static const harness::Registered HARNESS_JOIN(registered_, id)(name, __FILE__, HARNESS_JOIN(test_, id)); \
  static void HARNESS_JOIN(test_, id)()
#define TEST(name) HARNESS_TEST(name, __LINE__)

#define CHECK(condition)                                             \
  do {                                                               \
    if (!(condition)) harness::fail(__FILE__, __LINE__, #condition); \
  } while (false)

#define CHECK_EQ(a, b) harness::check_equal(__FILE__, __LINE__, #a " == " #b, a, b)

#define REQUIRE(condition)                           \
  do {                                               \
    if (!(condition)) {                              \
      harness::fail(__FILE__, __LINE__, #condition); \
      throw harness::Stop{};                         \
    }                                                \
  } while (false)

#define CHECK_THROWS(type, expression)                                                  \
  do {                                                                                  \
    bool check_thrown = false;                                                          \
    try {                                                                               \
      static_cast<void>(expression);                                                    \
    } catch (const type&) {                                                             \
      check_thrown = true;                                                              \
    } catch (...) {                                                                     \
    }                                                                                   \
    if (!check_thrown) harness::fail(__FILE__, __LINE__, #expression " throws " #type); \
  } while (false)
