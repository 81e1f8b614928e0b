"""Between event loops and threads: work of a loop's task on a thread, and coroutines for a plain caller."""

from __future__ import annotations

import abc
import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final

from paddleinfer.errors import EngineClosed, ServiceError, ThreadStartError
from paddleinfer.serve.run import Run
from paddleinfer.serve.turns import Job, TurnPool

__all__ = ["LoopJob", "LoopThread", "Mail", "PoolJob"]

_log = logging.getLogger("paddleinfer.serve")

# Of a job that was not short after all, those behind it wait this long, or twice.
_LOOK_S: Final = 0.002


class Mail:
    """Jobs and their ends, between one event loop and the threads of a pool.

    Jobs of one turn of the loop are started together when it ends; ends of one moment come by one wake-up.
    """

    def __init__(self, pool: TurnPool) -> None:
        self._pool = pool
        self._starts: list[tuple[int, Job]] = []
        self._ends: deque[tuple[LoopJob, Any, Exception | None]] = deque()
        self._is_called = False
        self._looks = False

    def start(self, loop: asyncio.AbstractEventLoop, job: Job, key_ns: int) -> None:
        """On the loop."""
        self._starts.append((key_ns, job))
        if len(self._starts) == 1:
            loop.call_soon(self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        starts, self._starts = self._starts, []
        if self._pool.start(starts) and not self._looks:
            self._looks = True
            loop.call_later(_LOOK_S, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looks = self._pool.look()
        if self._looks:
            loop.call_later(_LOOK_S, self._look, loop)

    def send(
        self, loop: asyncio.AbstractEventLoop, job: LoopJob, result: Any, error: Exception | None
    ) -> None:
        """From any thread."""
        self._ends.append((job, result, error))  # before the look at who comes for it
        if self._is_called:
            return
        self._is_called = True
        try:
            loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            _log.debug("the event loop that asked was closed before it had its answer")

    def _deliver(self) -> None:
        self._is_called = False  # before the look at what is there
        while self._ends:
            job, result, error = self._ends.popleft()
            job.tell(result, error)


class LoopJob(abc.ABC):
    """Plain work of a request from an event loop: a Job of the pool. It may be posted again after its end."""

    __slots__ = ("_failed", "_loop", "_mail", "_run", "is_short")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mail: Mail,
        run: Run,
        failed: Callable[[str, BaseException], ServiceError],
    ) -> None:
        self._loop = loop
        self._mail = mail
        self._run = run
        self._failed = failed
        self.is_short = False

    def post(self) -> None:
        """On the loop: has it run when its turn comes."""
        self._mail.start(self._loop, self, self._run.key_ns)

    @abc.abstractmethod
    def work(self) -> Any:
        """On a thread of the pool: what is told to the loop."""

    @abc.abstractmethod
    def tell(self, result: Any, error: Exception | None) -> None:
        """On the loop: what became of it."""

    def run(self) -> bool:
        """On a thread of the pool."""
        run = self._run
        run.begin_turn()
        result: Any = None
        failure: Exception | None = None
        try:
            run.check()
            result = self.work()
        except StopIteration as error:  # which no future holds
            failure = self._failed("a function", error)
        except Exception as error:
            failure = error
        except BaseException as error:  # SystemExit ends no thread of the pool
            failure = self._failed("a function", error)
        has_turn = run.end_turn()  # before the loop may post it again
        self._mail.send(self._loop, self, result, failure)
        return has_turn

    def refuse(self, error: Exception) -> None:
        """It is never run."""
        self._mail.send(self._loop, self, None, error)


class PoolJob(LoopJob):
    """A function, whose result a task awaits."""

    __slots__ = ("_work", "future")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mail: Mail,
        run: Run,
        failed: Callable[[str, BaseException], ServiceError],
        work: Callable[[], Any],
    ) -> None:
        super().__init__(loop, mail, run, failed)
        self._work: Callable[[], Any] | None = work
        self.future: asyncio.Future[Any] = loop.create_future()
        """Of what the work gives."""

    def work(self) -> Any:
        """On a thread of the pool."""
        work, self._work = self._work, None
        assert work is not None
        return work()

    def tell(self, result: Any, error: Exception | None) -> None:
        """On the loop: what became of it."""
        if self.future.done():  # nobody waits for it any more
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class LoopThread:
    """A thread with an event loop, from the first coroutine on."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, begin: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """What a coroutine gives, made on that thread and awaited there; this thread waits."""
        if threading.current_thread() is self._thread:
            raise ServiceError("call would wait for its own event loop: await acall in coroutines")
        future = self.begin(begin)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def begin(self, begin: Callable[[], Coroutine[Any, Any, Any]]) -> Future[Any]:
        """The same without waiting."""
        loop = self._running()

        async def awaited() -> Any:
            return await begin()

        return asyncio.run_coroutine_threadsafe(awaited(), loop)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=loop.run_forever, name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    loop.close()
                    raise ThreadStartError.of("the coroutines of a service", error) from None
                self._loop, self._thread = loop, thread
            return self._loop

    def close(self) -> None:
        """Cancels what still runs on it, and ends it."""
        with self._lock:
            loop, self._loop = self._loop, None
            thread = self._thread
        if loop is None or thread is None or thread is threading.current_thread():
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel(EngineClosed.__name__)
    await asyncio.gather(*others, return_exceptions=True)
