"""Between event loops and threads: work of a loop's task on a thread, and coroutines for a plain caller."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from paddleinfer.errors import EngineClosed, ServiceError, ThreadStartError
from paddleinfer.serve.run import Run

__all__ = ["LoopThread", "Mail", "PoolJob"]

_log = logging.getLogger("paddleinfer.serve")


class Mail:
    """Ends of jobs, on their way from threads to one event loop: those of one moment by one wake-up."""

    def __init__(self) -> None:
        self._ends: deque[tuple[PoolJob, Any, Exception | None]] = deque()
        self._is_called = False

    def send(
        self, loop: asyncio.AbstractEventLoop, job: PoolJob, result: Any, error: Exception | None
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


class PoolJob:
    """Plain work of a request, which a task of an event loop awaits: a Job of the pool."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mail: Mail,
        run: Run,
        work: Callable[[], Any],
        failed: Callable[[str, BaseException], ServiceError],
    ) -> None:
        self._loop = loop
        self._mail = mail
        self._run = run
        self._work: Callable[[], Any] | None = work
        self._failed = failed
        self.future: asyncio.Future[Any] = loop.create_future()
        """Of what the work gives."""

    def run(self) -> bool:
        """On a thread of the pool."""
        work, self._work = self._work, None
        run = self._run
        run.begin_turn()
        try:
            run.check()
            assert work is not None
            result = work()
        except StopIteration as error:  # which no future holds
            self._end(None, self._failed("a function", error))
        except Exception as error:
            self._end(None, error)
        except BaseException as error:  # SystemExit ends no thread of the pool
            self._end(None, self._failed("a function", error))
        else:
            self._end(result, None)
        return run.end_turn()

    def refuse(self, error: Exception) -> None:
        """It is never run."""
        self._end(None, error)

    def _end(self, result: Any, error: Exception | None) -> None:
        self._mail.send(self._loop, self, result, error)

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
