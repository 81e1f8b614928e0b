// Clang's thread-safety annotations, and the mutex that carries them. `make lint` has clang check them; for other
// compilers they are empty.
#pragma once

#include <mutex>

#if defined(__clang__)
#define PADDLEINFER_THREAD_SAFETY(attribute) __attribute__((attribute))
#else
#define PADDLEINFER_THREAD_SAFETY(attribute)
#endif

// A field or function may be touched only by who holds the mutex.
#define GUARDED_BY(mutex) PADDLEINFER_THREAD_SAFETY(guarded_by(mutex))
#define REQUIRES(...) PADDLEINFER_THREAD_SAFETY(requires_capability(__VA_ARGS__))
// A function takes the mutex itself.
#define EXCLUDES(...) PADDLEINFER_THREAD_SAFETY(locks_excluded(__VA_ARGS__))

// For a lambda that its callee calls under the lock: clang looks at each by itself.
#define NO_THREAD_SAFETY_ANALYSIS PADDLEINFER_THREAD_SAFETY(no_thread_safety_analysis)

#define CAPABILITY(name) PADDLEINFER_THREAD_SAFETY(capability(name))
#define SCOPED_CAPABILITY PADDLEINFER_THREAD_SAFETY(scoped_lockable)
#define ACQUIRE(...) PADDLEINFER_THREAD_SAFETY(acquire_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) PADDLEINFER_THREAD_SAFETY(try_acquire_capability(__VA_ARGS__))
#define RELEASE(...) PADDLEINFER_THREAD_SAFETY(release_capability(__VA_ARGS__))

namespace paddleinfer {

class CAPABILITY("mutex") Mutex {
 public:
  void lock() ACQUIRE() { mu_.lock(); }
  bool try_lock() TRY_ACQUIRE(true) { return mu_.try_lock(); }
  void unlock() RELEASE() { mu_.unlock(); }

 private:
  std::mutex mu_;
};

// Holds a mutex as long as it lives.
class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mu) ACQUIRE(mu) : mu_(mu) { mu_.lock(); }
  // Of one that has been locked already, by try_lock().
  MutexLock(Mutex& mu, std::adopt_lock_t) REQUIRES(mu) : mu_(mu) {}
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;
  ~MutexLock() RELEASE() { mu_.unlock(); }

 private:
  Mutex& mu_;
};

}  // namespace paddleinfer
