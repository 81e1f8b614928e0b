# What the binding uses of the C++ headers. Atomic numbers.
from libc.stdint cimport uint64_t


cdef extern from "<atomic>" namespace "std" nogil:
    cdef cppclass atomic_uint64 "std::atomic<std::uint64_t>":
        uint64_t load() noexcept
