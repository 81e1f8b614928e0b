# What an engine has counted, as plain data.

cdef dict stats_of(Dispatcher* dispatcher):
    cdef const Counters* counters = &dispatcher.counters()
    cdef Load load = dispatcher.load()
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
        "batch_rows": dict(load.batch_rows),
        "inline_executions": counters.inline_executions.load(),
        "queue_ns": counters.queue_ns.load(),
        "gather_ns": counters.gather_ns.load(),
        "run_ns": counters.run_ns.load(),
        "scatter_ns": counters.scatter_ns.load(),
        "result_ns": counters.result_ns.load(),
        "queued_requests": load.queued_requests,
        "queued_rows": load.queued_rows,
        "queued_bytes": load.queued_bytes,
        "requests_waiting_for_room": load.waiting_for_room,
        "running_executions": load.running_batches,
    }
