"""Turns in order of deadlines: so many functions run at once, on the pool's threads or their callers'."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Sequence
from time import monotonic_ns
from typing import Final, Protocol

from paddleinfer.errors import DeadlineExceeded, EngineClosed, ThreadStartError

__all__ = ["Job", "TurnPool"]

_FOREVER: Final = -1


class Job(Protocol):
    """What a thread of the pool does. Neither of its methods raises."""

    is_short: bool
    """It is expected to be over about as soon as another thread would be awake."""

    def run(self) -> bool:
        """Does it on a thread that has a turn; whether it has it still."""

    def refuse(self, error: Exception) -> None:
        """It will never be run."""


_Refused = tuple[list[tuple[int, int, Job]], Exception] | None


class _Waiter:
    """A thread that waits for its turn."""

    __slots__ = ("has_turn", "is_over", "wake")

    def __init__(self) -> None:
        self.wake = threading.Lock()
        self.wake.acquire()
        self.has_turn = False
        self.is_over = False  # it waits no longer


class _Worker:
    """A thread of the pool."""

    __slots__ = ("begun", "begun_at_look", "is_at_it", "job", "thread", "wake")

    def __init__(self) -> None:
        self.wake = threading.Lock()
        self.wake.acquire()
        self.job: Job | None = None
        self.thread: threading.Thread | None = None
        self.is_at_it = False
        """It runs a job, and is not just about to."""
        self.begun = 0
        self.begun_at_look = 0

    def is_stuck(self) -> bool:
        """Whether it is still at the job that it was at when this was last asked."""
        last, self.begun_at_look = self.begun_at_look, self.begun
        return self.is_at_it and self.begun == last


class TurnPool:
    """At most `running` have a turn at once; who waits gets the next one by the smallest key.

    A caller's own thread takes a turn by take() and gives it back by leave(). A job is started on a thread of
    the pool, of which there are at most `threads`, and has a turn then. Either may leave its turn and take
    another, around a wait.

    While a thread runs a short job, further short ones are left to it: to wake a thread for each would take
    longer. Whoever starts such jobs looks again while some wait, by look(), which finds a job that was not
    short after all.
    """

    def __init__(self, name: str, running: int, threads: int) -> None:
        self._name = name
        self._most_running = running
        self._most_threads = threads
        self._lock = threading.RLock()  # a signal's handler may call close()
        self._running = 0
        self._order = itertools.count()
        self._waiters: list[tuple[int, int, _Waiter]] = []
        self._jobs: list[tuple[int, int, Job]] = []
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._short: dict[int | None, _Worker] = {}
        """Those that have a turn for a short job, by their threads."""
        self._is_closed = False

    def take(self, key_ns: int, deadline_ns: int | None) -> None:
        """Waits for a turn.

        Raises
        ------
        DeadlineExceeded
            None came before the deadline, an instant of ``time.monotonic_ns``.
        EngineClosed
            The pool was closed meanwhile.
        """
        with self._lock:
            if self._is_closed:
                raise self._closed()
            if self._running < self._most_running and not self._waiters:
                self._running += 1
                return
            waiter = _Waiter()
            heapq.heappush(self._waiters, (key_ns, next(self._order), waiter))
            refused = self._hand_out()  # those before it may be over
        _refuse(refused)
        try:
            waiter.wake.acquire(timeout=_left_s(deadline_ns))
        except BaseException:  # of a signal's handler
            self._give_up(waiter)
            raise
        with self._lock:
            waiter.is_over = True
            has_turn, is_closed = waiter.has_turn, self._is_closed
        if not has_turn:
            if is_closed:
                raise self._closed()
            raise DeadlineExceeded(f"the deadline passed while the request waited for a turn of {self._name}")

    def _give_up(self, waiter: _Waiter) -> None:
        with self._lock:
            waiter.is_over = True
        if waiter.has_turn:
            self.leave()

    def leave(self) -> None:
        """Gives a turn back."""
        with self._lock:
            self._running -= 1
            self._short.pop(threading.get_ident(), None)
            refused = self._hand_out()
        _refuse(refused)

    def start(self, jobs: Sequence[tuple[int, Job]]) -> bool:
        """Has jobs run on threads of the pool when their turns come, each by its key in nanoseconds.

        A job is refused where its turn never will come. Returns whether any still waits for its turn.
        """
        with self._lock:
            if self._is_closed:
                refused: _Refused = [(key_ns, 0, job) for key_ns, job in jobs], self._closed()
            else:
                for key_ns, job in jobs:
                    heapq.heappush(self._jobs, (key_ns, next(self._order), job))
                refused = self._hand_out()
            is_left = bool(self._jobs)
        _refuse(refused)
        return is_left

    def look(self) -> bool:
        """Where a thread is still at the short job that it was at in the last look, jobs get further threads.

        Returns whether any still waits for its turn.
        """
        refused = None
        with self._lock:
            if any([worker.is_stuck() for worker in self._short.values()]):
                self._short.clear()
                refused = self._hand_out(leaves_short=False)
            is_left = bool(self._jobs)
        _refuse(refused)
        return is_left

    def _hand_out(self, leaves_short: bool = True) -> _Refused:
        """Turns to those whose they are; under the lock. What it gives is to be refused outside of it."""
        while self._running < self._most_running:
            while self._waiters and self._waiters[0][2].is_over:
                heapq.heappop(self._waiters)
            can_start = bool(self._jobs) and (self._idle or len(self._workers) < self._most_threads)
            if can_start and self._short and self._jobs[0][2].is_short:
                can_start = False  # left to those threads
            if self._waiters and not (can_start and self._jobs[0][:2] < self._waiters[0][:2]):
                waiter = heapq.heappop(self._waiters)[2]
                waiter.has_turn = True
                self._running += 1
                waiter.wake.release()
            elif can_start:
                error = None if self._idle else self._add_worker()
                if error is not None:
                    if self._workers:  # one of them comes to it
                        return None
                    jobs, self._jobs = self._jobs, []
                    return jobs, error
                worker = self._idle.pop()
                worker.job = heapq.heappop(self._jobs)[2]
                self._running += 1
                if leaves_short and worker.job.is_short:
                    assert worker.thread is not None
                    self._short[worker.thread.ident] = worker
                worker.wake.release()
            else:
                return None
        return None

    def _add_worker(self) -> ThreadStartError | None:
        worker = _Worker()
        worker.thread = threading.Thread(
            target=self._work, args=(worker,), name=f"paddleinfer-{self._name}", daemon=True
        )
        try:
            worker.thread.start()
        except RuntimeError as error:
            return ThreadStartError.of(f"the service {self._name}", error)
        self._workers.add(worker)
        self._idle.append(worker)
        return None

    def _work(self, worker: _Worker) -> None:
        while True:
            worker.wake.acquire()
            job, worker.job = worker.job, None
            if job is None:
                return
            worker.begun += 1
            worker.is_at_it = True
            has_turn = job.run()
            worker.is_at_it = False
            del job
            with self._lock:
                self._running -= has_turn
                self._short.pop(threading.get_ident(), None)
                is_over = self._is_closed
                if is_over:
                    self._workers.discard(worker)
                else:
                    self._idle.append(worker)
                refused = self._hand_out()
            _refuse(refused)
            if is_over:
                return

    def _closed(self) -> EngineClosed:
        return EngineClosed(f"the service {self._name} is closed")

    def close(self, timeout_s: float | None) -> bool:
        """Ends the threads; who still waits for a turn gets EngineClosed. Whether all threads have ended."""
        with self._lock:
            self._is_closed = True
            for _, _, waiter in self._waiters:
                if not waiter.is_over:
                    waiter.wake.release()
            self._waiters.clear()
            jobs, self._jobs = self._jobs, []
            workers = list(self._workers)
            idle, self._idle = self._idle, []
            for worker in idle:
                self._workers.discard(worker)
                worker.wake.release()
        _refuse((jobs, self._closed()))
        deadline_ns = None if timeout_s is None else monotonic_ns() + int(timeout_s * 1e9)
        for worker in workers:
            thread = worker.thread
            if thread is None or thread is threading.current_thread():
                continue
            left_s = _left_s(deadline_ns)
            thread.join(None if left_s == _FOREVER else left_s)
        return not any(worker.thread is not None and worker.thread.is_alive() for worker in workers)


def _refuse(refused: _Refused) -> None:
    if refused is not None:
        jobs, error = refused
        for _, _, job in jobs:
            job.refuse(error)


def _left_s(deadline_ns: int | None) -> float:
    """Until an instant; -1, as a lock's timeout has it, for no end."""
    if deadline_ns is None:
        return _FOREVER
    return max(0.0, min((deadline_ns - monotonic_ns()) / 1e9, threading.TIMEOUT_MAX))
