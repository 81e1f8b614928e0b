# Requests of an event loop: handed over together at the end of its turn, delivered together by one wake-up.

cdef class AsyncCall(Handle):
    """A request of an event loop; `future` is the loop's."""
    cdef readonly object future
    cdef LoopSink sink
    cdef cbool queued
    cdef cbool given_up

    def give_up(self):
        """Nobody awaits it any more: ends the request, also one that runs."""
        self.given_up = True
        if self.queued and not self.request.get().done():
            Handle.give_up(self)

    cdef settle(self):
        """Gives the future its result or error."""
        if self.future.done():  # cancelled
            return
        try:
            results = self.core.result(self.request, self.timeout, self.outputs)
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(results)


cdef class LoopSink:
    """One event loop's requests on one engine. All its methods run on the loop's thread.

    It holds the loop weakly, and the engine's Core not at all: the requests under way do.
    """
    cdef shared_ptr[Dispatcher] dispatcher
    cdef shared_ptr[CompletionQueue] queue
    cdef vector[RequestPtr] pending  # taken in during this turn of the loop; each holds its AsyncCall
    cdef cbool flush_is_due
    cdef object loop
    cdef object timer
    cdef Nanos timer_due
    cdef int watched

    def __cinit__(self, Core core, loop):
        self.dispatcher = core.dispatcher
        self.queue = make_shared[CompletionQueue](Reader.loop, core.dispatcher.get().releases())
        self.timer_due = kNever
        self.watched = self.queue.get().descriptor()
        self.loop = ref(loop, self.abandon)
        loop.add_reader(self.watched, self.deliver)

    def __dealloc__(self):
        cdef RequestPtr request
        for request in self.pending:
            Py_XDECREF(<PyObject*>request.get().take_inputs_back())
            Py_XDECREF(<PyObject*>request.get().waiter)
            request.get().waiter = NULL
        if self.queue.get() != NULL:
            self.queue.get().abandon()

    def abandon(self, _=None):
        """The loop is gone: its ends are dropped, and the descriptor freed."""
        self.queue.get().abandon()

    cdef cbool gone(self) except *:
        """Whether the loop has been closed or collected; then this lets go of it."""
        loop = self.loop()
        if loop is not None and not loop.is_closed():
            return False
        self.abandon()
        return True

    cdef take_in(self, AsyncCall call):
        Py_INCREF(call)
        call.request.get().waiter = <void*>call
        call.request.get().sink = self.queue
        self.pending.push_back(call.request)
        if not self.flush_is_due:
            self.flush_is_due = True
            self.loop().call_soon(self.flush)

    def flush(self):
        """Queues what this turn of the loop has brought."""
        cdef vector[RequestPtr] requests
        cdef vector[Admission] admissions
        cdef RequestPtr request
        cdef AsyncCall call
        cdef size_t place
        cdef cbool open
        cdef Nanos soonest = kNever
        self.flush_is_due = False
        for request in self.pending:
            call = <AsyncCall><object>request.get().waiter
            if call.given_up or call.future.done():
                call.core.take_inputs_back(request)
                release_waiter(request)
            else:
                call.queued = True
                requests.push_back(request)
                soonest = min(soonest, request.get().deadline)
        self.pending.clear()
        if requests.empty():
            return
        # With the GIL held: the dispatcher's lock is held for moments, and by nobody who waits for the GIL.
        open = self.dispatcher.get().admit(requests, admissions)
        for place in range(requests.size()):
            if not open or not Dispatcher.is_in(admissions[place]):
                call = <AsyncCall><object>requests[place].get().waiter
                call.queued = False
                if not call.future.done():
                    call.future.set_exception(call.core.refusal(requests[place], open, admissions[place]))
                release_waiter(requests[place])
        self.watch_until(soonest)

    def deliver(self):
        """What has ended since; called when the descriptor is readable."""
        cdef News news = self.queue.get().take()
        cdef RequestPtr request
        cdef AsyncCall call = None
        for request in news.overdue:
            self.dispatcher.get().end_early(request, Outcome.expired)
        for request in news.ended:
            call = <AsyncCall><object>request.get().waiter
            release_waiter(request)
            call.settle()
        if call is not None:
            self.dispatcher.get().note_hand_over(result_due(call.request.get()[0]))
            call.core.drain()
        self.watch_until(news.next_deadline)
        if news.stopped:
            self.leave()

    def deliver_overdue(self):
        """The timer's. It may come up to a millisecond too soon, and then another has to follow."""
        self.timer = None
        self.timer_due = kNever
        self.deliver()

    cdef watch_until(self, Nanos deadline):
        """Has deliver_overdue() called at the deadline."""
        cdef Nanos left
        if deadline >= self.timer_due:
            return
        if self.timer is not None:
            self.timer.cancel()
        left = max(<Nanos>0, deadline - monotonic_now())
        # Whole milliseconds, which is what uvloop's clock counts.
        self.timer = self.loop().call_later(ceil(left / 1e6) / 1e3, self.deliver_overdue)
        self.timer_due = deadline

    cdef leave(self):
        """The engine is closed, and all its ends are delivered."""
        loop = self.loop()
        if self.timer is not None:
            self.timer.cancel()
        if loop is not None and not loop.is_closed() and self.queue.get().descriptor() >= 0:
            loop.remove_reader(self.watched)
        self.abandon()


cdef void release_waiter(const RequestPtr& request) noexcept:
    Py_XDECREF(<PyObject*>request.get().waiter)
    request.get().waiter = NULL
