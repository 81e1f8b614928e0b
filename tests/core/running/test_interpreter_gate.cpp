// The way into Python, with threads that end where a real one would be ended.
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine.h"
#include "running/interpreter_gate.h"

using namespace paddleinfer;

TEST("a closed gate lets nobody in") {
  InterpreterGate gate;
  int entered = 0;
  const auto enter = [&] {
    gate.entered();
    ++entered;
  };
  CHECK(gate.call(enter));
  gate.close();
  CHECK(!gate.call(enter));
  CHECK_EQ(entered, 1);
}

TEST("closing waits for who is about to take the GIL, and not for who has it") {
  InterpreterGate gate;
  std::atomic<int> stage{0};
  std::thread visitor([&] {
    gate.call([&] {
      stage = 1;
      while (stage != 2) std::this_thread::yield();
      gate.entered();
      while (stage != 3) std::this_thread::yield();
    });
  });
  while (stage != 1) std::this_thread::yield();
  std::atomic<bool> closed{false};
  std::thread closer([&] {
    gate.close();
    closed = true;
  });
  while (!gate.closed()) std::this_thread::yield();
  CHECK(!closed);
  stage = 2;
  closer.join();
  stage = 3;
  visitor.join();
}

TEST("closing in a forked child does not wait for who was on its way in the parent") {
  InterpreterGate gate;
  std::atomic<int> stage{0};
  std::thread visitor([&] {
    gate.call([&] {
      stage = 1;
      while (stage != 2) std::this_thread::yield();
      gate.entered();
    });
  });
  while (stage != 1) std::this_thread::yield();
  const pid_t child = fork();
  if (child == 0) {
    gate.forget_other_threads();
    gate.close();
    _exit(7);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
  stage = 2;
  visitor.join();
}

TEST("a thread that is ended in Python stays there: nothing of its stack is unwound") {
  // They live as long as the thread, which is for good.
  static InterpreterGate gate;
  static std::atomic<bool> is_admitted{false}, unwound{false};
  std::thread([] {
    const struct Unwound {
      ~Unwound() { unwound = true; }
    } unwinds;
    []() noexcept {
      gate.call([] {
        gate.entered();
        is_admitted = true;
        pthread_exit(nullptr);
      });
    }();
  }).detach();
  while (!is_admitted) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(!unwound);
}
