# What the binding uses of the C++ headers. How instances are started.
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr

from requests cimport ReleaseList
from running cimport Dispatcher


cdef extern from "binding/instance_factories.h" namespace "paddleinfer" nogil:
    cppclass CppBackendFactory "paddleinfer::BackendFactory":
        pass

    int start_instance(Dispatcher&, cbool root, CppBackendFactory) except +
    shared_ptr[void] python_object(const shared_ptr[ReleaseList]&, void* owned) except +
