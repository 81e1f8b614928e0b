# What the binding uses of the C++ headers. The dispatcher, its counters, and the backends.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.pair cimport pair
from libcpp.string cimport string
from libcpp.vector cimport vector

from requests cimport (
    CompletionQueue,
    DType,
    DispatchReason,
    Memory,
    Nanos,
    Outcome,
    ReleaseList,
    Request,
    RequestPtr,
    Shape,
    TensorView,
    Woken,
)
from scheduling cimport Admission, Merging, SchedulerOptions


cdef extern from "running/inline_runs.h" namespace "paddleinfer" nogil:
    cdef cppclass InlineRuns:
        pass


cdef extern from "running/trace.h" namespace "paddleinfer" nogil:
    cdef cppclass TracedRun:
        uint64_t number
        uint32_t instance
        Nanos began
        Nanos gather_end
        Nanos run_end
        Nanos scatter_end
        int64_t rows
        int64_t padded_rows
        int64_t requests
        int64_t queued_requests
        DispatchReason reason
        cbool failed
        uint64_t bucket

    cdef cppclass TracedRequest:
        uint64_t number
        uint64_t run
        Nanos call_time
        Nanos arrival
        Nanos started
        Nanos gather_end
        Nanos run_end
        Nanos scatter_end
        Nanos delivered
        Nanos hold_ns
        int64_t rows
        Outcome outcome

    cdef cppclass Trace:
        Trace(size_t) except +
        void keep(size_t) except +
        void record(const Request&) noexcept
        pair[uint64_t, uint64_t] recorded() except +
        vector[TracedRequest] requests_since(uint64_t) except +
        vector[TracedRun] runs_since(uint64_t) except +


cdef extern from "running/duration_histogram.h" namespace "paddleinfer" nogil:
    cdef cppclass DurationHistogram:
        int64_t count(size_t bucket) noexcept

        @staticmethod
        cbool is_last(size_t bucket) noexcept

        @staticmethod
        Nanos bound(size_t bucket) noexcept


cdef extern from "running/dispatcher.h" namespace "paddleinfer" nogil:
    cdef cppclass Counters:
        vector[pair[const char*, int64_t]] values() except +
        DurationHistogram queue_durations
        DurationHistogram result_durations

    cdef cppclass EngineSnapshot:
        int64_t queued_requests
        int64_t queued_rows
        size_t queued_bytes
        int64_t running_batches
        int64_t waiting_for_room
        double drain_ns
        double offered_work_ns
        size_t cache_bytes
        size_t cache_entries
        int64_t cache_evictions
        vector[pair[int64_t, int64_t]] batch_rows

    cdef cppclass CloseReport:
        size_t abandoned_instances
        size_t ended_requests

    cdef cppclass DispatcherOptions:
        SchedulerOptions scheduler
        cbool inline_allowed
        vector[string] outputs
        vector[int64_t] batch_sizes
        shared_ptr[Trace] trace
        int64_t verify_every
        size_t cache_bytes

    cdef cppclass Dispatcher:
        Dispatcher(const DispatcherOptions&) except +
        cbool admit(const RequestPtr&, Admission&) noexcept
        cbool admit(const vector[RequestPtr]&, vector[Admission]&) except +

        @staticmethod
        cbool is_admitted(Admission) noexcept
        Woken wait_for_room(const Request&, Nanos) except +
        cbool run_inline(const RequestPtr&) except +
        cbool warmup(const RequestPtr&, size_t instance) except +
        void spin_for(const Request&) noexcept
        cbool end_early(const RequestPtr&, Outcome) noexcept
        cbool end_early(const RequestPtr&, Outcome, cbool only_queued) noexcept
        size_t begin_close(cbool) except +
        cbool wait_for_exits(Nanos) except +
        CloseReport finish_close() except +
        void close_in_background() except +
        void limit_inline(shared_ptr[const InlineRuns]) noexcept
        EngineSnapshot snapshot() except +
        cbool merging_changed() noexcept
        pair[Merging, string] take_merging_change() except +
        void set_batchable(cbool, const string&) except +
        double predicted_run_ns(const Request&, int64_t) except +
        void note_delivery(Nanos due) noexcept
        cbool on_instance_thread() noexcept
        const Counters& counters() noexcept
        const shared_ptr[CompletionQueue]& completions() noexcept
        const shared_ptr[ReleaseList]& releases() noexcept


cdef extern from "running/memory_pressure.h" namespace "paddleinfer" nogil:
    const char* kOutOfMemory
    cbool says_out_of_memory(const string&) noexcept


cdef extern from "running/delivery_latency.h" namespace "paddleinfer" nogil:
    Nanos ideal_delivery_time(const Request&) noexcept


cdef extern from "running/tensor_compare.h" namespace "paddleinfer" nogil:
    cdef cppclass Comparison:
        double difference
        double magnitude
    Comparison c_compare "paddleinfer::compare"(DType, const void*, const void*, size_t) noexcept
    double c_tolerance_of "paddleinfer::tolerance_of"(DType) noexcept
    double c_allowed_difference "paddleinfer::allowed_difference"(DType, double, double) noexcept
    double c_largest_magnitude "paddleinfer::largest_magnitude"(const TensorView&) noexcept
    cbool c_differs_by_ties "paddleinfer::differs_by_ties"(
        const TensorView&, const TensorView&, const TensorView&, double) noexcept


cdef extern from "running/python_backend.h" namespace "paddleinfer" nogil:
    cdef cppclass OwnedInput:
        DType dtype
        Shape shape
        Memory memory

    cdef cppclass CallResult:
        vector[TensorView] outputs
        void* owner
        void* exception
        string message

    cdef cppclass PythonFunctions:
        void (*open)(void*, size_t, void**, CallResult*)
        void (*call)(void*, vector[OwnedInput]*, CallResult*)
        void (*close)(void*)


cdef extern from "running/native_threads.h" namespace "paddleinfer" nogil:
    void exit_around_native_threads() except +
    cdef cppclass NativeThread:
        @staticmethod
        void forget_other_threads() noexcept


cdef extern from "running/interpreter_gate.h" namespace "paddleinfer" nogil:
    cdef cppclass InterpreterGate:
        void entered() noexcept
        void close() noexcept
        void forget_other_threads() noexcept
    InterpreterGate& interpreter_gate() noexcept
