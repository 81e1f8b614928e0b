# What the binding uses of the C++ headers. The scheduler.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libcpp cimport bool as cbool
from libcpp.vector cimport vector

from requests cimport DispatchReason, Nanos, Request, RequestPtr, Slice


cdef extern from "scheduling/scheduler_types.h" namespace "paddleinfer" nogil:
    cdef enum class Merging(unsigned char):
        no
        probe
        probing
        yes

    cdef enum class Policy(unsigned char):
        adaptive
        eager
        fixed_delay

    const char* name_of_policy "paddleinfer::to_string"(Policy) noexcept
    size_t kPolicies

    cdef cppclass SchedulerOptions:
        Policy policy
        int64_t max_batch_size
        int64_t max_queue_rows
        size_t max_queue_bytes
        Nanos max_delay
        Merging merging
        vector[int64_t] preferred_sizes
        int64_t short_run_instances

    cdef enum class Admission(unsigned char):
        accepted
        waits_for_room
        too_many_rows
        too_many_bytes
        bytes_over_limit
        would_be_late
        out_of_memory
        infeasible
    const char* name_of_admission "paddleinfer::to_string"(Admission) noexcept
    size_t kAdmissions

    cdef cppclass RunRecord:
        int64_t rows
        Nanos run_ns
        cbool failed
        cbool out_of_memory

    cdef cppclass Plan:
        int64_t instances
        Nanos wake_at

    cdef cppclass Decision:
        vector[Slice] batch
        vector[RequestPtr] expired
        vector[RequestPtr] shed
        Nanos wake_at
        Nanos predicted_ns
        Nanos delayed_since
        Nanos delayed_until
        DispatchReason reason


cdef extern from "scheduling/scheduler.h" namespace "paddleinfer" nogil:
    cdef cppclass CppScheduler "paddleinfer::Scheduler":
        CppScheduler(const SchedulerOptions&) except +
        void set_instances(int64_t) except +
        Admission admit(const RequestPtr&, Nanos) except +
        Plan plan(Nanos) except +
        Decision next(Nanos) except +
        void done(const vector[Slice]&, const vector[RunRecord]&, Nanos) noexcept
        cbool forget(Request&, Nanos) noexcept
        int64_t queued_requests() noexcept
        int64_t queued_rows() noexcept
        size_t queued_bytes() noexcept
        int64_t running_batches() noexcept
        int64_t waiting_for_room() noexcept
        double predicted_drain_ns() except +
        double offered_work_ns() noexcept
