// What a load does to oneDNN's kernel map, and to the kernels of others.
#include <future>
#include <thread>

#include "check.h"
#include "fake_onednn.h"

using namespace fake_onednn;

TEST("what a load clears spares the kernels of others, and only during the load") {
  forget_everything();
  const int other_executor = 0;
  fake.kernels[&other_executor] = {1, 2, 3};
  {
    const OneDnnCacheGuard guard(symbols());
    for (int pass = 0; pass < 200; ++pass) clear(&fake, nullptr);
    CHECK_EQ(fake.kernels.count(&other_executor), 1u);
  }
  CHECK_EQ(fake.skips, 0);
  CHECK_EQ(fake.kernels.count(&other_executor), 1u);
  clear(&fake, nullptr);
  CHECK(fake.kernels.empty());
  CHECK_EQ(fake.mistakes, 0);
}

TEST("what the loading itself has cached goes with the load") {
  forget_everything();
  {
    const OneDnnCacheGuard guard(symbols());
    fake.kernels[state_of_this_thread().executor] = {1, 2};
  }
  CHECK(fake.kernels.empty());
  CHECK(state_of_this_thread().executor != nullptr);
}

TEST("an instance at its limit clears its part after a load, not during it") {
  forget_everything();
  OneDnnCache cache(symbols(), limits(1), record());
  run(cache, 1);
  std::promise<void> loading;
  std::promise<void> loaded;
  std::thread loader([&] {
    const OneDnnCacheGuard guard(symbols());
    loading.set_value();
    loaded.get_future().wait();
  });
  loading.get_future().wait();
  CHECK_EQ(run(cache, 2), 2u);
  loaded.set_value();
  loader.join();
  CHECK_EQ(run(cache, 3), 1u);
}

TEST("without Paddle's symbols a load has no guard") {
  forget_everything();
  const OneDnnCacheGuard guard(OneDnnSymbols{});
  CHECK_EQ(fake.skips, 0);
}
