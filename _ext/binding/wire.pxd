# What the binding uses of the C++ headers. Messages in the wire format of protocol buffers.
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.string cimport string
from libcpp.vector cimport vector


cdef extern from "binding/wire.h" namespace "paddleinfer::wire" nogil:
    cdef enum class WireFault "paddleinfer::wire::Fault"(unsigned char):
        none
        damaged
        fields
        rest
        times
        bytes

    cdef cppclass WireField "paddleinfer::wire::Field":
        uint32_t number
        uint32_t most
        uint64_t most_bytes
        int message
        cbool is_cut

    ctypedef vector[WireField] WireMessage "paddleinfer::wire::Message"

    cdef cppclass WireLimits "paddleinfer::wire::Limits":
        uint64_t fields
        uint64_t rest_bytes

    cdef cppclass WireSpan "paddleinfer::wire::Span":
        uint32_t owner
        uint32_t number
        size_t first
        size_t size

    cdef cppclass Walked:
        WireFault fault
        int message
        uint32_t number
        uint64_t found
        string rest
        vector[WireSpan] cut

    Walked c_walk "paddleinfer::wire::walk"(
        const unsigned char*, size_t size, const vector[WireMessage]&, const WireLimits&) except +

    cdef cppclass WireCounts "paddleinfer::wire::Counts":
        uint64_t& operator[](size_t) noexcept

    size_t kMostFields

    WireFault c_count_numbers "paddleinfer::wire::count_numbers"(
        const unsigned char*, size_t first, size_t size, uint64_t most_steps, WireCounts&) noexcept
    cbool c_read_field "paddleinfer::wire::read_field"(
        const unsigned char*, size_t first, size_t size, uint32_t field, void*) noexcept
