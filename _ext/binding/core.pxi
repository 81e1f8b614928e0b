# The binding of the compiled core: NumPy arrays in and out, errors, waiting with signals. The C++ headers
# hold the logic.
import sys
from asyncio import get_running_loop
from math import ceil
from weakref import ref

cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.limits cimport INT_MAX
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libcpp cimport bool as cbool
from libcpp.memory cimport make_shared, shared_ptr
from libcpp.pair cimport pair
from libcpp.string cimport string
from libcpp.vector cimport vector

from core cimport (
    Abi,
    Admission,
    CallResult,
    CloseReport,
    CompletionQueue,
    Config,
    Counters,
    CppScheduler,
    Decision,
    Dispatcher,
    DispatcherOptions,
    DispatchReason,
    Explanation,
    DType,
    HandedInput,
    Load,
    Merging,
    Model,
    ModelOptions,
    Nanos,
    News,
    OneDnnCache,
    OneDnnShelter,
    OneDnnSymbols,
    Outcome,
    OwnedTensor,
    Place,
    Plan,
    Policy,
    PythonFunctions,
    Ran,
    Reader,
    Request,
    RequestPtr,
    SchedulerOptions,
    Shape,
    Slice,
    TensorView,
    Trace,
    TracedRequest,
    TracedRun,
    WeightReport,
    Woken,
    c_predictor_lock,
    c_relative_difference,
    c_tolerance_of,
    kMaxRank,
    kNever,
    monotonic_now,
    onednn_clears,
    interpreter_ending,
    python_object,
    result_due,
    rows_of,
    signature_of,
    start_paddle_instance,
    start_python_instance,
)

import ml_dtypes
import numpy as np

from paddleinfer.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineClosed,
    InvalidInput,
    ModelError,
    PaddleInferError,
    QueueFull,
)

cnp.import_array()

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident() nogil
    ctypedef enum PyGILState_STATE:
        PyGILState_LOCKED
    PyGILState_STATE PyGILState_Ensure() nogil
    void PyGILState_Release(PyGILState_STATE) nogil

cdef extern from "<malloc.h>" nogil:
    int c_mallopt "mallopt"(int, int)

cdef extern from "numpy/arrayobject.h":
    void PyArray_ENABLEFLAGS(cnp.ndarray, int)
    object PyArray_SimpleNewFromData(int, cnp.npy_intp*, int, void*)

# How long a wait on the main thread goes without a look at pending signals.
cdef Nanos SIGNAL_SLICE_NS = 50_000_000

include "arrays.pxi"
include "feeds.pxi"
include "python_model.pxi"
include "paddle.pxi"
include "trace.pxi"


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
    merging
        "yes", "no", or "probe": find out when requests could first be merged, and tell `on_merging`.
    max_hold_us
        How long a request may be held back for company, in microseconds; None leaves it to the cost rule.
    wait_when_full
        Whether requests wait for room in a full queue, instead of being refused.
    on_merging
        Called with True or False and a reason when it turns out whether requests may be merged.
    normalise
        Called with the caller's inputs and the Core when they are not plain arrays of the right kind;
        gives such arrays in order, or raises InvalidInput.
    explain
        Turns the text of a failure into its useful line.
    trace
        Where requests and runs are recorded.
    """
    cdef shared_ptr[Dispatcher] dispatcher
    cdef shared_ptr[Model] model
    cdef shared_ptr[Trace] trace
    cdef FeedReader feeds
    cdef tuple output_names
    cdef dict output_places
    cdef vector[uint32_t] all_outputs
    cdef cbool inline_allowed
    cdef cbool wait_when_full
    cdef dict loop_sinks
    cdef LoopSink last_sink
    cdef object on_merging
    cdef object explain
    cdef unsigned long main_thread
    cdef object __weakref__
    cdef readonly bint closed
    cdef readonly bint forked
    cdef str label
    cdef Nanos last_due  # of what wait_completions() gave last, and is being told

    def __init__(self, *, str label, inputs, outputs, dict output_places, bint rows_follow_batch,
                 bint inline, str policy, int64_t max_batch_size, preferred_batch_sizes, allowed_batch_sizes,
                 int64_t max_queue_rows, size_t max_queue_bytes,
                 max_hold_us, bint wait_when_full, str merging, on_merging, normalise, explain, TraceRing trace,
                 unsigned long main_thread):
        cdef DispatcherOptions options
        options.scheduler = scheduler_options(
            policy, max_batch_size, preferred_batch_sizes, max_queue_rows, max_queue_bytes, max_hold_us, merging)
        options.batch_sizes = allowed_batch_sizes
        options.inline_allowed = inline
        options.outputs = [name.encode() for name in outputs]
        options.trace = trace.trace
        self.trace = trace.trace
        self.dispatcher = make_shared[Dispatcher](options)
        self.loop_sinks = {}
        self.wait_when_full = wait_when_full
        self.on_merging = on_merging
        self.label = label
        self.feeds = FeedReader(inputs, rows_follow_batch, normalise)
        self.output_names = tuple(outputs)
        self.output_places = output_places
        self.inline_allowed = inline
        self.last_due = kNever
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

    # Starting

    def start_paddle(self, PaddleLibrary library, uintptr_t config, inputs, outputs, parameters, *,
                     size_t instances, bint on_cpu, bint share_weights, bint onednn,
                     size_t max_onednn_shapes):
        """Makes the root predictor and its clones, each on its own thread, without the GIL."""
        cdef ModelOptions options
        cdef size_t index
        options.inputs = [name.encode() for name in inputs]
        options.outputs = [name.encode() for name in outputs]
        options.parameters = [name.encode() for name in parameters]
        options.cpu_place = library.cpu_place
        options.on_cpu = on_cpu
        options.share_weights = share_weights
        options.onednn = onednn
        options.onednn_symbols = library.onednn
        options.max_onednn_shapes = max_onednn_shapes
        self.model = make_shared[Model](library.abi, options)
        for index in range(instances):
            with nogil:
                start_paddle_instance(
                    self.dispatcher.get()[0], self.model, <const Config*>config, <cbool>(index == 0))

    def start_python(self, open_model, size_t instances):
        """Calls `open_model(instance)` on each instance's thread; what it gives takes and gives array lists."""
        cdef PythonFunctions functions
        cdef shared_ptr[void] context
        cdef size_t index
        functions.open = python_open
        functions.call = python_call
        functions.close = python_close
        Py_INCREF(open_model)
        context = python_object(self.dispatcher.get().releases(), <void*>open_model)
        for index in range(instances):
            with nogil:
                start_python_instance(self.dispatcher.get()[0], functions, context, index)

    def weights(self):
        """(parameters shared, bytes saved by each further instance, why not all are shared)."""
        cdef WeightReport report
        if self.model.get() == NULL:
            return (0, 0, "")
        report = self.model.get().weights()
        return (report.shared, report.bytes, report.refusal.decode())

    # Calling

    def infer(self, feeds, timeout, outputs, priority, bint explained):
        """Runs one request and waits for it; `timeout` in seconds or None. With `explained`: (results, info), and
        a ModelError has the info.
        """
        if type(outputs) is list:
            outputs = tuple(outputs)  # the caller's may change while the request runs
        cdef RequestPtr request = self.prepare(feeds, timeout, outputs, priority)
        cdef cbool ran = False
        if self.inline_allowed and request.get().deadline == kNever:
            with nogil:
                ran = self.dispatcher.get().run_inline(request)
        if not ran:
            self.admit(request, True)
            self.wait_for(request)
            self.dispatcher.get().note_hand_over(result_due(request.get()[0]))
        self.drain()
        try:
            results = self.result(request, timeout, outputs)
        except ModelError as error:
            if explained:
                error.info = self.info(request)
            raise
        return (results, self.info(request)) if explained else results

    def submit(self, feeds, timeout, outputs, priority, future):
        """Queues one request; wait_completions() will give `future` once it has ended."""
        cdef Handle handle = self.new_handle(Handle, feeds, timeout, outputs, priority)
        handle.request.get().sink = self.dispatcher.get().completions()
        future.attach(handle)
        Py_INCREF(future)
        handle.request.get().waiter = <void*>future
        try:
            self.admit(handle.request, False)
        except BaseException:
            handle.request.get().waiter = NULL
            Py_XDECREF(<PyObject*>future)
            raise
        self.wait_for_room(handle.request)
        self.drain()
        return handle

    def start(self, feeds, timeout, outputs, priority):
        """Queues one request, waiting for room if need be; the handle is to be waited for."""
        cdef Handle handle = self.new_handle(Handle, feeds, timeout, outputs, priority)
        handle.request.get().waits_for_room = True
        self.admit(handle.request, False)
        self.wait_for_room(handle.request)
        self.drain()
        return handle

    def warmup(self, feeds, size_t instance):
        """Has one instance run a request by itself; the handle is to be waited for."""
        cdef Handle handle = self.new_handle(Handle, feeds, None, None, 1)
        cdef cbool open
        with nogil:
            open = self.dispatcher.get().warmup(handle.request, instance)
        if not open:
            self.take_inputs_back(handle.request)
            raise EngineClosed(f"{self.label} is closed")
        return handle

    def settle_merging(self, bint merges, str why_not):
        """Says whether requests may share a run, and if not, why."""
        self.dispatcher.get().settle_merging_as(merges, why_not.encode())
        self.drain()

    def predicted_run_ns(self, feeds, int64_t rows):
        """What a run of so many rows like these is predicted to take; 0 when nothing is known."""
        cdef RequestPtr request = self.prepare(feeds, None, None, 1)
        cdef double predicted = self.dispatcher.get().predicted_run_ns(request.get()[0], rows)
        self.take_inputs_back(request)
        return predicted

    def ainfer(self, feeds, timeout, outputs, priority):
        """One request of the running event loop, as an AsyncCall; it is queued when the loop's turn ends."""
        cdef AsyncCall call = self.new_handle(AsyncCall, feeds, timeout, outputs, priority)
        loop = get_running_loop()
        call.sink = self.sink_of(loop)
        call.future = loop.create_future()
        call.sink.take_in(call)
        return call

    def wait_completions(self):
        """Blocks until submitted requests have ended; their futures, or None after close()."""
        cdef News news
        cdef RequestPtr request
        self.dispatcher.get().note_hand_over(self.last_due)
        self.last_due = kNever
        with nogil:
            news = self.dispatcher.get().completions().get().wait()
            for request in news.overdue:
                self.dispatcher.get().end_early(request, Outcome.expired)
        self.drain()
        if news.stopped:
            return None
        futures = []
        for request in news.ended:
            if request.get().waiter != NULL:
                futures.append(<object>request.get().waiter)
                Py_XDECREF(<PyObject*>request.get().waiter)
                request.get().waiter = NULL
                self.last_due = result_due(request.get()[0])
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
        for sink in list(self.loop_sinks.values()):
            (<LoopSink>sink).queue.get().stop()
        if PyThread_get_thread_ident() == self.main_thread:
            return self.close_in_slices(ended, deadline)
        with nogil:
            self.dispatcher.get().wait_until_left(deadline)
            report = self.dispatcher.get().finish_close()
        self.drain()
        return (report.abandoned_instances, ended + report.ended_requests)

    cdef close_in_slices(self, size_t ended, Nanos deadline):
        """Ctrl-C leaves the engine closing: its threads end by themselves, and close() may be called again."""
        cdef CloseReport report
        cdef cbool left = False
        while not left and monotonic_now() < deadline:
            with nogil:
                left = self.dispatcher.get().wait_until_left(min(deadline, monotonic_now() + SIGNAL_SLICE_NS))
            PyErr_CheckSignals()
        with nogil:
            report = self.dispatcher.get().finish_close()
        self.drain()
        return (report.abandoned_instances, ended + report.ended_requests)

    def pass_on_news(self):
        """Reports what has turned out since the last call."""
        if not self.forked:
            self.drain()

    def mark_forked(self):
        """In a forked child: every call from now on raises EngineClosed; no lock is touched."""
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
        """Sees to what native threads leave to whoever holds the GIL: objects to release, and news."""
        cdef void* item
        cdef pair[Merging, string] change
        for item in self.dispatcher.get().releases().get().take():
            Py_XDECREF(<PyObject*>item)
        if self.dispatcher.get().merging_changed() and self.on_merging is not None:
            change = self.dispatcher.get().take_merging_change()
            self.on_merging(change.first == Merging.yes, change.second.decode("utf-8", "replace"))

    cdef Handle new_handle(self, kind, feeds, timeout, outputs, priority):
        cdef Handle handle = kind.__new__(kind)
        if type(outputs) is list:
            outputs = tuple(outputs)  # the caller's may change while the request runs
        handle.core = self
        handle.timeout = timeout
        handle.outputs = outputs
        handle.request = self.prepare(feeds, timeout, outputs, priority)
        return handle

    cdef LoopSink sink_of(self, loop):
        cdef LoopSink sink = self.last_sink
        if sink is not None and sink.loop() is loop:
            return sink
        sink = self.loop_sinks.get(id(loop))
        if sink is None or sink.loop() is not loop:
            for other, of_other in list(self.loop_sinks.items()):
                if (<LoopSink>of_other).gone():
                    del self.loop_sinks[other]
            sink = LoopSink(self, loop)
            self.loop_sinks[id(loop)] = sink
            if self.closed:  # since this call began: close() may not have seen it
                sink.queue.get().stop()
        self.last_sink = sink
        return sink

    cdef RequestPtr prepare(self, feeds, timeout, outputs, priority) except *:
        cdef RequestPtr request = make_shared[Request]()
        request.get().called = monotonic_now()
        self.check_alive()
        if self.closed:
            raise EngineClosed(f"{self.label} is closed")
        if self.dispatcher.get().on_instance_thread():
            raise PaddleInferError(
                f"{self.label} was called from inside its own model, where it would wait for itself")
        request.get().deadline = deadline_after(timeout)
        request.get().waits_for_room = self.wait_when_full
        if priority not in (0, 1, 2):
            raise InvalidInput(f"priority must be 0 (the most urgent), 1 or 2, not {priority!r}")
        request.get().priority = priority
        if outputs is None:
            request.get().wanted = self.all_outputs
        else:
            self.select(request.get(), outputs)
        self.feeds.read(feeds, request.get())
        return request

    cdef select(self, Request* target, outputs):
        if isinstance(outputs, (str, bytes)) or not isinstance(outputs, (list, tuple)):
            raise InvalidInput(f"outputs must be a list of output names, not {outputs!r}")
        if not outputs:
            raise InvalidInput("outputs is empty; name at least one, or leave it out for all")
        for name in outputs:
            place = self.output_places.get(name) if isinstance(name, str) else None
            if place is None:
                raise InvalidInput(
                    f"there is no output {name!r}; the model has {', '.join(self.output_names)}")
            target.wanted.push_back(<uint32_t>place)

    cdef admit(self, const RequestPtr& request, cbool look_out):
        """Queues it, or raises why not; `look_out`: the caller will wait for the result."""
        cdef Admission admission = Admission.accepted
        cdef cbool open
        cdef cbool taken
        with nogil:
            open = self.dispatcher.get().admit(request, admission)
            taken = open and Dispatcher.is_in(admission)
            if taken and look_out:
                self.dispatcher.get().look_out_for(request.get()[0])
        if not taken:
            raise self.refusal(request, open, admission)

    cdef refusal(self, const RequestPtr& request, cbool open, Admission admission):
        """The error for a request that was not queued, whose inputs are still this thread's."""
        cdef Load load
        self.take_inputs_back(request)
        if not open:
            return EngineClosed(f"{self.label} is closed")
        if admission == Admission.rows_over_limit:
            return InvalidInput(
                f"the request has {request.get().rows} rows, more than max_queue_rows lets wait at all")
        if admission == Admission.bytes_over_limit:
            return InvalidInput(
                f"the request has {request.get().bytes} bytes of input, more than max_queue_bytes lets wait at all")
        load = self.dispatcher.get().load()
        if admission == Admission.would_be_late:
            return QueueFull(
                f"{self.label} is too busy to give a result before this request's deadline",
                max(0.001, load.drain_ns / 1e9))
        return QueueFull(
            f"{self.label} has {load.queued_rows} rows and {load.queued_bytes} bytes waiting, "
            "and takes no more for now", max(0.001, load.drain_ns / 1e9))

    cdef take_inputs_back(self, const RequestPtr& request):
        Py_XDECREF(<PyObject*>request.get().take_inputs_back())

    cdef wait_for_room(self, const RequestPtr& request):
        """Until the request is in the queue or has ended. Past its deadline, or at Ctrl-C, this ends it."""
        cdef cbool main = PyThread_get_thread_ident() == self.main_thread
        cdef Nanos until = request.get().deadline
        cdef Woken woken = Woken.timed_out
        if not request.get().waits_for_room:
            return
        while woken != Woken.changed:
            if main:
                until = min(request.get().deadline, monotonic_now() + SIGNAL_SLICE_NS)
            with nogil:
                woken = self.dispatcher.get().wait_for_room(request.get()[0], until)
                if woken != Woken.changed and monotonic_now() >= request.get().deadline:
                    self.dispatcher.get().end_early(request, Outcome.expired)
            if main:
                self.check_signals(request)

    cdef check_signals(self, const RequestPtr& request):
        """On the main thread; what a signal handler raises cancels the request."""
        try:
            PyErr_CheckSignals()
        except BaseException:
            self.dispatcher.get().end_early(request, Outcome.cancelled)
            self.drain()
            raise

    cdef wait_for(self, const RequestPtr& request):
        """Until the request has ended. Past its deadline, or at Ctrl-C, this ends it."""
        cdef cbool main = PyThread_get_thread_ident() == self.main_thread
        cdef Request* target = request.get()
        cdef Nanos until = target.deadline
        while not target.done():
            if main:
                until = min(target.deadline, monotonic_now() + SIGNAL_SLICE_NS)
            with nogil:
                target.wait(until)
                if not target.done() and monotonic_now() >= target.deadline:
                    self.dispatcher.get().end_early(request, Outcome.expired)
                    target.wait(kNever)
            if main:
                self.check_signals(request)

    cdef result(self, const RequestPtr& request, timeout, outputs):
        """What a request that is done gives its caller; its outputs go to the first who asks."""
        cdef Request* target = request.get()
        cdef size_t place
        cdef OwnedTensor* tensor
        if target.outcome == Outcome.result:
            names = self.output_names if outputs is None else outputs
            results = {}
            for place in range(target.outputs.size()):
                tensor = &target.outputs[place]
                results[names[place]] = array_owning(tensor.dtype, tensor.shape, tensor.data.release())
            self.trace.get().record(target[0])
            return results
        self.trace.get().record(target[0])
        if target.outcome == Outcome.error:
            raise self.model_error(target)
        if target.outcome == Outcome.expired:
            raise DeadlineExceeded(f"no result within {timeout:g} s")
        if target.outcome == Outcome.shed:
            raise DeadlineExceeded(
                f"dropped before it ran: no result could be there within {timeout:g} s any more", shed=True)
        if target.outcome == Outcome.cancelled:
            raise Cancelled("the request was cancelled")
        raise EngineClosed(f"{self.label} was closed before the request ended", accepted=True)

    cdef dict info(self, const RequestPtr& request):
        """What became of a request that is done, and why; None when it never ran."""
        cdef const Explanation* explanation = &request.get().explanation
        if explanation.batch_rows == 0:
            return None
        return {
            "queue_us": explanation.queue_ns / 1e3,
            "hold_us": explanation.hold_ns / 1e3,
            "batch_rows": explanation.batch_rows,
            "bucket": self.feeds.bucket_of(request.get()),
            "padded_share": 1 - explanation.batch_rows / <double>explanation.padded_rows,
            "run_us": explanation.run_ns / 1e3,
            "predicted_us": explanation.predicted_ns / 1e3 if explanation.predicted_ns > 0 else None,
            "instance": explanation.instance,
            "dispatch_reason": name_of(explanation.reason),
            "rows": request.get().rows,
            "run": explanation.run,
            "instants_ns": (
                request.get().called, request.get().arrival, request.get().arrival + explanation.queue_ns,
                explanation.gathered, explanation.over, explanation.scattered),
        }

    cdef model_error(self, Request* target):
        text = target.failure.message.decode("utf-8", "replace")
        error = ModelError(self.explain(text))
        if target.failure.exception.get() != NULL:
            error.__cause__ = <object>target.failure.exception.get()
            target.failure.exception.reset()
            self.drain()  # nobody may do so after close()
        else:
            error.__cause__ = RuntimeError(text)
        return error


include "handle.pxi"
include "loop_sink.pxi"
include "stats.pxi"
include "scheduler.pxi"


cdef Nanos deadline_after(timeout) except? -1:
    """The instant `timeout` seconds from now."""
    if timeout is None:
        return kNever
    cdef double seconds = timeout
    # A century is as good as no deadline, and its nanoseconds fit.
    return monotonic_now() + <Nanos>(min(seconds, 3.2e9) * 1e9)


cdef void keep_for_good(const shared_ptr[Dispatcher]& dispatcher):
    new shared_ptr[Dispatcher](dispatcher)
