# What an engine has counted, as plain data.

cdef dict stats_of(Dispatcher* dispatcher):
    cdef const Counters* counters = &dispatcher.counters()
    cdef EngineSnapshot snapshot = dispatcher.snapshot()
    return {
        "requests": counters.requests.load(),
        "rows": counters.rows.load(),
        "results": counters.results.load(),
        "errors": counters.errors.load(),
        "cancelled": counters.cancelled.load(),
        "expired": counters.expired.load(),
        "shed": counters.shed.load(),
        "closed": counters.closed.load(),
        "refused": counters.refused.load(),
        "executions": counters.executions.load(),
        "executed_rows": counters.executed_rows.load(),
        "batch_rows": dict(snapshot.batch_rows),
        "internal_runs": counters.internal_runs.load(),
        "verified_requests": counters.verified_requests.load(),
        "verification_failures": counters.verification_failures.load(),
        "inline_executions": counters.inline_executions.load(),
        "queue_ns": counters.queue_ns.load(),
        "gather_ns": counters.gather_ns.load(),
        "run_ns": counters.run_ns.load(),
        "scatter_ns": counters.scatter_ns.load(),
        "result_ns": counters.result_ns.load(),
        "queue_ns_counts": durations_of(&counters.queue_durations),
        "result_ns_counts": durations_of(&counters.result_durations),
        "queued_requests": snapshot.queued_requests,
        "queued_rows": snapshot.queued_rows,
        "queued_bytes": snapshot.queued_bytes,
        "requests_waiting_for_room": snapshot.waiting_for_room,
        "running_executions": snapshot.running_batches,
    }


cdef dict durations_of(const DurationHistogram* histogram):
    """Upper bound in nanoseconds -> how many were as long, and longer than the bound before."""
    cdef dict counts = {}
    cdef size_t bucket = 0
    while not DurationHistogram.is_last(bucket):
        counts[DurationHistogram.bound(bucket)] = histogram.count(bucket)
        bucket += 1
    counts[float("inf")] = histogram.count(bucket)
    return counts
