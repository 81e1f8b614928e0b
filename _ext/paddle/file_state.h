// What Paddle reads again while it serves: for a clone of a .json model, and for a predictor without oneDNN.
#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace paddleinfer {

// A file as it was when it was checked.
struct FileState {
  std::string path;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  std::int64_t modified_ns = 0;
  std::int64_t changed_ns = 0;

  bool holds() const noexcept {
    struct stat found = {};
    return ::stat(path.c_str(), &found) == 0 && found.st_dev == device && found.st_ino == inode &&
           static_cast<std::uint64_t>(found.st_size) == size && nanoseconds(found.st_mtim) == modified_ns &&
           nanoseconds(found.st_ctim) == changed_ns;
  }

 private:
  static std::int64_t nanoseconds(const timespec& instant) noexcept {
    return static_cast<std::int64_t>(instant.tv_sec) * 1'000'000'000 + instant.tv_nsec;
  }
};

inline bool all_hold(const std::vector<FileState>& files) noexcept {
  return std::all_of(files.begin(), files.end(), [](const FileState& file) { return file.holds(); });
}

}  // namespace paddleinfer
