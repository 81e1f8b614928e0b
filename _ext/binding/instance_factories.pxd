# What the binding uses of the C++ headers. How an instance's backend is made.
from libc.stddef cimport size_t
from libc.stdint cimport uintptr_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.vector cimport vector

from paddle cimport Config, Model, ModelOptions
from requests cimport ReleaseList
from running cimport Dispatcher, FallBack, PythonFunctions


cdef extern from "binding/instance_factories.h" namespace "paddleinfer" nogil:
    cppclass HeldConfigs:
        HeldConfigs(vector[uintptr_t], shared_ptr[void] holder)

    cppclass CppBackendFactory "paddleinfer::BackendFactory":
        pass

    CppBackendFactory paddle_backend(shared_ptr[Model], const Config*, cbool root) except +
    CppBackendFactory paddle_backend(
        shared_ptr[Model], const Config*, cbool root, const shared_ptr[FallBack]&, const ModelOptions&,
        const shared_ptr[HeldConfigs]&) except +
    CppBackendFactory python_backend(
        const PythonFunctions&, shared_ptr[void] context, size_t instance, shared_ptr[ReleaseList]) except +

    int start_instance(Dispatcher&, cbool root, CppBackendFactory) except +
    shared_ptr[void] python_object(const shared_ptr[ReleaseList]&, void* owned) except +
