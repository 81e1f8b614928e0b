// Which thread makes, runs and destroys a backend, and what such a thread is like.
#include <pthread.h>
#include <signal.h>

#include "engine.h"

using namespace fakes;

TEST("a backend is made, run and destroyed on a thread of its own") {
  std::vector<Life> lives;
  int expected = 0;
  {
    Engine engine({.instances = 3, .on_run = [](float) { sleep_ns(kMillisecond / 10); }});
    std::vector<RequestPtr> requests;
    for (int place = 0; place < 300; ++place) requests.push_back(engine.submit(float(place)));
    for (const RequestPtr& request : requests) engine.await(request);
    engine.close(true, kNever);
    CHECK_EQ(engine.model->alive(), 0);
    lives = engine.model->lives();
    expected = engine.model->runs;
  }
  CHECK_EQ(lives.size(), 3u);
  std::set<std::thread::id> threads = {std::this_thread::get_id()};
  int runs = 0;
  for (const Life& life : lives) {
    CHECK(threads.insert(life.made).second);
    CHECK_EQ(life.destroyed, life.made);
    CHECK(life.elsewhere.empty());
    runs += life.runs;
  }
  CHECK_EQ(runs, expected);
}

TEST("the root goes after all clones") {
  for (int round = 0; round < 5; ++round) {
    Engine engine({.instances = 4});
    engine.model->on_destroy = [] { sleep_ns(2 * kMillisecond); };
    engine.call(1);
    engine.close(round % 2 == 0, kNever);
    const std::vector<Life> lives = engine.model->lives();
    REQUIRE(lives.size() == 4);
    CHECK_EQ(lives.back().instance, 0u);
  }
}

TEST("an instance thread knows whose it is") {
  Engine other({});
  Dispatcher* dispatcher = nullptr;
  std::atomic<int> own{0};
  std::atomic<int> foreign{0};
  Engine engine({.on_run = [&](float) {
    own += dispatcher->on_instance_thread();
    foreign += other.dispatcher->on_instance_thread();
  }});
  dispatcher = engine.dispatcher.get();
  engine.call(1);
  CHECK_EQ(own, 1);
  CHECK_EQ(foreign, 0);
  CHECK(!dispatcher->on_instance_thread());
}

// What a model starts (a subprocess, say) inherits the mask: signals that end it must not be blocked.
TEST("instance threads block the signals their maker blocks") {
  std::atomic<int> blocked{0};
  Engine engine({.on_run = [&](float) {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    for (const int number : {SIGINT, SIGTERM, SIGUSR1, SIGCHLD}) blocked += sigismember(&mask, number);
  }});
  engine.call(1);
  CHECK_EQ(blocked, 0);
}

TEST("instance threads bear a name") {
  std::string name;
  Engine engine({.on_run = [&](float) {
    char text[16] = {};
    pthread_getname_np(pthread_self(), text, sizeof text);
    name = text;
  }});
  engine.call(1);
  engine.call(2);
  CHECK_EQ(name, "paddleinfer-0");
}

TEST("what the factory throws reaches who starts the instance, and harms no other instance") {
  Engine engine({});
  for (int round = 0; round < 3; ++round) {
    CHECK_THROWS(std::runtime_error, engine.dispatcher->start_instance(false, []() -> std::unique_ptr<Backend> {
      throw std::runtime_error("no such model");
    }));
  }
  CHECK(has_result(*engine.call(1), 1));
  const CloseReport report = engine.close(true, from_now(kPatience));
  CHECK_EQ(report.abandoned_instances, 0u);
  CHECK_EQ(engine.model->alive(), 0);
}

TEST("an engine whose root cannot be made closes at once") {
  const auto dispatcher = std::make_shared<Dispatcher>(DispatcherOptions{});
  CHECK_THROWS(std::bad_alloc,
               dispatcher->start_instance(true, []() -> std::unique_ptr<Backend> { throw std::bad_alloc(); }));
  const Nanos begin = monotonic_now();
  CHECK_EQ(dispatcher->close(false, kNever).abandoned_instances, 0u);
  CHECK(monotonic_now() - begin < kPatience);
}

TEST("an instance whose thread could not be started leaves nothing to wait for") {
  Engine engine({});
  pthread_attr_t usual;
  pthread_attr_t huge;
  pthread_getattr_default_np(&usual);
  pthread_attr_init(&huge);
  pthread_attr_setstacksize(&huge, std::size_t{1} << 47);  // more than there are addresses
  REQUIRE(pthread_setattr_default_np(&huge) == 0);
  bool thrown = false;
  try {
    engine.start(false);
  } catch (const std::system_error&) {
    thrown = true;
  }
  pthread_setattr_default_np(&usual);
  pthread_attr_destroy(&huge);
  pthread_attr_destroy(&usual);
  REQUIRE(thrown);
  CHECK(has_result(*engine.call(1), 1));
  const Nanos begin = monotonic_now();
  const CloseReport report = engine.close(true, from_now(kPatience));
  CHECK(monotonic_now() - begin < kPatience);
  CHECK_EQ(report.abandoned_instances, 0u);
  CHECK_EQ(engine.model->alive(), 0);  // the root did not wait for a clone that never was
}

TEST("starting an instance on a closed engine neither leaks nor ends the process") {
  const bool survived = survives([] {
    const auto model = std::make_shared<FakeModel>();
    auto dispatcher = std::make_shared<Dispatcher>(DispatcherOptions{});
    dispatcher->close(true, kNever);
    try {
      dispatcher->start_instance(true,
                                 [=]() -> std::unique_ptr<Backend> { return std::make_unique<FakeBackend>(model, 0); });
    } catch (const std::exception&) {  // refusing it would be as well
    }
    CHECK(eventually([&] { return model->alive() == 0; }));
    dispatcher.reset();
  });
  CHECK(survived);
}

TEST("closing while the first of two instances is being made neither leaks nor ends the process") {
  const bool survived = survives([] {
    const auto model = std::make_shared<FakeModel>();
    auto dispatcher = std::make_shared<Dispatcher>(DispatcherOptions{});
    Gate gate;
    std::thread starter([&] {
      try {
        for (std::size_t number = 0; number < 2; ++number) {
          dispatcher->start_instance(number == 0, [&, number]() -> std::unique_ptr<Backend> {
            gate.pass();
            return std::make_unique<FakeBackend>(model, number);
          });
        }
      } catch (const std::exception&) {
      }
    });
    CHECK(gate.await(1));
    dispatcher->close(false, from_now(10 * kMillisecond));
    gate.open();
    starter.join();
    CHECK(eventually([&] { return model->alive() == 0 && dispatcher.use_count() == 1; }));
    dispatcher.reset();
  });
  CHECK(survived);
}
