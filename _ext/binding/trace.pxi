# What an engine has done of late, as plain data.

OUTCOMES = ("none", "result", "error", "cancelled", "expired", "shed", "closed")  # as request.h has them

cdef class TraceRing:
    """The last `capacity` requests and runs of an engine; 0 records nothing. All its cores write to one."""
    cdef shared_ptr[Trace] trace

    def __init__(self, size_t capacity):
        self.trace = make_shared[Trace](capacity)

    def keep(self, size_t capacity):
        """From now on so many."""
        with nogil:
            self.trace.get().keep(capacity)

    def recorded(self):
        """How many (requests, runs) have been recorded."""
        cdef pair[uint64_t, uint64_t] counts = self.trace.get().recorded()
        return (counts.first, counts.second)

    def requests_since(self, uint64_t recorded):
        """(number, run, called, arrival, started, gathered, over, scattered, delivered, hold_ns, rows, outcome)."""
        cdef TracedRequest r
        return [
            (r.number, r.run, r.called, r.arrival, r.started, r.gathered, r.over, r.scattered, r.delivered,
             r.hold_ns, r.rows, name_of_outcome(r.outcome))
            for r in self.trace.get().requests_since(recorded)
        ]

    def runs_since(self, uint64_t recorded):
        """(number, instance, began, gathered, over, scattered, rows, padded_rows, requests, queued_requests,
        reason, failed)."""
        cdef TracedRun r
        return [
            (r.number, r.instance, r.began, r.gathered, r.over, r.scattered, r.rows, r.padded_rows, r.requests,
             r.queued_requests, name_of(r.reason), r.failed)
            for r in self.trace.get().runs_since(recorded)
        ]


cdef str name_of_outcome(Outcome outcome):
    cdef Py_ssize_t place = <Py_ssize_t><unsigned char>outcome
    return OUTCOMES[place]
