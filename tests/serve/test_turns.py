"""Turns: who waits gets one by the smallest key, and none is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from engine_helpers import PATIENCE_S, eventually, run_threads

from paddleinfer.errors import DeadlineExceeded, EngineClosed, ThreadStartError
from paddleinfer.serve import turns
from paddleinfer.serve.turns import TurnPool


class Noted:
    """A job that calls a function, or keeps the error that it is refused with."""

    def __init__(self, call: Callable[[], object], *, is_short: bool = False) -> None:
        self._call = call
        self.is_short = is_short
        self.refusal: Exception | None = None

    def run(self) -> bool:
        self._call()
        return True

    def refuse(self, error: Exception) -> None:
        self.refusal = error


def test_those_who_wait_come_by_their_keys_on_whatever_thread() -> None:
    pool, order = TurnPool("test", running=1, threads=1), list[int]()
    pool.take(0, None)

    def take(key_ns: int) -> None:
        pool.take(key_ns, None)
        order.append(key_ns)
        pool.leave()

    threads = []
    for place, key_ns in enumerate((30, 10, 50), start=1):
        threads.append(threading.Thread(target=take, args=(key_ns,)))
        threads[-1].start()
        assert eventually(lambda count=place: len(pool._waiters) == count)
    for key_ns in (40, 20, 60):
        pool.start([(key_ns, Noted(lambda key_ns=key_ns: order.append(key_ns)))])  # type: ignore[misc]
    pool.leave()
    assert eventually(lambda: len(order) == 6)
    assert order == [10, 20, 30, 40, 50, 60]
    for thread in threads:
        thread.join(PATIENCE_S)
    assert pool.close(PATIENCE_S)


def test_never_more_than_so_many_have_a_turn() -> None:
    pool = TurnPool("test", running=3, threads=2)
    lock, now, most, done = threading.Lock(), [0], [0], list[int]()

    def work() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        with lock:
            now[0] -= 1
            done.append(1)

    def use(number: int) -> None:
        for step in range(50):
            if number % 2:
                pool.take(step, None)
                work()
                pool.leave()
            else:
                pool.start([(step, Noted(work))])

    run_threads(16, use)
    assert eventually(lambda: len(done) == 16 * 50)
    assert most[0] <= 3
    assert pool.close(PATIENCE_S)


def test_who_gave_up_waiting_keeps_nobody_from_a_turn() -> None:
    pool = TurnPool("test", running=1, threads=1)
    pool.take(0, None)
    with pytest.raises(DeadlineExceeded, match="turn of test"):
        pool.take(1, deadline_ns=0)
    pool.leave()
    pool.take(2, None)
    pool.leave()
    assert pool.close(PATIENCE_S)


def test_an_interrupted_wait_gives_its_turn_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = TurnPool("test", running=1, threads=1)
    pool.take(0, None)

    class Interrupted(Exception):
        pass

    class Lock:
        def acquire(self, timeout: float) -> bool:
            pool.leave()  # the turn comes at the very moment
            raise Interrupted

        def release(self) -> None:
            pass

    def waiter() -> object:
        made = original()
        made.wake = Lock()  # type: ignore[assignment]
        return made

    original = turns._Waiter
    with monkeypatch.context() as patched:
        patched.setattr(turns, "_Waiter", waiter)
        with pytest.raises(Interrupted):
            pool.take(1, None)
    pool.take(2, deadline_ns=0)  # at once
    pool.leave()
    assert pool.close(PATIENCE_S)


def test_a_thread_that_cannot_be_started_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool, job = TurnPool("test", running=2, threads=2), Noted(int)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        pool.start([(1, job)])
    assert isinstance(job.refusal, ThreadStartError)
    assert "the service test" in str(job.refusal)
    ran = threading.Event()
    pool.start([(1, Noted(ran.set))])
    assert ran.wait(PATIENCE_S)
    assert pool.close(PATIENCE_S)


def test_close_refuses_jobs_that_wait_and_ends_the_threads() -> None:
    pool, job, began, opened = (
        TurnPool("test", running=1, threads=4),
        Noted(int),
        threading.Event(),
        threading.Event(),
    )

    def hold() -> None:
        began.set()
        assert opened.wait(PATIENCE_S)

    pool.start([(1, Noted(hold))])
    assert began.wait(PATIENCE_S)
    pool.start([(2, job)])
    assert not pool.close(0)
    assert isinstance(job.refusal, EngineClosed)
    with pytest.raises(EngineClosed):
        pool.take(3, None)
    late = Noted(int)
    assert not pool.start([(3, late)])
    assert isinstance(late.refusal, EngineClosed)
    opened.set()
    assert eventually(lambda: not pool._workers)


def test_short_jobs_are_left_to_the_thread_that_runs_one() -> None:
    pool, threads = TurnPool("test", running=4, threads=4), list[str]()
    began, opened, over = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        assert opened.wait(PATIENCE_S)

    def note() -> None:
        threads.append(threading.current_thread().name)

    assert not pool.start([(1, Noted(hold, is_short=True))])
    assert began.wait(PATIENCE_S)
    shorts = [(key_ns, Noted(note, is_short=True)) for key_ns in range(2, 10)]
    assert pool.start([*shorts, (10, Noted(over.set, is_short=True))])
    assert (len(pool._jobs), len(pool._workers)) == (9, 1)
    opened.set()
    assert over.wait(PATIENCE_S)
    assert len(threads) == 8
    assert len(pool._workers) == 1
    assert pool.close(PATIENCE_S)


def test_a_long_job_does_not_wait_behind_short_ones() -> None:
    pool = TurnPool("test", running=4, threads=4)
    began, opened, over = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        assert opened.wait(PATIENCE_S)

    pool.start([(1, Noted(hold, is_short=True))])
    assert began.wait(PATIENCE_S)
    assert not pool.start([(2, Noted(over.set))])
    assert over.wait(PATIENCE_S)
    opened.set()
    assert pool.close(PATIENCE_S)


def test_a_short_job_does_not_wait_behind_a_long_one() -> None:
    pool = TurnPool("test", running=4, threads=4)
    began, opened, over = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        assert opened.wait(PATIENCE_S)

    pool.start([(1, Noted(hold))])
    assert began.wait(PATIENCE_S)
    assert not pool.start([(2, Noted(over.set, is_short=True))])
    assert over.wait(PATIENCE_S)
    opened.set()
    assert pool.close(PATIENCE_S)


def test_jobs_behind_one_that_was_not_short_get_further_threads_at_the_second_look() -> None:
    pool, opened = TurnPool("test", running=4, threads=4), threading.Event()
    began, over = [threading.Event() for _ in range(4)], threading.Event()

    def hold(place: int) -> None:
        began[place].set()
        assert opened.wait(PATIENCE_S)

    jobs = [(place, Noted(lambda place=place: hold(place), is_short=True)) for place in range(4)]  # type: ignore[misc]
    assert pool.start([*jobs, (9, Noted(over.set, is_short=True))])
    assert began[0].wait(PATIENCE_S)
    assert pool.look()  # one was begun since the look before
    assert not any(event.is_set() for event in began[1:])
    assert pool.look()  # none was: there are three more turns, and the last job has to wait
    assert all(event.wait(PATIENCE_S) for event in began[1:])
    assert not over.is_set()
    opened.set()
    assert over.wait(PATIENCE_S)
    assert not pool.look()
    assert pool.close(PATIENCE_S)


def test_who_leaves_a_turn_around_a_wait_keeps_no_short_job_from_a_thread() -> None:
    pool = TurnPool("test", running=4, threads=4)
    began, opened, over, back = (threading.Event() for _ in range(4))

    def hold() -> None:
        pool.leave()
        began.set()
        assert opened.wait(PATIENCE_S)
        pool.take(1, None)
        back.set()

    pool.start([(1, Noted(hold, is_short=True))])
    assert began.wait(PATIENCE_S)
    assert not pool.start([(2, Noted(over.set, is_short=True))])
    assert over.wait(PATIENCE_S)
    opened.set()
    assert back.wait(PATIENCE_S)
    assert pool.close(PATIENCE_S)
