// What malloc has given out of this process's memory.
#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>

namespace paddleinfer::paddle {

// Bytes that malloc has given out, in all arenas and by mmap.
inline std::uint64_t allocated_bytes() noexcept {
  struct Wide {  // struct mallinfo2, which glibc has since 2.33
    std::size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
  };
  static const auto wide = reinterpret_cast<Wide (*)()>(dlsym(RTLD_DEFAULT, "mallinfo2"));
  if (wide != nullptr) {
    const Wide info = wide();
    return info.uordblks + info.hblkhd;
  }
  struct Narrow {  // struct mallinfo: counts modulo 2^32, so differences below 4 GiB are right
    int arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
  };
  static const auto narrow = reinterpret_cast<Narrow (*)()>(dlsym(RTLD_DEFAULT, "mallinfo"));
  if (narrow == nullptr) return 0;
  const Narrow info = narrow();
  return static_cast<std::uint32_t>(info.uordblks) + static_cast<std::uint32_t>(info.hblkhd);
}

}  // namespace paddleinfer::paddle
