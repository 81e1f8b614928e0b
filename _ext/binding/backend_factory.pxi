# How the instances of an engine get their backends.

cdef extern from "running/python_backend.h" namespace "paddleinfer" nogil:
    CppBackendFactory python_backend(
        const PythonFunctions&, shared_ptr[void] context, size_t instance, shared_ptr[ReleaseList]) except +


cdef class BackendUpdates:
    """What the backends of an engine find out while they run, for the engine to be told."""

    cdef poll(self):
        """Tells what is new; the core calls it again and again, on threads that hold the GIL."""
        raise NotImplementedError


cdef class SeveralUpdates(BackendUpdates):
    """The updates of several."""
    cdef list parts

    def __init__(self, parts):
        self.parts = list(parts)

    cdef poll(self):
        for part in self.parts:
            (<BackendUpdates>part).poll()


cdef class BackendFactory:
    """Makes the backends of an engine's instances, each on its instance's thread.

    A backend is a C++ class with three methods (running/backend.h), with a function beside it that gives a factory of
    such backends. A subclass of this calls that function for each instance.
    """
    cdef BackendUpdates updates  # of its backends, if they find out anything
    cdef shared_ptr[const InlineRuns] inline_runs  # those that a caller's thread may do; NULL: all

    cdef CppBackendFactory of_instance(self, const shared_ptr[Dispatcher]& dispatcher, size_t instance) except *:
        raise NotImplementedError


cdef class PythonBackends(BackendFactory):
    """Calls `open_model(instance)` on each instance's thread; what it gives takes and gives array lists.

    `updates` is what these find out, if anything.
    """
    cdef object open_model

    def __init__(self, open_model, BackendUpdates updates=None):
        self.open_model = open_model
        self.updates = updates

    cdef CppBackendFactory of_instance(self, const shared_ptr[Dispatcher]& dispatcher, size_t instance) except *:
        cdef PythonFunctions functions
        functions.open = python_open
        functions.call = python_call
        functions.close = python_close
        return python_backend(
            functions, shared_object(dispatcher, self.open_model), instance, dispatcher.get().releases())


cdef shared_ptr[void] shared_object(const shared_ptr[Dispatcher]& dispatcher, object shared) except *:
    """A Python object that native threads hold, and give back through the release list."""
    dispatcher.get().releases().get().promise()
    Py_INCREF(shared)
    return python_object(dispatcher.get().releases(), <void*>shared)
