# Requests of an event loop: handed over together at the end of its turn, delivered together by one wake-up.

cdef class AsyncCall(Handle):
    """A request of an event loop; `future` is the loop's."""
    cdef readonly object future
    cdef EventLoopBridge bridge
    cdef cbool queued
    cdef cbool given_up

    def give_up(self):
        """Nobody awaits it any more: ends the request, also one that runs."""
        self.given_up = True
        if self.queued and not self.request.get().done():
            Handle.give_up(self)

    cdef resolve(self):
        """Gives the future its result or error."""
        if self.future.done():  # cancelled
            return
        try:
            results = result_of(self.core, self.request, self.timeout, self.outputs)
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(results)


cdef class EventLoopBridge:
    """One event loop's requests on one engine. All its methods run on the loop's thread.

    It holds the loop weakly, and the engine's Core not at all: the requests under way do. Those it holds where the
    garbage collector sees them: a loop that ends with some under way leaves nothing behind.
    """
    cdef shared_ptr[Dispatcher] dispatcher
    cdef shared_ptr[CompletionQueue] queue
    cdef vector[RequestPtr] pending  # taken in during this turn of the loop
    cdef set calls  # under way
    cdef cbool flush_is_due
    cdef object loop
    cdef object timer
    cdef Nanos timer_due
    cdef int watched

    def __cinit__(self, Core core, loop):
        self.dispatcher = core.dispatcher
        self.queue = make_shared[CompletionQueue](Reader.loop)
        self.calls = set()
        self.timer_due = kNever
        self.watched = self.queue.get().descriptor()
        self.loop = ref(loop, self.abandon)
        loop.add_reader(self.watched, self.deliver)

    def __dealloc__(self):
        self.drop_pending()
        if self.queue.get() != NULL:
            self.queue.get().abandon()

    def abandon(self, _=None):
        """The loop is gone: its ends are dropped, and the descriptor freed."""
        self.queue.get().abandon()
        self.drop_pending()
        self.calls.clear()

    cdef void drop_pending(self) noexcept:
        cdef RequestPtr request
        for request in self.pending:
            Py_XDECREF(<PyObject*>request.get().take_inputs_back())
        self.pending.clear()

    cdef cbool gone(self) except *:
        """Tells whether the loop has been closed or collected, and then releases it."""
        loop = self.loop()
        if loop is not None and not loop.is_closed():
            return False
        self.abandon()
        return True

    cdef enqueue(self, AsyncCall call):
        call.request.get().waiter = <void*>call
        call.request.get().completion_queue = self.queue
        self.calls.add(call)
        self.pending.push_back(call.request)
        if not self.flush_is_due:
            self.loop().call_soon(self.flush)
            self.flush_is_due = True

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
        try:
            requests.reserve(self.pending.size())
            admissions.reserve(self.pending.size())
        except MemoryError:
            self.refuse_pending()
            return
        for request in self.pending:
            call = <AsyncCall><object>request.get().waiter
            if call.given_up or call.future.done():
                call.core.take_inputs_back(request)
                self.calls.discard(call)
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
            if not open or not Dispatcher.is_admitted(admissions[place]):
                call = <AsyncCall><object>requests[place].get().waiter
                call.queued = False
                if not call.future.done():
                    call.future.set_exception(refusal_of(call.core, requests[place], open, admissions[place]))
                else:
                    call.core.take_inputs_back(requests[place])
                self.calls.discard(call)
        self.watch_until(soonest)

    cdef refuse_pending(self):
        """There is no memory to queue any."""
        cdef RequestPtr request
        cdef AsyncCall call
        for request in self.pending:
            call = <AsyncCall><object>request.get().waiter
            error = refusal_of(call.core, request, True, Admission.out_of_memory)
            if not call.future.done():
                call.future.set_exception(error)
            self.calls.discard(call)
        self.pending.clear()

    def deliver(self):
        """Delivers what has ended since; it is called when the descriptor is readable."""
        cdef CompletionEvents events = self.queue.get().take()
        cdef RequestPtr request
        cdef AsyncCall call = None
        for request in events.overdue:
            self.dispatcher.get().end_early(request, Outcome.expired)
        for request in events.ended:
            call = <AsyncCall><object>request.get().waiter
            self.calls.discard(call)
            call.resolve()
        if call is not None:
            self.dispatcher.get().note_delivery(ideal_delivery_time(call.request.get()[0]))
            call.core.drain()
        self.watch_until(events.next_deadline)
        if events.stopped:
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
        self.queue.get().abandon()  # what this turn has taken in is still to be refused


cdef EventLoopBridge bridge_of(Core core, loop):
    """The bridge between an engine and a loop; it is made where there is none yet."""
    cdef EventLoopBridge bridge = core.last_bridge
    if bridge is not None and bridge.loop() is loop:
        return bridge
    bridge = core.bridges.get(id(loop))
    if bridge is None or bridge.loop() is not loop:
        for other, of_other in list(core.bridges.items()):
            if (<EventLoopBridge>of_other).gone():
                del core.bridges[other]
        bridge = EventLoopBridge(core, loop)
        core.bridges[id(loop)] = bridge
        if core.closed:  # since this call began: close() may not have seen it
            bridge.queue.get().stop()
    core.last_bridge = bridge
    return bridge
