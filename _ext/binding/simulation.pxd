# What the binding uses of the C++ headers. Simulated replicas behind a router.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.vector cimport vector

from requests cimport Nanos
from scheduling cimport SchedulerOptions


cdef extern from "simulation/router.h" namespace "paddleinfer" nogil:
    cdef enum class Routing(unsigned char):
        round_robin

    const char* name_of_routing "paddleinfer::to_string"(Routing) noexcept
    size_t kRoutings


cdef extern from "simulation/fleet.h" namespace "paddleinfer" nogil:
    cdef cppclass RequestClass:
        int64_t rows
        Nanos allowed_ns
        int priority
        int64_t bucket

    cdef cppclass FleetOptions:
        SchedulerOptions scheduler
        int64_t instances
        Routing routing
        uint64_t seed
        Nanos stale_ns
        Nanos network_ns
        cbool drains
        cbool warm
        vector[double] run_ns
        vector[double] scales
        vector[double] spreads
        vector[RequestClass] classes

    cdef cppclass Calls:
        const int64_t* offsets_ns
        const int32_t* class_of
        int64_t* called
        int64_t* ended
        size_t count
        size_t callers

    cdef enum class Pause "paddleinfer::Fleet::Pause"(unsigned char):
        over
        time
        deviations
        steps

    cdef cppclass CppFleet "paddleinfer::Fleet":
        CppFleet(FleetOptions, const Calls&) except +
        void add_replica(Nanos, double) except +
        void remove_replica() except +
        void feed(const double*, size_t) except +
        Pause run(Nanos, int64_t) except +
        Nanos now() noexcept
        size_t offered() noexcept
        size_t open_replicas() noexcept
        size_t starting_replicas() noexcept
        int64_t rows_accepted() noexcept
        int64_t rows_run() noexcept
        int64_t reason_count(size_t) noexcept
        Nanos busy_ns() noexcept
        Nanos replica_ns() noexcept
        double offered_work_ns() noexcept
        double waiting_work_ns() noexcept
