# Python callables as models: the functions that the core calls to take the GIL.

cdef void give_exception(CallResult* result, object exception) noexcept:
    Py_INCREF(exception)
    result.exception = <void*>exception
    try:
        text = f"{type(exception).__name__}: {exception}"
    except BaseException:  # its __str__ fails
        text = type(exception).__name__
    message = text.encode("utf-8", "replace")
    result.message = message


cdef void python_open(void* context, size_t instance, void** model, CallResult* result) noexcept with gil:
    interpreter_gate().entered()
    try:
        made = (<object>context)(instance)
        Py_INCREF(made)
        model[0] = <void*>made
        PyGILState_Ensure()  # given back in python_close: the thread's Python state lives as long as the instance
    except BaseException as exception:
        give_exception(result, exception)


cdef void python_call(void* model, vector[OwnedInput]* inputs, CallResult* result) noexcept with gil:
    interpreter_gate().entered()
    cdef size_t index
    cdef int dtype_index
    try:
        arrays = []
        for index in range(inputs.size()):
            arrays.append(array_owning(
                inputs.at(index).dtype, inputs.at(index).shape, inputs.at(index).memory.release()))
        outputs = (<object>model)(arrays)
        for array in outputs:
            dtype_index = index_of_type(cnp.PyArray_TYPE(<cnp.ndarray?>array))
            if not is_plain(array, dtype_index):
                raise TypeError("the model's wrapper must return contiguous arrays of a supported dtype")
            result.outputs.push_back(view_of(<cnp.ndarray>array, dtype_index))
        Py_INCREF(outputs)
        result.owner = <void*>outputs
    except BaseException as exception:
        result.outputs.clear()
        give_exception(result, exception)


cdef void python_close(void* model) noexcept with gil:
    interpreter_gate().entered()
    try:
        close = getattr(<object>model, "close", None)
        if close is not None:
            close()
    except BaseException as exception:
        sys.unraisablehook(UnraisableArgs(exception))
    Py_XDECREF(<PyObject*>model)
    PyGILState_Release(PyGILState_LOCKED)


def interpreter_ends():
    """Keeps native threads from taking the GIL from now on; threads that are left are not waited for."""
    with nogil:
        interpreter_gate().close()
    exit_around_native_threads()


def in_forked_child():
    """Whoever of the parent's threads was about to take the GIL, or ran a model, is not there."""
    interpreter_gate().forget_other_threads()
    NativeThread.forget_other_threads()


class UnraisableArgs:
    """The argument of sys.unraisablehook."""
    def __init__(self, exception):
        self.exc_type = type(exception)
        self.exc_value = exception
        self.exc_traceback = exception.__traceback__
        self.err_msg = "a model failed while it was closed"
        self.object = None
