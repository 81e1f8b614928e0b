# The binding of the compiled core: NumPy arrays in and out, errors, waiting with signals. The C++ headers
# hold the logic.
import os
import sys
from asyncio import get_running_loop
from hashlib import blake2b
from math import ceil
from weakref import ref

cimport numpy as cnp
from cpython.buffer cimport PyBUF_READ
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.limits cimport INT_MAX
from libc.string cimport memcpy, strerror
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uintptr_t
from libcpp cimport bool as cbool
from libcpp.memory cimport make_shared, shared_ptr, unique_ptr
from libcpp.pair cimport pair
from libcpp.string cimport string
from libcpp.unordered_set cimport unordered_set
from libcpp.vector cimport vector

from requests cimport (
    CacheUse,
    CompletionQueue,
    QueueSnapshot,
    DispatchReason,
    Explanation,
    DType,
    Nanos,
    CompletionEvents,
    Outcome,
    Memory,
    OwnedTensor,
    Reader,
    ReleaseList,
    Request,
    RequestPtr,
    Shape,
    Slice,
    SpareBlocks,
    TensorView,
    Woken,
    described,
    kMaxRank,
    kNever,
    monotonic_now,
    rows_of,
    signature_of,
    kDTypes,
    kDispatchReasons,
    kOutcomes,
    name_of_dtype,
    name_of_outcome,
    name_of_reason,
)
from scheduling cimport (
    Admission,
    CppScheduler,
    Decision,
    Merging,
    Plan,
    Policy,
    RunRecord,
    SchedulerOptions,
    kAdmissions,
    kPolicies,
    name_of_admission,
    name_of_policy,
)
from simulation cimport (
    Calls,
    CppFleet,
    FleetOptions,
    Pause,
    RequestClass,
    Routing,
    kRoutings,
    name_of_routing,
)
from running cimport (
    CallResult,
    CloseReport,
    Comparison,
    Counters,
    Dispatcher,
    DispatcherOptions,
    DurationHistogram,
    OwnedInput,
    EngineSnapshot,
    InlineRuns,
    PythonFunctions,
    Trace,
    TracedRequest,
    TracedRun,
    c_allowed_difference,
    c_compare,
    c_differs_by_ties,
    c_largest_magnitude,
    c_tolerance_of,
    NativeThread,
    exit_around_native_threads,
    interpreter_gate,
    kOutOfMemory,
    ideal_delivery_time,
    says_out_of_memory,
)
from paddle cimport (
    Abi,
    Config,
    CppDeletionScope,
    CppFallBack,
    CppKernelChoice,
    DeletionMode,
    FileState,
    MklBuffers,
    Model,
    ModelOptions,
    OneDnnCache,
    OneDnnFigures,
    OneDnnLimits,
    OneDnnRecord,
    CppOneDnnCacheGuard,
    OneDnnSymbols,
    Place,
    WeightReport,
    c_predictor_lock,
    onednn_clears,
)
from instance_factories cimport CppBackendFactory, python_object, start_instance
from onnxruntime cimport LoadedModel, OrtApi, OrtTensor, TensorNames, find_dtype, ort_backend
from openvino cimport (
    OvApi,
    OvInputPlace,
    OvLoadedModel,
    OvTensorInfo,
    OvThreads,
    find_ov_dtype,
    ov_backend,
)
from paddle_factories cimport HeldConfigs, choosing_backend, paddle_backend
from wire cimport (
    Walked,
    WireCounts,
    WireFault,
    WireField,
    WireLimits,
    WireMessage,
    c_count_numbers,
    c_read_field,
    c_walk,
    kMostFields,
)

import ml_dtypes
import numpy as np

from paddleinfer.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineClosed,
    InvalidInput,
    ModelError,
    OutOfMemory,
    PaddleInferError,
    QueueFull,
    ThreadStartError,
)
from paddleinfer.sentences import listed, shown

cnp.import_array()

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident() nogil
    ctypedef enum PyGILState_STATE:
        PyGILState_LOCKED
    PyGILState_STATE PyGILState_Ensure() nogil
    void PyGILState_Release(PyGILState_STATE) nogil

cdef extern from "<malloc.h>" nogil:
    int c_mallopt "mallopt"(int, int)

cdef extern from "running/malloc_trim.h" nogil:
    void c_trim_malloc "paddleinfer::trim_malloc"() noexcept

cdef extern from "numpy/arrayobject.h":
    void PyArray_ENABLEFLAGS(cnp.ndarray, int)
    object PyArray_SimpleNewFromData(int, cnp.npy_intp*, int, void*)

# As the core and C++ say it: what helps is to be added.
cdef tuple BARELY_OUT_OF_MEMORY = (kOutOfMemory.decode(), "std::bad_alloc", "Resource temporarily unavailable")

include "names.pxi"
include "arrays.pxi"
include "caching.pxi"
include "feeds.pxi"
include "python_model.pxi"
include "backend_factory.pxi"
include "paddle.pxi"
include "paddle_backends.pxi"
include "onnxruntime.pxi"
include "openvino.pxi"
include "trace.pxi"
include "wire.pxi"
include "releases.pxi"
include "waiting.pxi"
include "preparing.pxi"
include "outcomes.pxi"
include "core.pxi"
include "handle.pxi"
include "event_loop_bridge.pxi"
include "stats.pxi"
include "scheduler.pxi"
include "fleet.pxi"
