# What the binding uses of the C++ headers. Paddle behind its C++ interface, and oneDNN.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from atomic cimport atomic_uint64


cdef extern from "paddle/file_state.h" namespace "paddleinfer" nogil:
    cdef cppclass FileState:
        string path
        uint64_t device
        uint64_t inode
        uint64_t size
        int64_t modified_ns
        int64_t changed_ns


cdef extern from "paddle/fall_back.h" namespace "paddleinfer::paddle" nogil:
    cdef cppclass CppFallBack "paddleinfer::paddle::FallBack":
        CppFallBack(cbool bare_too)
        cbool in_force() noexcept
        void forbid_bare() noexcept
        cbool may_try(const string&) except +
        void helped(const string&) noexcept
        cbool take_change() noexcept
        string reason() except +


cdef extern from "paddle/kernel_choice.h" namespace "paddleinfer::paddle" nogil:
    cdef cppclass CppKernelChoice "paddleinfer::paddle::KernelChoice":
        cbool take_change() noexcept
        size_t plain_shapes() noexcept
        string reason() except +


cdef extern from "paddle/paddle_backend.h" namespace "paddleinfer::paddle" nogil:
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
        vector[FileState] files
        const Place* cpu_place
        cbool on_cpu
        cbool share_weights
        cbool onednn
        OneDnnSymbols onednn_symbols
        OneDnnLimits onednn_limits
        shared_ptr[OneDnnRecord] onednn_record
        DeletionMode deletion_mode
        MklBuffers mkl_buffers

    cdef cppclass DeletionMode:
        double* flag

        @staticmethod
        DeletionMode of(const Abi&, double deletion_gb) noexcept

    cdef cppclass CppDeletionScope "paddleinfer::paddle::DeletionScope":
        CppDeletionScope(const DeletionMode&) noexcept

    cdef cppclass MklBuffers:
        @staticmethod
        MklBuffers of(const Abi&) noexcept

    cdef cppclass Model:
        Model(Abi, ModelOptions) except +
        WeightReport weights() except +

    cdef cppclass PredictorLock "paddleinfer::Mutex":
        void lock() except +
        void unlock() noexcept
    PredictorLock& c_predictor_lock "paddleinfer::paddle::predictor_lock"() noexcept

    cdef cppclass OneDnnSymbols:
        @staticmethod
        OneDnnSymbols load(const Abi&, const void* cpu_place) except +
        cbool complete() noexcept

    cdef cppclass CppOneDnnCacheGuard "paddleinfer::paddle::OneDnnCacheGuard":
        CppOneDnnCacheGuard(const OneDnnSymbols&) except +

    cdef cppclass OneDnnLimits:
        size_t max_shapes
        uint64_t max_bytes
        cbool by_renewal

    cdef cppclass OneDnnFigures "paddleinfer::paddle::OneDnnRecord::Figures":
        uint64_t emptied
        uint64_t first_bytes
        uint64_t shape_bytes
        size_t shape_limit
        uint64_t repeated
        uint64_t new_ns
        uint64_t repeat_ns

    cdef cppclass OneDnnRecord:
        OneDnnFigures figures() except +

    cdef cppclass OneDnnCache:
        OneDnnCache(const OneDnnSymbols&, const OneDnnLimits&, shared_ptr[OneDnnRecord]) except +
        void before_run(uint64_t) except +
        void after_run() except +
        cbool is_due_for_renewal() noexcept
        void begin_renewal() except +
        void end_renewal() except +
    atomic_uint64& onednn_clears() noexcept
