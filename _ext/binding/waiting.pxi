# Waits of callers, which end at a deadline and at Ctrl-C.

# How long a wait on the main thread goes without a look at pending signals.
cdef Nanos SIGNAL_SLICE_NS = 50_000_000


cdef wait_for_room(Core core, const RequestPtr& request):
    """Until the request is in the queue or has ended. Past its deadline, or at Ctrl-C, this ends it."""
    cdef cbool main = PyThread_get_thread_ident() == core.main_thread
    cdef Nanos until = request.get().deadline
    cdef Woken woken = Woken.timed_out
    if not request.get().waits_for_room:
        return
    while woken != Woken.changed:
        if main:
            until = min(request.get().deadline, monotonic_now() + SIGNAL_SLICE_NS)
        with nogil:
            woken = core.dispatcher.get().wait_for_room(request.get()[0], until)
            if woken != Woken.changed and monotonic_now() >= request.get().deadline:
                core.dispatcher.get().end_early(request, Outcome.expired)
        if main:
            check_signals(core, request)


cdef check_signals(Core core, const RequestPtr& request):
    """On the main thread; what a signal handler raises cancels the request."""
    try:
        PyErr_CheckSignals()
    except BaseException:
        core.dispatcher.get().end_early(request, Outcome.cancelled)
        core.drain()
        raise


cdef wait_for(Core core, const RequestPtr& request):
    """Until the request has ended. Past its deadline, or at Ctrl-C, this ends it."""
    cdef cbool main = PyThread_get_thread_ident() == core.main_thread
    cdef Request* target = request.get()
    cdef Nanos until = target.deadline
    while not target.done():
        if main:
            until = min(target.deadline, monotonic_now() + SIGNAL_SLICE_NS)
        with nogil:
            target.wait(until)
            if not target.done() and monotonic_now() >= target.deadline:
                core.dispatcher.get().end_early(request, Outcome.expired)
                target.wait(kNever)
        if main:
            check_signals(core, request)


cdef Nanos deadline_after(timeout) except? -1:
    """The instant `timeout` seconds from now."""
    if timeout is None:
        return kNever
    cdef double seconds = timeout
    # A century is as good as no deadline, and its nanoseconds fit.
    return monotonic_now() + <Nanos>(min(seconds, 3.2e9) * 1e9)
