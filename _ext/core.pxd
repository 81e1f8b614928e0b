# Mirror of the C++ headers: what the binding uses of them.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.pair cimport pair
from libcpp.string cimport string
from libcpp.vector cimport vector


cdef extern from "tensor_copy.h" namespace "paddleinfer" nogil:
    cdef enum class DType(unsigned char):
        float32
        float64
        float16
        bfloat16
        int8
        int16
        int32
        int64
        uint8
        boolean

    size_t kMaxRank

    cdef cppclass Shape:
        int64_t dims[9]
        size_t rank
        size_t bytes(DType) noexcept

    cdef cppclass TensorView:
        DType dtype
        Shape shape
        const void* data
        size_t bytes() noexcept

    cdef cppclass Memory:
        void* get() noexcept
        void* release() noexcept

    cdef cppclass OwnedTensor:
        DType dtype
        Shape shape
        Memory data


cdef extern from "parker.h" namespace "paddleinfer" nogil:
    ctypedef int64_t Nanos
    Nanos kNever
    Nanos monotonic_now() noexcept

    cdef enum class Woken:
        changed
        timed_out
        interrupted


cdef extern from "request.h" namespace "paddleinfer" nogil:
    cdef enum class Outcome(unsigned char):
        none
        result
        error
        cancelled
        expired
        shed
        closed

    cdef cppclass ReleaseList:
        vector[void*] take() except +

    cdef enum class DispatchReason(unsigned char):
        idle
        full
        all_here
        held_over
        deadline
        alone
        closing
        on_caller
        warmup

    cdef cppclass Explanation:
        Nanos queue_ns
        Nanos hold_ns
        Nanos run_ns
        Nanos predicted_ns
        int64_t batch_rows
        int64_t padded_rows
        uint32_t instance
        DispatchReason reason
        uint64_t run
        Nanos gathered
        Nanos over
        Nanos scattered

    cdef cppclass Failure:
        string message
        shared_ptr[void] exception

    cdef cppclass Request:
        Request() except +
        vector[TensorView] inputs
        vector[uint32_t] wanted
        int64_t rows
        int64_t rows_unfinished
        size_t bytes
        uint64_t signature
        Nanos deadline
        shared_ptr[CompletionQueue] sink
        int priority
        Nanos called
        Nanos arrival
        cbool waits_for_room
        void* waiter
        Outcome outcome
        Explanation explanation
        vector[OwnedTensor] outputs
        Failure failure
        cbool done() noexcept
        cbool ended() noexcept
        cbool started() noexcept
        Woken wait(Nanos) noexcept
        void own_inputs(void*) noexcept
        void* take_inputs_back() noexcept

    ctypedef shared_ptr[Request] RequestPtr

    cdef cppclass Slice:
        RequestPtr request
        int64_t first_row
        int64_t rows
    int64_t rows_of(const vector[Slice]&) noexcept
    uint64_t signature_of(const vector[TensorView]&, cbool) noexcept


cdef extern from "trace.h" namespace "paddleinfer" nogil:
    cdef cppclass TracedRun:
        uint64_t number
        uint32_t instance
        Nanos began
        Nanos gathered
        Nanos over
        Nanos scattered
        int64_t rows
        int64_t padded_rows
        int64_t requests
        int64_t queued_requests
        DispatchReason reason
        cbool failed

    cdef cppclass TracedRequest:
        uint64_t number
        uint64_t run
        Nanos called
        Nanos arrival
        Nanos started
        Nanos gathered
        Nanos over
        Nanos scattered
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


cdef extern from "completion.h" namespace "paddleinfer" nogil:
    cdef cppclass News:
        vector[RequestPtr] ended
        vector[RequestPtr] overdue
        Nanos next_deadline
        cbool stopped

    cdef enum class Reader "paddleinfer::CompletionQueue::Reader":
        thread
        loop

    cdef cppclass CompletionQueue:
        CompletionQueue(Reader, shared_ptr[ReleaseList]) except +
        News wait() except +
        News take() except +
        void stop() except +
        void abandon() except +
        int descriptor() except +


cdef extern from "schedule.h" namespace "paddleinfer" nogil:
    cdef enum class Merging(unsigned char):
        no
        probe
        probing
        yes

    cdef enum class Policy(unsigned char):
        adaptive
        eager
        fixed_delay

    cdef cppclass SchedulerOptions:
        Policy policy
        int64_t max_batch_size
        int64_t max_queue_rows
        size_t max_queue_bytes
        Nanos max_hold
        Merging merging
        vector[int64_t] preferred_sizes

    cdef enum class Admission(unsigned char):
        accepted
        waits_for_room
        too_many_rows
        too_many_bytes
        rows_over_limit
        bytes_over_limit
        would_be_late

    cdef cppclass Ran:
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
        Nanos held_since
        Nanos held_until
        DispatchReason reason


cdef extern from "scheduler.h" namespace "paddleinfer" nogil:
    cdef cppclass CppScheduler "paddleinfer::Scheduler":
        CppScheduler(const SchedulerOptions&) except +
        void set_instances(int64_t) noexcept
        Admission admit(const RequestPtr&, Nanos) except +
        Plan plan(Nanos) except +
        Decision next(Nanos) except +
        void done(const vector[Slice]&, const vector[Ran]&, Nanos) except +
        cbool forget(Request&, Nanos) except +
        int64_t queued_requests() noexcept
        int64_t queued_rows() noexcept
        size_t queued_bytes() noexcept
        int64_t running_batches() noexcept
        int64_t waiting_for_room() noexcept
        double predicted_drain_ns() except +


cdef extern from "<atomic>" namespace "std" nogil:
    cdef cppclass atomic_bool "std::atomic<bool>":
        void store(cbool) noexcept

    cdef cppclass atomic_uint64 "std::atomic<std::uint64_t>":
        uint64_t load() noexcept

    cdef cppclass atomic_int64 "std::atomic<std::int64_t>":
        int64_t load() noexcept


cdef extern from "dispatcher.h" namespace "paddleinfer" nogil:
    cdef cppclass Counters:
        atomic_int64 requests
        atomic_int64 rows
        atomic_int64 refused
        atomic_int64 results
        atomic_int64 errors
        atomic_int64 cancelled
        atomic_int64 expired
        atomic_int64 shed
        atomic_int64 closed
        atomic_int64 executions
        atomic_int64 inline_executions
        atomic_int64 queue_ns
        atomic_int64 gather_ns
        atomic_int64 run_ns
        atomic_int64 scatter_ns
        atomic_int64 result_ns
        atomic_int64 executed_rows

    cdef cppclass Load:
        int64_t queued_requests
        int64_t queued_rows
        size_t queued_bytes
        int64_t running_batches
        int64_t waiting_for_room
        double drain_ns
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

    cdef cppclass Dispatcher:
        Dispatcher(const DispatcherOptions&) except +
        cbool admit(const RequestPtr&, Admission&) except +
        cbool admit(const vector[RequestPtr]&, vector[Admission]&) except +

        @staticmethod
        cbool is_in(Admission) noexcept
        Woken wait_for_room(const Request&, Nanos) except +
        cbool run_inline(const RequestPtr&) except +
        cbool warmup(const RequestPtr&, size_t instance) except +
        void look_out_for(const Request&) noexcept
        cbool end_early(const RequestPtr&, Outcome) except +
        cbool end_early(const RequestPtr&, Outcome, cbool only_queued) except +
        size_t begin_close(cbool) except +
        cbool wait_until_left(Nanos) except +
        CloseReport finish_close() except +
        void close_in_background() except +
        Load load() except +
        cbool merging_changed() noexcept
        pair[Merging, string] take_merging_change() except +
        void settle_merging_as(cbool, const string&) except +
        double predicted_run_ns(const Request&, int64_t) except +
        void note_hand_over(Nanos due) noexcept
        cbool on_instance_thread() noexcept
        const Counters& counters() noexcept
        const shared_ptr[CompletionQueue]& completions() noexcept
        const shared_ptr[ReleaseList]& releases() noexcept


cdef extern from "hand_over.h" namespace "paddleinfer" nogil:
    Nanos result_due(const Request&) noexcept


cdef extern from "batch_probe.h" namespace "paddleinfer" nogil:
    double c_tolerance_of "paddleinfer::tolerance_of"(DType) noexcept
    double c_relative_difference "paddleinfer::relative_difference"(
        DType, const void*, const void*, size_t) noexcept


cdef extern from "python_backend.h" namespace "paddleinfer" nogil:
    cdef cppclass HandedInput:
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
        void (*call)(void*, vector[HandedInput]*, CallResult*)
        void (*close)(void*)

    atomic_bool& interpreter_ending() noexcept


cdef extern from "paddle_backend.h" namespace "paddleinfer::paddle" nogil:
    cdef cppclass Predictor:
        pass
    cdef cppclass Config:
        pass
    cdef cppclass Place:
        pass

    cdef cppclass Abi:
        Abi() except +
        vector[string] missing
        void* library
        cbool complete() noexcept
        const string& (*program_file)(const Config*) except +

        @staticmethod
        Abi load(const char*) except +

    cdef cppclass WeightReport:
        size_t shared
        size_t bytes
        string refusal

    cdef cppclass ModelOptions:
        vector[string] inputs
        vector[string] outputs
        vector[string] parameters
        const Place* cpu_place
        cbool on_cpu
        cbool share_weights
        cbool onednn
        OneDnnSymbols onednn_symbols
        size_t max_onednn_shapes

    cdef cppclass Model:
        Model(Abi, ModelOptions) except +
        WeightReport weights() except +

    cdef cppclass PredictorLock "std::mutex":
        void lock() except +
        void unlock() noexcept
    PredictorLock& c_predictor_lock "paddleinfer::paddle::predictor_lock"() noexcept

    cdef cppclass OneDnnSymbols:
        @staticmethod
        OneDnnSymbols load(const Abi&, const void* cpu_place) except +
        cbool complete() noexcept

    cdef cppclass OneDnnShelter:
        OneDnnShelter(const OneDnnSymbols&) except +

    cdef cppclass OneDnnCache:
        OneDnnCache(const OneDnnSymbols&, size_t) except +
        void before_run(uint64_t) except +
    atomic_uint64& onednn_clears() noexcept


cdef extern from "starting.h" namespace "paddleinfer" nogil:
    void start_paddle_instance(Dispatcher&, shared_ptr[Model], const Config*, cbool root) except +
    void start_python_instance(
        Dispatcher&, const PythonFunctions&, shared_ptr[void] context, size_t instance) except +
    shared_ptr[void] python_object(const shared_ptr[ReleaseList]&, void* owned) except +
