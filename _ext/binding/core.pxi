# One engine's core, as Python holds it.

cdef class Core:
    """One engine's instances, queue and requests.

    Parameters
    ----------
    inputs
        (name, dtype name, shape or None) of each input, -1 for a free dimension.
    outputs
        Names of the outputs.
    output_places
        Every name and alias of an output -> its place.
    rows_follow_batch
        Whether axis 0 of every input counts the same rows.
    batching
        The BatchingOptions of the engine.
    merging
        "yes", "no", or "probe": find out when requests could first be merged, and tell `on_merging`.
    on_merging
        Called with True or False and a reason when it turns out whether requests may be merged.
    normalise
        Called with the caller's inputs and the Core when they are not plain arrays of the right kind;
        gives such arrays in order, or raises InvalidInput.
    check_shapes
        Called with the shapes of the inputs, once for each set of shapes beyond the rows; raises InvalidInput where
        the model could not run them. None where there is nothing to check.
    explain
        Turns the text of a failure into its useful line.
    trace
        Where requests and runs are recorded.
    cache_bytes
        Of results that may be kept for equal requests; 0: none are.
    """
    cdef shared_ptr[Dispatcher] dispatcher
    cdef shared_ptr[Trace] trace
    cdef FeedReader feeds
    cdef tuple output_names
    cdef dict output_places
    cdef vector[uint32_t] all_outputs
    cdef cbool inline_allowed
    cdef cbool caches
    cdef cbool wait_when_full
    cdef int64_t max_queue_rows
    cdef size_t max_queue_bytes
    cdef dict bridges
    cdef set submitted  # futures that wait_completions() has still to give
    cdef EventLoopBridge last_bridge
    cdef object on_merging
    cdef BackendUpdates updates  # of its backends
    cdef object explain
    cdef unsigned long main_thread
    cdef object __weakref__
    cdef readonly bint closed
    cdef readonly bint forked
    cdef str label
    cdef Nanos last_ideal_delivery  # of what wait_completions() gave last, and is being told

    def __init__(self, *, str label, inputs, outputs, dict output_places, bint rows_follow_batch,
                 bint inline, batching, str merging, on_merging, normalise, check_shapes, explain,
                 TraceRing trace, unsigned long main_thread, size_t cache_bytes, int64_t short_run_instances):
        cdef DispatcherOptions options
        options.scheduler = scheduler_options(batching, merging)
        options.scheduler.short_run_instances = short_run_instances
        options.batch_sizes = batching.allowed_batch_sizes if rows_follow_batch else ()
        options.verify_every = batching.verify_every
        options.cache_bytes = cache_bytes
        self.caches = cache_bytes > 0
        options.inline_allowed = inline
        options.outputs = [name.encode() for name in outputs]
        options.trace = trace.trace
        self.trace = trace.trace
        self.dispatcher = make_shared[Dispatcher](options)
        self.bridges = {}
        self.submitted = set()
        self.wait_when_full = batching.on_full == "wait"
        self.max_queue_rows = options.scheduler.max_queue_rows
        self.max_queue_bytes = options.scheduler.max_queue_bytes
        self.on_merging = on_merging
        self.label = label
        self.feeds = FeedReader(inputs, rows_follow_batch, normalise, check_shapes)
        self.output_names = tuple(outputs)
        self.output_places = output_places
        self.inline_allowed = inline
        self.last_ideal_delivery = kNever
        self.explain = explain
        self.main_thread = main_thread
        for place in range(len(self.output_names)):
            self.all_outputs.push_back(<uint32_t>place)

    def __dealloc__(self):
        if self.dispatcher.get() == NULL:
            return
        if self.forked:
            # The child has none of the threads: whatever they held stays locked for good.
            keep_for_good(self.dispatcher)
            return
        if not self.closed:
            self.dispatcher.get().close_in_background()
        self.drain()  # a run that was given up may have ended since
        leave_orphan(self.dispatcher)

    # Starting

    def start_instances(self, BackendFactory factory not None, size_t instances):
        """Starts so many instances, each on its own thread, without the GIL; the first is the root of the others."""
        cdef CppBackendFactory maker
        cdef size_t index
        cdef int error = 0
        self.updates = factory.updates
        self.dispatcher.get().limit_inline(factory.inline_runs)
        for index in range(instances):
            maker = factory.of_instance(self.dispatcher, index)
            with nogil:
                error = start_instance(self.dispatcher.get()[0], <cbool>(index == 0), maker)
            if error != 0:
                reason = strerror(error).decode("utf-8", "replace")
                raise ThreadStartError.of(f"instance {index} of {self.label}", reason)

    # Calling

    def infer(self, feeds, timeout, outputs, priority, bint explained):
        """Runs one request and waits for it; `timeout` in seconds or None. With `explained`: (results, info), and
        a ModelError has the info.
        """
        if type(outputs) is list:
            outputs = tuple(outputs)  # the caller's may change while the request runs
        cdef RequestPtr request = prepare(self, feeds, timeout, outputs, priority, True)
        cdef cbool ran = False
        if self.inline_allowed and request.get().deadline == kNever:
            with nogil:
                ran = self.dispatcher.get().run_inline(request)
        if not ran:
            self.admit(request, True)
            wait_for(self, request)
            self.dispatcher.get().note_delivery(ideal_delivery_time(request.get()[0]))
        self.drain()
        try:
            results = result_of(self, request, timeout, outputs)
        except ModelError as error:
            if explained:
                error.info = info_of(self, request)
            raise
        return (results, info_of(self, request)) if explained else results

    def submit(self, feeds, timeout, outputs, priority, future):
        """Queues one request; wait_completions() will give `future` once it has ended."""
        cdef Handle handle = self.new_handle(Handle, feeds, timeout, outputs, priority, True)
        handle.request.get().completion_queue = self.dispatcher.get().completions()
        future.attach(handle)
        handle.request.get().waiter = <void*>future
        self.submitted.add(future)
        try:
            self.admit(handle.request, False)
        except BaseException:
            self.submitted.discard(future)
            raise
        wait_for_room(self, handle.request)
        self.drain()
        return handle

    def submit_together(self, parts, timeout, outputs, priority, futures, bint waits, bint blocks):
        """Queues several requests as one: all have room, or none is queued.

        `waits`: they wait for room, whatever the option says. With `blocks` this call waits with them.
        """
        cdef vector[RequestPtr] requests
        cdef vector[Admission] admissions
        cdef Handle handle
        cdef cbool open
        cdef size_t place
        try:
            for feeds, future in zip(parts, futures, strict=True):
                handle = self.new_handle(Handle, feeds, timeout, outputs, priority)
                requests.push_back(handle.request)
                handle.request.get().completion_queue = self.dispatcher.get().completions()
                handle.request.get().waits_for_room |= waits
                handle.request.get().follows = requests.size() > 1
                handle.request.get().waiter = <void*>future
                future.attach(handle)
                requests.front().get().rows_together += handle.request.get().rows
                requests.front().get().bytes_together += handle.request.get().bytes
            self.submitted.update(futures)
            with nogil:
                open = self.dispatcher.get().admit(requests, admissions)
        except BaseException:  # none is queued
            self.submitted.difference_update(futures)
            for place in range(requests.size()):
                self.take_inputs_back(requests[place])
            raise
        error = None
        for place, future in enumerate(futures):
            if not open or not Dispatcher.is_admitted(admissions[place]):
                self.submitted.discard(future)
                error = error or refusal_of(self, requests[place], open, admissions[place])
        if error is not None:
            for place in range(requests.size()):
                if open and Dispatcher.is_admitted(admissions[place]):
                    self.dispatcher.get().end_early(requests[place], Outcome.cancelled)
            self.drain()
            raise error
        if blocks:
            for place in range(requests.size()):
                wait_for_room(self, requests[place])
        self.drain()

    def start(self, feeds, timeout, outputs, priority):
        """Queues one request, waiting for room if need be; the handle is to be waited for."""
        cdef Handle handle = self.new_handle(Handle, feeds, timeout, outputs, priority, True)
        handle.request.get().waits_for_room = True
        self.admit(handle.request, False)
        wait_for_room(self, handle.request)
        self.drain()
        return handle

    def warmup(self, feeds, size_t instance):
        """Has one instance run a request by itself; the handle is to be waited for."""
        cdef Handle handle = self.new_handle(Handle, feeds, None, None, 1)
        cdef cbool open
        try:
            with nogil:
                open = self.dispatcher.get().warmup(handle.request, instance)
        except MemoryError:
            self.take_inputs_back(handle.request)
            raise
        if not open:
            self.take_inputs_back(handle.request)
            raise EngineClosed(f"{self.label} is closed")
        return handle

    def set_batchable(self, bint merges, str why_not):
        """Says whether requests may share a run, and if not, why."""
        self.dispatcher.get().set_batchable(merges, why_not.encode())
        self.drain()

    def predicted_run_ns(self, feeds, int64_t rows):
        """Returns the predicted time of a run of so many rows like these; 0 if nothing is known."""
        cdef RequestPtr request = prepare(self, feeds, None, None, 1)
        cdef double predicted = self.dispatcher.get().predicted_run_ns(request.get()[0], rows)
        self.take_inputs_back(request)
        return predicted

    def ainfer(self, feeds, timeout, outputs, priority, Nanos called):
        """One request of the running event loop, as an AsyncCall; it is queued when the loop's turn ends.

        `called`: 0, or when it began, by the monotonic clock, where the inputs have been converted elsewhere since
        then. Raises TooLongForLoop where take() is to be called elsewhere first.
        """
        cdef AsyncCall call
        cdef Nanos since
        if self.feeds.takes_long(feeds, self.caches):
            raise TooLongForLoop
        call = self.new_handle(AsyncCall, feeds, timeout, outputs, priority, True)
        if called != 0:
            since = call.request.get().call_time - called
            call.request.get().call_time = called
            if call.request.get().deadline != kNever:
                call.request.get().deadline -= since
        loop = get_running_loop()
        call.bridge = bridge_of(self, loop)
        call.future = loop.create_future()
        call.bridge.enqueue(call)
        return call

    def take(self, feeds, outputs):
        """A caller's inputs, converted, for a request with these outputs; on any thread."""
        cdef TakenFeeds taken = TakenFeeds.__new__(TakenFeeds)
        cdef RequestPtr request = make_shared[Request]()
        taken.arrays = self.feeds.arrays_of(feeds)
        if self.caches:
            want(self, request.get(), outputs)
            self.feeds.view(taken.arrays, request.get())
            taken.key = key_of(request.get())
        return taken

    def wait_completions(self):
        """Blocks until submitted requests have ended; their futures, or None after close()."""
        cdef CompletionEvents events
        cdef RequestPtr request
        self.dispatcher.get().note_delivery(self.last_ideal_delivery)
        self.last_ideal_delivery = kNever
        with nogil:
            events = self.dispatcher.get().completions().get().wait()
            for request in events.overdue:
                self.dispatcher.get().end_early(request, Outcome.expired)
        self.drain()
        if events.stopped:
            return None
        futures = []
        for request in events.ended:
            if request.get().waiter != NULL:
                futures.append(<object>request.get().waiter)
                self.submitted.discard(<object>request.get().waiter)
                request.get().waiter = NULL
                self.last_ideal_delivery = ideal_delivery_time(request.get()[0])
        return futures

    # Ending

    def close(self, bint drain, timeout):
        """(instances abandoned, requests ended unserved). Waits `timeout` seconds at most, None: for ever."""
        cdef Nanos deadline = deadline_after(timeout)
        cdef CloseReport report
        cdef size_t ended
        cdef cbool drained = drain
        if self.dispatcher.get().on_instance_thread():
            raise PaddleInferError(
                f"{self.label} was closed from inside its own model, where it would wait for itself")
        self.closed = True
        with nogil:
            ended = self.dispatcher.get().begin_close(drained)
        # Only now: what was queued before the dispatcher closed must be told of its end.
        for place, bridge in list(self.bridges.items()):
            if (<EventLoopBridge>bridge).gone():
                del self.bridges[place]
            else:
                (<EventLoopBridge>bridge).queue.get().stop()
        if PyThread_get_thread_ident() == self.main_thread:
            return self.close_in_slices(ended, deadline)
        with nogil:
            self.dispatcher.get().wait_for_exits(deadline)
            report = self.dispatcher.get().finish_close()
        self.drain()
        return (report.abandoned_instances, ended + report.ended_requests)

    cdef close_in_slices(self, size_t ended, Nanos deadline):
        """Ctrl-C leaves the engine closing: its threads end by themselves, and close() may be called again."""
        cdef CloseReport report
        cdef cbool left = False
        while not left and monotonic_now() < deadline:
            with nogil:
                left = self.dispatcher.get().wait_for_exits(min(deadline, monotonic_now() + SIGNAL_SLICE_NS))
            PyErr_CheckSignals()
        with nogil:
            report = self.dispatcher.get().finish_close()
        self.drain()
        return (report.abandoned_instances, ended + report.ended_requests)

    def poll_updates(self):
        """Reports what has turned out since the last call."""
        if not self.forked:
            self.drain()

    def mark_forked(self):
        """Makes every later call in a forked child raise EngineClosed, without touching a lock."""
        self.forked = True

    @property
    def on_instance_thread(self):
        return self.dispatcher.get().on_instance_thread()

    # Looking

    def stats(self):
        """Counters since the start, and what is queued and running now."""
        self.check_alive()
        return stats_of(self.dispatcher.get())

    # Inside

    cdef check_alive(self):
        if self.forked:
            raise EngineClosed(
                f"{self.label} was created before this process was forked, and its threads live in the "
                "parent only; create the engine after the fork")

    cdef drain(self):
        """Releases what native threads are done with, and reports what has turned out meanwhile."""
        cdef pair[Merging, string] change
        release(self.dispatcher.get().releases())
        if not orphans.empty():
            release_orphans()
        if self.dispatcher.get().merging_changed() and self.on_merging is not None:
            change = self.dispatcher.get().take_merging_change()
            self.on_merging(change.first == Merging.yes, change.second.decode("utf-8", "replace"))
        if self.updates is not None:
            self.updates.poll()

    cdef Handle new_handle(self, kind, feeds, timeout, outputs, priority, cbool cached=False):
        cdef Handle handle = kind.__new__(kind)
        if type(outputs) is list:
            outputs = tuple(outputs)  # the caller's may change while the request runs
        handle.core = self
        handle.timeout = timeout
        handle.outputs = outputs
        handle.request = prepare(self, feeds, timeout, outputs, priority, cached)
        return handle

    cdef admit(self, const RequestPtr& request, cbool spins):
        """Queues it, or raises why not; `spins`: the caller will wait for the result."""
        cdef Admission admission = Admission.accepted
        cdef cbool open
        cdef cbool taken
        with nogil:
            open = self.dispatcher.get().admit(request, admission)
            taken = open and Dispatcher.is_admitted(admission)
            if taken and spins:
                self.dispatcher.get().spin_for(request.get()[0])
        if not taken:
            raise refusal_of(self, request, open, admission)

    cdef take_inputs_back(self, const RequestPtr& request):
        Py_XDECREF(<PyObject*>request.get().take_inputs_back())
