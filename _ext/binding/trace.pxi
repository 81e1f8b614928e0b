# The last requests and runs of an engine, as plain data.

cdef class TraceRing:
    """The last `capacity` requests and runs of an engine; 0 records nothing. All its cores write to one."""
    cdef shared_ptr[Trace] trace

    def __init__(self, size_t capacity):
        self.trace = make_shared[Trace](capacity)

    def keep(self, size_t capacity):
        """Keeps so many from now on."""
        with nogil:
            self.trace.get().keep(capacity)

    def recorded(self):
        """How many (requests, runs) have been recorded."""
        cdef pair[uint64_t, uint64_t] counts = self.trace.get().recorded()
        return (counts.first, counts.second)

    def requests_since(self, uint64_t recorded):
        """(number, run, call_time, arrival, started, gather_end, run_end, scatter_end, delivered, hold_ns, rows,
        outcome)."""
        cdef TracedRequest r
        return [
            (r.number, r.run, r.call_time, r.arrival, r.started, r.gather_end, r.run_end, r.scatter_end, r.delivered,
             r.hold_ns, r.rows, outcome_name(r.outcome))
            for r in self.trace.get().requests_since(recorded)
        ]

    def runs_since(self, uint64_t recorded):
        """(number, instance, began, gather_end, run_end, scatter_end, rows, padded_rows, requests, queued_requests,
        reason, failed, bucket)."""
        cdef TracedRun r
        return [
            (r.number, r.instance, r.began, r.gather_end, r.run_end, r.scatter_end, r.rows, r.padded_rows, r.requests,
             r.queued_requests, reason_name(r.reason), r.failed, r.bucket)
            for r in self.trace.get().runs_since(recorded)
        ]
