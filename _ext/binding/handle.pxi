# A submitted request as its future sees it.

cdef class Handle:
    """A submitted request, as its future sees it."""
    cdef RequestPtr request
    cdef Core core
    cdef object timeout
    cdef object outputs

    @property
    def rows(self):
        return self.request.get().rows

    def done(self):
        return self.request.get().done()

    def started(self):
        return self.request.get().started()

    @property
    def cancelled(self):
        return self.request.get().done() and self.request.get().outcome == Outcome.cancelled

    def wait(self, timeout):
        """Waits `timeout` seconds (None: for ever); whether the request is done."""
        cdef Nanos deadline = deadline_after(timeout)
        cdef cbool main = PyThread_get_thread_ident() == self.core.main_thread
        cdef Nanos until = deadline
        self.core.check_alive()
        if self.core.dispatcher.get().on_instance_thread() and not self.request.get().done():
            raise PaddleInferError(
                f"{self.core.label} was called from inside its own model, where it would wait for itself")
        while not self.request.get().done() and monotonic_now() < deadline:
            if main:
                until = min(deadline, monotonic_now() + SIGNAL_SLICE_NS)
            with nogil:
                self.request.get().wait(min(until, self.request.get().deadline))
                if not self.request.get().done() and monotonic_now() >= self.request.get().deadline:
                    self.core.dispatcher.get().end_early(self.request, Outcome.expired)
            if main:
                PyErr_CheckSignals()
        return self.request.get().done()

    def cancel(self):
        """Cancels the request, and tells whether this call has ended it; False once it has started."""
        self.core.check_alive()
        ended = self.core.dispatcher.get().end_early(self.request, Outcome.cancelled, True)
        self.core.drain()
        return ended

    def give_up(self):
        """Ends the request, also one that runs: nobody wants its result any more."""
        self.core.check_alive()
        self.core.dispatcher.get().end_early(self.request, Outcome.cancelled)
        self.core.drain()

    def info(self):
        """Why it went as it did; None before its end, and when it never ran."""
        return info_of(self.core, self.request) if self.request.get().done() else None

    def result(self):
        """The outputs, or the error raised. To be called once, when done."""
        return result_of(self.core, self.request, self.timeout, self.outputs)
