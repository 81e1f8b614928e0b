# What the binding uses of the C++ headers. Requests: tensors, time, completions, and what became of them.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr, unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector


cdef extern from "requests/tensor_copy.h" namespace "paddleinfer" nogil:
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

    const char* name_of_dtype "paddleinfer::to_string"(DType) noexcept
    size_t kDTypes
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
        Memory(void*) noexcept
        void* get() noexcept
        void* release() noexcept

    cdef cppclass OwnedTensor:
        DType dtype
        Shape shape
        Memory data
        cbool recycled


cdef extern from "requests/spare_blocks.h" namespace "paddleinfer" nogil:
    cdef cppclass SpareBlocks:
        @staticmethod
        SpareBlocks& shared() noexcept
        void give(Memory) noexcept


cdef extern from "requests/time.h" namespace "paddleinfer" nogil:
    ctypedef int64_t Nanos
    Nanos kNever
    Nanos monotonic_now() noexcept


cdef extern from "requests/request_wait.h" namespace "paddleinfer" nogil:
    cdef enum class Woken(unsigned char):
        changed
        timed_out
        interrupted


cdef extern from "requests/cache_use.h" namespace "paddleinfer" nogil:
    string described(const vector[TensorView]&, const vector[uint32_t]&) except +

    cdef cppclass CacheKey:
        unsigned char* data() noexcept
        size_t size() noexcept

    cdef cppclass CacheUse:
        CacheKey key


cdef extern from "requests/request.h" namespace "paddleinfer" nogil:
    cdef enum class Outcome(unsigned char):
        none
        result
        error
        cancelled
        expired
        shed
        closed

    const char* name_of_outcome "paddleinfer::to_string"(Outcome) noexcept
    size_t kOutcomes

    cdef cppclass ReleaseList:
        vector[void*] take() except +
        void promise() except +

    cdef enum class DispatchReason(unsigned char):
        idle
        full
        all_callers_queued
        delay_expired
        deadline
        unbatchable
        closing
        inline_run
        warmup
        cached
        coalesced

    const char* name_of_reason "paddleinfer::to_string"(DispatchReason) noexcept
    size_t kDispatchReasons

    cdef cppclass Explanation:
        cbool is_known() noexcept
        Nanos queue_ns
        Nanos hold_ns
        Nanos run_ns
        Nanos predicted_ns
        int64_t batch_rows
        int64_t padded_rows
        uint32_t instance
        DispatchReason reason
        uint64_t run
        Nanos gather_end
        Nanos run_end
        Nanos scatter_end

    cdef cppclass QueueSnapshot:
        int64_t queued_rows
        size_t queued_bytes
        int64_t running_batches
        double drain_ns

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
        shared_ptr[CompletionQueue] completion_queue
        int priority
        Nanos call_time
        Nanos arrival
        Nanos needs_ns
        cbool waits_for_room
        int64_t rows_together
        size_t bytes_together
        cbool follows
        QueueSnapshot refused_by
        unique_ptr[CacheUse] cache_use
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


cdef extern from "requests/completion.h" namespace "paddleinfer" nogil:
    cdef cppclass CompletionEvents:
        vector[RequestPtr] ended
        vector[RequestPtr] overdue
        Nanos next_deadline
        cbool stopped

    cdef enum class Reader "paddleinfer::CompletionQueue::Reader":
        thread
        loop

    cdef cppclass CompletionQueue:
        CompletionQueue(Reader) except +
        CompletionEvents wait() except +
        CompletionEvents take() except +
        void stop() except +
        void abandon() noexcept
        int descriptor() except +
