# The scheduler by itself, driven by hand: for tests and simulation. Time is an argument, and nothing runs.

cdef class Scheduler:
    """The scheduler that engines use, without threads, clocks or tensors.

    Requests are numbers that the caller chooses; times are nanoseconds on whatever clock the caller keeps.

    Parameters
    ----------
    batching
        The BatchingOptions, as of Core. Whether a request waits for room is said with each one.
    instances
        How many there are; `next` is for one of them that is idle.
    merging
        As of Core.
    """
    cdef shared_ptr[CppScheduler] scheduler
    cdef dict requests  # number -> RequestHolder, until it has left
    cdef dict batches
    cdef object next_batch

    def __init__(self, batching, *, int64_t instances=1, str merging="yes"):
        self.scheduler = make_shared[CppScheduler](scheduler_options(batching, merging))
        self.scheduler.get().set_instances(instances)
        self.requests = {}
        self.batches = {}
        self.next_batch = 0

    def admit(self, number, now, *, rows=1, bytes=0, bucket=0, deadline=None, priority=1,
              wait_when_full=False):
        """One of ADMISSIONS. Requests of one `bucket` (a number) may share a batch."""
        cdef RequestHolder holder = RequestHolder.__new__(RequestHolder)
        cdef Request* request
        cdef TensorView view
        holder.request = make_shared[Request]()
        holder.number = number
        request = holder.request.get()
        view.shape.rank = 2
        view.shape.dims[0] = rows
        view.shape.dims[1] = bucket
        request.inputs.push_back(view)
        request.signature = signature_of(request.inputs, False)
        request.rows = rows
        request.bytes = bytes
        request.deadline = kNever if deadline is None else <Nanos>deadline
        request.priority = priority
        request.waits_for_room = wait_when_full
        request.waiter = <void*>holder
        cdef Py_ssize_t place = <Py_ssize_t><unsigned char>self.scheduler.get().admit(holder.request, now)
        admission = ADMISSIONS[place]
        if admission in ("accepted", "waits_for_room"):
            self.requests[number] = holder
        return admission

    def plan(self, now):
        """(instances that have something to do now, when there may be something for one or None)."""
        cdef Plan plan = self.scheduler.get().plan(now)
        return plan.instances, None if plan.wake_at == kNever else plan.wake_at

    def next(self, now):
        """Tells an idle instance what to do, as a Batch; its `number` is None if there is nothing."""
        cdef Decision decision = self.scheduler.get().next(now)
        cdef Batch batch = Batch.__new__(Batch)
        cdef size_t place
        batch.slices = []
        batch.late = []
        for request in decision.expired:
            batch.late.append((holder_of(request).number, "expired"))
        for request in decision.shed:
            batch.late.append((holder_of(request).number, "shed"))
        for number, _ in batch.late:
            del self.requests[number]
        batch.wake_at = None if decision.wake_at == kNever else decision.wake_at
        if decision.batch.empty():
            return batch
        self.next_batch += 1
        batch.number = self.next_batch
        batch.rows = rows_of(decision.batch)
        batch.reason = reason_name(decision.reason)
        batch.predicted_ns = decision.predicted_ns
        batch.delayed_since = None if decision.delayed_since == kNever else decision.delayed_since
        batch.delayed_until = None if decision.delayed_since == kNever else decision.delayed_until
        batch.batch = decision.batch
        self.batches[batch.number] = batch
        batch.holders = []
        for place in range(decision.batch.size()):
            batch.holders.append(holder_of(decision.batch[place].request))
            batch.slices.append((holder_of(decision.batch[place].request).number,
                                 decision.batch[place].first_row, decision.batch[place].rows))
        return batch

    def done(self, batch, run_ns, now, *, failed=False, runs=None):
        """The batch has run. Requests that are over with it.

        `runs`: (rows, run_ns, failed, out_of_memory) of each run that it took, where that was not one of all rows.
        """
        cdef Batch holder = self.batches.pop(batch)
        cdef vector[RunRecord] all_runs
        cdef RunRecord run
        cdef size_t place
        if runs is None:
            runs = ((rows_of(holder.batch), run_ns, failed, False),)
        for run.rows, run.run_ns, run.failed, run.out_of_memory in runs:
            all_runs.push_back(run)
        self.scheduler.get().done(holder.batch, all_runs, now)
        over = []
        for place in range(holder.batch.size()):
            if holder.batch[place].request.get().rows_unfinished == 0:
                number = holder_of(holder.batch[place].request).number
                if self.requests.pop(number, None) is not None:
                    over.append(number)
        return over

    def forget(self, number, now):
        """The request has ended early: what waits of it is given back. False when nothing waits."""
        cdef RequestHolder holder = self.requests.get(number)
        if holder is None or not self.scheduler.get().forget(holder.request.get()[0], now):
            return False
        if holder.request.get().rows_unfinished == 0:
            del self.requests[number]
        return True

    def load(self):
        """Returns what waits and runs now."""
        cdef CppScheduler* scheduler = self.scheduler.get()
        return {
            "queued_requests": scheduler.queued_requests(),
            "queued_rows": scheduler.queued_rows(),
            "queued_bytes": scheduler.queued_bytes(),
            "running_batches": scheduler.running_batches(),
            "waiting_for_room": scheduler.waiting_for_room(),
            "drain_ns": scheduler.predicted_drain_ns(),
            "offered_work_ns": scheduler.offered_work_ns(),
        }


cdef class RequestHolder:
    """A request of a Scheduler, and the number its caller chose."""
    cdef RequestPtr request
    cdef object number


cdef class Batch:
    """A decision of a Scheduler.

    Attributes
    ----------
    number
        Of the batch; None when there is nothing to run.
    slices
        (request, first row, rows) of each request in it.
    late
        (request, "expired" or "shed") of requests that will not run.
    delayed_since, delayed_until
        While an idle instance held it back for others to join; None: not at all.
    wake_at
        When to look again if nothing happens before; None: not at all.
    """
    cdef vector[Slice] batch
    cdef readonly object number
    cdef readonly int64_t rows
    cdef readonly list slices
    cdef readonly list late
    cdef readonly object wake_at
    cdef readonly str reason
    cdef readonly int64_t predicted_ns
    cdef readonly object delayed_since
    cdef readonly object delayed_until
    cdef list holders  # of its requests: one that ended early may still run


cdef RequestHolder holder_of(const RequestPtr& request):
    return <RequestHolder>request.get().waiter


cdef SchedulerOptions scheduler_options(batching, str merging) except *:
    """Makes the scheduler's options from a BatchingOptions."""
    cdef SchedulerOptions options
    cdef object delay_us = batching.max_queue_delay_us
    if batching.policy == "eager":
        options.policy = Policy.eager
    elif batching.policy == "fixed_delay":
        options.policy = Policy.fixed_delay
    options.max_batch_size = batching.most_rows
    options.preferred_sizes = batching.preferred_batch_sizes
    options.max_queue_rows = batching.max_queue_rows
    options.max_queue_bytes = batching.max_queue_bytes
    options.max_delay = kNever if delay_us is None else <Nanos>(delay_us * 1000)
    options.merging = Merging.probe
    if merging == "yes":
        options.merging = Merging.yes
    elif merging == "no":
        options.merging = Merging.no
    return options
