# What an engine has counted, as plain data.

cdef dict stats_of(Dispatcher* dispatcher):
    cdef const Counters* counters = &dispatcher.counters()
    # Not in a loop's head: Cython takes any values() there for that of a dict.
    cdef vector[pair[const char*, int64_t]] values = counters.values()
    cdef EngineSnapshot snapshot = dispatcher.snapshot()
    return {
        **{values[place].first.decode(): values[place].second for place in range(values.size())},
        "batch_rows": dict(snapshot.batch_rows),
        "cache_evictions": snapshot.cache_evictions,
        "offered_work_ns": <int64_t>snapshot.offered_work_ns,
        "queue_ns_counts": durations_of(&counters.queue_durations),
        "result_ns_counts": durations_of(&counters.result_durations),
        "queued_requests": snapshot.queued_requests,
        "queued_rows": snapshot.queued_rows,
        "queued_bytes": snapshot.queued_bytes,
        "predicted_drain_ns": <int64_t>snapshot.drain_ns,
        "requests_waiting_for_room": snapshot.waiting_for_room,
        "running_executions": snapshot.running_batches,
        "cache_entries": snapshot.cache_entries,
        "cache_bytes": snapshot.cache_bytes,
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
