# What the binding uses of the C++ headers. How an instance's predictor is made.
from libc.stdint cimport uintptr_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.vector cimport vector

from instance_factories cimport CppBackendFactory
from paddle cimport Config, CppFallBack, CppKernelChoice, Model, ModelOptions


cdef extern from "binding/paddle_factories.h" namespace "paddleinfer::paddle" nogil:
    cppclass HeldConfigs:
        HeldConfigs(vector[uintptr_t], shared_ptr[void] holder)

    CppBackendFactory paddle_backend(shared_ptr[Model], const Config*, cbool root) except +
    CppBackendFactory paddle_backend(
        shared_ptr[Model], const Config*, cbool root, const shared_ptr[CppFallBack]&, const ModelOptions&,
        const shared_ptr[HeldConfigs]&) except +
    CppBackendFactory choosing_backend(
        CppBackendFactory, const shared_ptr[Model]&, const ModelOptions&, const shared_ptr[HeldConfigs]&,
        shared_ptr[CppKernelChoice]) except +
