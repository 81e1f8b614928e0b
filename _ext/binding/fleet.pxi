# Replicas behind a router on a simulated clock: for simulation alone.

ROUTINGS = tuple(name_of_routing(<Routing><unsigned char>place).decode() for place in range(kRoutings))


cdef class Fleet:
    """Replicas, each of which a scheduler drives as it does an engine, and a router before them.

    Times are nanoseconds. What is called and how it ended is written into the caller's arrays.

    Parameters
    ----------
    batching
        The BatchingOptions of each replica.
    routing
        One of ROUTINGS.
    stale_ns, network_ns
        How old the router's figures are; how long a request, and an answer, travels.
    run_ns, scales, spreads
        By rows from 0 on: the mean of a run, and what makes it of a deviation: scale * exp(spread * deviation).
    classes
        (rows, nanoseconds to the deadline or None, priority, bucket) of each class of requests.
    offsets_ns, class_of
        When each request comes, or how long its caller thinks before it (int64), and its class (int32).
    called, ended
        When each came, and when it ended or else one of the ENDED_ codes of this class (int64).
    """
    ENDED_LEFT = -2
    ENDED_REFUSED = -3
    ENDED_SHED = -4
    ENDED_EXPIRED = -5

    cdef unique_ptr[CppFleet] fleet
    cdef tuple arrays  # whose memory it uses

    def __init__(self, batching, *, int64_t instances, str routing, uint64_t seed, int64_t stale_ns, int64_t network_ns,
                 bint drains, bint warm, run_ns, scales, spreads, classes, cnp.ndarray offsets_ns, cnp.ndarray class_of,
                 cnp.ndarray called, cnp.ndarray ended, size_t callers):
        cdef FleetOptions options
        cdef RequestClass request_class
        cdef Calls calls
        options.scheduler = scheduler_options(batching, "yes")
        options.instances = instances
        options.routing = <Routing><unsigned char>ROUTINGS.index(routing)
        options.seed = seed
        options.stale_ns = stale_ns
        options.network_ns = network_ns
        options.drains = drains
        options.warm = warm
        options.run_ns = run_ns
        options.scales = scales
        options.spreads = spreads
        for rows, allowed_ns, priority, bucket in classes:
            request_class.rows = rows
            request_class.allowed_ns = kNever if allowed_ns is None else <Nanos>allowed_ns
            request_class.priority = priority
            request_class.bucket = bucket
            options.classes.push_back(request_class)
        if min(len(run_ns), len(scales), len(spreads)) <= batching.most_rows:
            raise ValueError(f"a Fleet takes the times of runs of up to {batching.most_rows} rows")
        self.arrays = (offsets_ns, class_of, called, ended)
        calls.count = len(offsets_ns)
        calls.callers = callers
        calls.offsets_ns = <const int64_t*>data_of(offsets_ns, cnp.NPY_INT64, calls.count)
        calls.class_of = <const int32_t*>data_of(class_of, cnp.NPY_INT32, calls.count)
        calls.called = <int64_t*>data_of(called, cnp.NPY_INT64, calls.count)
        calls.ended = <int64_t*>data_of(ended, cnp.NPY_INT64, calls.count)
        self.fleet.reset(new CppFleet(options, calls))

    def add_replica(self, int64_t opens_at=0, *, double run_factor=1.0):
        """Starts one, which takes requests from then on, or at once. Its runs take `run_factor` times as long."""
        self.fleet.get().add_replica(opens_at, run_factor)

    def remove_replica(self):
        """Gives up one that is starting, or drains the newest that is open; the last one stays."""
        self.fleet.get().remove_replica()

    def feed(self, cnp.ndarray deviations):
        """Has the next runs deviate from their means by these numbers (float64)."""
        cdef size_t count = len(deviations)
        self.fleet.get().feed(<const double*>data_of(deviations, cnp.NPY_FLOAT64, count), count)

    def run(self, until=None):
        """Goes on to that time. "time"; or before "over", nothing is left, or "deviations", feed() is wanted."""
        cdef Nanos limit = kNever if until is None else <Nanos>until
        cdef Pause pause = Pause.steps
        if self.fleet.get().open_replicas() == 0:
            raise ValueError("a Fleet runs with at least one replica that takes requests")
        while pause == Pause.steps:
            pause = self.fleet.get().run(limit, 4096)
            PyErr_CheckSignals()
        return "over" if pause == Pause.over else "time" if pause == Pause.time else "deviations"

    def figures(self):
        """Returns what has happened so far, over all replicas."""
        cdef CppFleet* fleet = self.fleet.get()
        return {
            "now": fleet.now(),
            "offered": fleet.offered(),
            "open": fleet.open_replicas(),
            "starting": fleet.starting_replicas(),
            "rows_accepted": fleet.rows_accepted(),
            "rows_run": fleet.rows_run(),
            "busy_ns": fleet.busy_ns(),
            "replica_ns": fleet.replica_ns(),
            "offered_work_ns": fleet.offered_work_ns(),
            "waiting_work_ns": fleet.waiting_work_ns(),
        }

    def reasons(self):
        """Why batches went -> how many did."""
        return {reason: self.fleet.get().reason_count(place) for place, reason in enumerate(DISPATCH_REASONS)
                if self.fleet.get().reason_count(place)}


cdef void* data_of(cnp.ndarray array, int dtype, size_t count) except NULL:
    """Of a one-dimensional array of so many numbers of this type, one after the other."""
    if cnp.PyArray_TYPE(array) != dtype or array.ndim != 1 or not cnp.PyArray_IS_C_CONTIGUOUS(array):
        raise TypeError("a Fleet takes one-dimensional arrays of numbers, of the types that it names")
    if <size_t>len(array) != count:
        raise ValueError(f"a Fleet takes arrays of one length, not {len(array)} and {count}")
    return cnp.PyArray_DATA(array)
