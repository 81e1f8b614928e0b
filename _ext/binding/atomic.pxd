# What the binding uses of the C++ headers. Atomic numbers.
from libc.stdint cimport int64_t, uint64_t


cdef extern from "<atomic>" namespace "std" nogil:
    cdef cppclass atomic_uint64 "std::atomic<std::uint64_t>":
        uint64_t load() noexcept

    cdef cppclass atomic_int64 "std::atomic<std::int64_t>":
        int64_t load() noexcept
