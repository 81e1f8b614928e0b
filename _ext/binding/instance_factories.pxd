# What the binding uses of the C++ headers. How an instance's backend is made.
from libc.stddef cimport size_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr

from requests cimport ReleaseList
from running cimport Dispatcher, PythonFunctions


cdef extern from "binding/instance_factories.h" namespace "paddleinfer" nogil:
    cppclass CppBackendFactory "paddleinfer::BackendFactory":
        pass

    CppBackendFactory python_backend(
        const PythonFunctions&, shared_ptr[void] context, size_t instance, shared_ptr[ReleaseList]) except +

    int start_instance(Dispatcher&, cbool root, CppBackendFactory) except +
    shared_ptr[void] python_object(const shared_ptr[ReleaseList]&, void* owned) except +
