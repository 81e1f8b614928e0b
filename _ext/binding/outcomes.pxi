# What a request gives its caller: results, an error, or why it was refused.

cdef result_of(Core core, const RequestPtr& request, timeout, outputs):
    """Returns the results of a request that is done, or raises its error. The outputs go to the first call."""
    cdef Request* target = request.get()
    cdef size_t place
    if target.outcome == Outcome.result:
        names = core.output_names if outputs is None else outputs
        results = {}
        for place in range(target.outputs.size()):
            results[names[place]] = array_of(target.outputs[place])
        core.trace.get().record(target[0])
        return results
    core.trace.get().record(target[0])
    if target.outcome == Outcome.error:
        raise model_error(core, target)
    if target.outcome == Outcome.expired:
        raise DeadlineExceeded(f"no result within {timeout:g} s")
    if target.outcome == Outcome.shed:
        raise DeadlineExceeded(shed_because(timeout, target.needs_ns), shed=True)
    if target.outcome == Outcome.cancelled:
        raise Cancelled("the request was cancelled")
    raise EngineClosed(f"{core.label} was closed before the request ended", accepted=True)


cdef dict info_of(Core core, const RequestPtr& request):
    """Describes what became of a request that is done, and why; None if it never ran."""
    cdef const Explanation* explanation = &request.get().explanation
    cdef cbool ran = explanation.batch_rows > 0
    if not explanation.is_known():
        return None
    return {
        "queue_us": explanation.queue_ns / 1e3,
        "hold_us": explanation.hold_ns / 1e3,
        "batch_rows": explanation.batch_rows,
        "bucket": core.feeds.bucket_of(request.get()),
        "padded_share": 1 - explanation.batch_rows / <double>explanation.padded_rows if ran else 0.0,
        "run_us": explanation.run_ns / 1e3,
        "predicted_us": explanation.predicted_ns / 1e3 if explanation.predicted_ns > 0 else None,
        "instance": explanation.instance,
        "dispatch_reason": reason_name(explanation.reason),
        "rows": request.get().rows,
        "run": explanation.run,
        "instants_ns": (
            request.get().call_time, request.get().arrival, request.get().arrival + explanation.queue_ns,
            explanation.gather_end, explanation.run_end, explanation.scatter_end),
    }


cdef model_error(Core core, Request* target):
    text = target.failure.message.decode("utf-8", "replace")
    if not says_out_of_memory(target.failure.message):
        error = ModelError(core.explain(text))
    elif text in BARELY_OUT_OF_MEMORY:
        why = "" if text == BARELY_OUT_OF_MEMORY[0] else f" ({text})"
        error = OutOfMemory(
            f"there was not enough memory to run this request{why}; one of fewer rows, or a lower "
            "max_batch_size, needs less")
    else:
        error = OutOfMemory(core.explain(text))
    if target.failure.exception.get() != NULL:
        error.__cause__ = <object>target.failure.exception.get()
        target.failure.exception.reset()
        core.drain()  # nobody may do so after close()
    else:
        error.__cause__ = RuntimeError(text)
    return error


cdef refusal_of(Core core, const RequestPtr& request, cbool open, Admission admission):
    """The error for a request that was not queued, whose inputs are still this thread's."""
    cdef QueueSnapshot* snapshot = &request.get().refused_by
    cdef double retry_after_s = max(0.001, snapshot.drain_ns / 1e9)
    cdef int64_t rows = max(request.get().rows, request.get().rows_together)
    cdef size_t bytes = max(request.get().bytes, request.get().bytes_together)
    core.take_inputs_back(request)
    if not open:
        return EngineClosed(f"{core.label} is closed")
    if admission == Admission.out_of_memory:
        return OutOfMemory(f"{core.label} has no memory to queue the request; later there may be some")
    if admission == Admission.bytes_over_limit:
        return InvalidInput(
            f"the request has {bytes} bytes of input, and max_queue_bytes={core.max_queue_bytes} lets no more "
            "than that wait; send it in parts, as infer_many takes them")
    if admission == Admission.too_many_rows and rows > core.max_queue_rows:
        return QueueFull(
            f"the request has {rows} rows, and with max_queue_rows={core.max_queue_rows} so many are taken only "
            "while nothing else waits, as others did; send it in parts, as infer_many takes them", retry_after_s)
    if admission == Admission.would_be_late:
        return QueueFull(
            f"{core.label} is too busy to give a result before this request's deadline: "
            f"{snapshot.queued_rows} rows wait and {snapshot.running_batches} batches run", retry_after_s)
    return QueueFull(
        f"{core.label} has {snapshot.queued_rows} rows and {snapshot.queued_bytes} bytes waiting, "
        "and its queue is full", retry_after_s)


cdef str shed_because(timeout, Nanos needs_ns):
    given = f"dropped before it ran: no result could be there within {timeout:g} s"
    return f"{given}, because it is predicted to take {needs_ns / 1e9:.3g} s" if needs_ns > 0 else f"{given} any more"
