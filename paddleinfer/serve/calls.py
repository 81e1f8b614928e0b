"""The calls of a service: each request accepted, driven through its functions, and ended exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent import futures
from time import monotonic_ns
from typing import Any, Final
from weakref import WeakKeyDictionary

from paddleinfer.config import check_timeout
from paddleinfer.errors import (
    ConfigError,
    DeadlineExceeded,
    EngineClosed,
    InvalidInput,
    PaddleInferError,
    QueueFull,
    ServiceError,
)
from paddleinfer.models.spec import TensorSpec
from paddleinfer.serve.functions import Functions, is_async
from paddleinfer.serve.limits import ServiceLimits
from paddleinfer.serve.loops import LoopThread, Mail, PoolJob
from paddleinfer.serve.observing import OBSERVER
from paddleinfer.serve.processes import FunctionProcesses, check_functions
from paddleinfer.serve.request import Request
from paddleinfer.serve.run import CURRENT, Run
from paddleinfer.serve.statistics import ServiceStatistics, outcome_of
from paddleinfer.serve.turns import TurnPool

__all__ = ["ServiceCalls"]

_log = logging.getLogger("paddleinfer.serve")

# Of a refusal where no request has had its answer yet.
_RETRY_AFTER_S: Final = 0.1

Finish = Callable[[Any], Any]


class ServiceCalls:
    """All requests of one service."""

    def __init__(
        self,
        name: str,
        functions: Functions,
        limits: ServiceLimits,
        inputs: tuple[TensorSpec, ...] = (),
        outputs: tuple[TensorSpec, ...] = (),
    ) -> None:
        self.name = name
        self.functions = functions
        self.limits = limits
        self.inputs = inputs
        self.outputs = outputs
        self.statistics = ServiceStatistics()
        self._pool = TurnPool(name, limits.processes or limits.running, limits.threads)
        self._processes: FunctionProcesses | None = None
        if limits.processes:
            if functions.is_whole or functions.is_async:
                raise ConfigError(
                    f"the service {name} cannot run in processes: only preprocess and postprocess can, "
                    "as plain functions"
                )
            check_functions(preprocess=functions.preprocess, postprocess=functions.postprocess)
            self._processes = FunctionProcesses(limits.processes)
        self._loop = LoopThread(f"paddleinfer-{name}-loop")
        self._mails: WeakKeyDictionary[asyncio.AbstractEventLoop, Mail] = WeakKeyDictionary()
        self._ends = threading.Condition(threading.RLock())
        self._under_way = 0
        self._is_closed = False
        self._pid = os.getpid()

    # -- a request's begin and end

    @property
    def closed(self) -> bool:
        """Whether no more requests are taken."""
        return self._is_closed

    @property
    def under_way(self) -> int:
        """Requests that were accepted and are not over."""
        return self._under_way

    @contextlib.contextmanager
    def _accepted(self, request: Any, timeout_s: float | None) -> Iterator[Run]:
        """From its acceptance to its end, which is counted."""
        if timeout_s is None:
            timeout_s = self.limits.timeout_s
        else:
            try:
                check_timeout("timeout", timeout_s)
            except ConfigError as wrong:
                raise InvalidInput(str(wrong)) from None
        if os.getpid() != self._pid:
            raise EngineClosed(
                f"the service {self.name} belongs to another process: make services after the fork"
            )
        with self._ends:
            if self._is_closed:
                raise EngineClosed(f"the service {self.name} is closed")
            if self._under_way >= self.limits.max_requests:
                self.statistics.refuse()
                raise QueueFull(
                    f"the service {self.name} has {self._under_way} requests, which is the most it takes",
                    self.statistics.mean_s() or _RETRY_AFTER_S,
                )
            self._under_way += 1
        given = request if isinstance(request, Request) else Request(request)
        given.limits = self.limits
        run = Run(self._pool, given, timeout_s)
        error: BaseException | None = None
        try:
            yield run
            run.to(None)
        except BaseException as raised:
            error = raised
            raise
        finally:
            run.is_given_up = True
            self.statistics.add(outcome_of(error), run.arrived_ns, monotonic_ns(), run.stages)
            with self._ends:
                self._under_way -= 1
                if self._is_closed:
                    self._ends.notify_all()

    # -- calls

    def call(self, request: Any, timeout_s: float | None) -> Any:
        """On this thread; coroutines on a loop of the service's own."""
        outer = CURRENT.get()
        if outer is None:
            return self._call(request, timeout_s)
        token, observing = CURRENT.set(None), OBSERVER.set(outer.observer)
        try:
            with outer.waiting():
                return self._call(outer.lend_priority(request), outer.timeout_s(timeout_s))
        finally:
            OBSERVER.reset(observing)
            CURRENT.reset(token)

    def _call(self, request: Any, timeout_s: float | None) -> Any:
        if self.functions.is_async:
            return self._loop.run(lambda: self.acall(request, timeout_s, None))
        with self._accepted(request, timeout_s) as run:
            run.to("wait")
            run.take_turn()
            try:
                answer = self._steps(run, None)
            finally:
                run.leave_turn()
            run.check()
            return answer

    async def acall(self, request: Any, timeout_s: float | None, finish: Finish | None) -> Any:
        """On the running loop; plain functions on a thread of the pool."""
        outer = CURRENT.get()
        if outer is not None:
            request, timeout_s = outer.lend_priority(request), outer.timeout_s(timeout_s)
            outer.begin_wait("infer")
        try:
            with self._accepted(request, timeout_s) as run:
                if self._goes_in_steps:
                    work: Coroutine[Any, Any, Any] = self._steps_on_loop(run, finish)
                else:
                    work = self._in_pool(run, lambda: self._steps(run, finish))
                left_s = run.left_s()
                if left_s is None:
                    return await work
                try:
                    return await asyncio.wait_for(work, left_s)
                except DeadlineExceeded:
                    raise
                except (TimeoutError, asyncio.TimeoutError):
                    raise DeadlineExceeded(
                        f"the deadline passed before the service {self.name} had its answer"
                    ) from None
        finally:
            if outer is not None:
                outer.end_wait()

    @property
    def _goes_in_steps(self) -> bool:
        """Whether the loop drives a request from step to step.

        Else one thread does all of it, which is sooner over where it is the only one: of many each would wake
        a thread more often.
        """
        return self.functions.is_async or (not self.functions.is_whole and self._under_way > 1)

    async def in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """A plain function for an async one."""
        outer = CURRENT.get()
        asked = Request(priority=None if outer is None else outer.priority)
        run = Run(self._pool, asked, None if outer is None else outer.left_s())
        if outer is not None:
            run.key_ns = outer.key_ns

        def work() -> Any:
            token = CURRENT.set(run)
            try:
                return function(*args)
            finally:
                CURRENT.reset(token)

        return await self._in_pool(run, work)

    # -- the steps of a request

    def _steps(self, run: Run, finish: Finish | None) -> Any:
        """All of them, on a thread that has a turn."""
        token = CURRENT.set(run)
        try:
            request, functions = run.request, self.functions
            self._decode(run)
            if functions.handle is not None:
                run.to("handle")
                answer = self._plain("handle", functions.handle, request)
            else:
                assert functions.preprocess is not None and functions.postprocess is not None
                run.to("preprocess")
                inputs = self._plain("preprocess", functions.preprocess, request)
                run.to(None)
                run.check()
                with self._blaming_preprocess():
                    results = functions.engine().infer(inputs)
                del inputs
                run.to("postprocess")
                answer = self._plain("postprocess", functions.postprocess, results, request)
            answer = self._finished(run, finish, answer)
            run.to(None)
            return answer
        finally:
            CURRENT.reset(token)

    async def _steps_on_loop(self, run: Run, finish: Finish | None) -> Any:
        """The same from a task: plain functions in the pool, coroutines here."""
        token = CURRENT.set(run)
        try:
            request, functions = run.request, self.functions
            if functions.handle is not None:
                answer = await self._any(
                    run, "handle", functions.handle, request, decodes=True, finish=finish
                )
            else:
                assert functions.preprocess is not None and functions.postprocess is not None
                inputs = await self._any(run, "preprocess", functions.preprocess, request, decodes=True)
                with self._blaming_preprocess():
                    results = await functions.engine().ainfer(inputs)
                del inputs
                last = functions.postprocess
                answer = await self._any(run, "postprocess", last, results, request, finish=finish)
            run.to(None)
            return answer
        finally:
            CURRENT.reset(token)

    async def _any(
        self,
        run: Run,
        stage: str,
        function: Callable[..., Any],
        *args: Any,
        decodes: bool = False,
        finish: Finish | None = None,
    ) -> Any:
        """One function, with what stands before the first and after the last of them."""
        if not is_async(function):
            return await self._in_pool(
                run, lambda: self._staged(run, stage, function, args, decodes=decodes, finish=finish)
            )
        if decodes and run.request.is_large:
            await self._in_pool(run, lambda: self._decode(run))
        elif decodes:
            self._decode(run)
        run.to(stage)
        try:
            answer = await function(*args)
        except PaddleInferError:
            raise
        except Exception as error:
            raise self._failed(stage, error) from error
        return self._finished(run, finish, answer)

    def _staged(
        self,
        run: Run,
        stage: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        decodes: bool,
        finish: Finish | None,
    ) -> Any:
        token = CURRENT.set(run)
        try:
            if decodes:
                self._decode(run)
            run.to(stage)
            answer = self._finished(run, finish, self._plain(stage, function, *args))
            run.to("wait")  # for the loop
            return answer
        finally:
            CURRENT.reset(token)

    def _decode(self, run: Run) -> None:
        run.to("decode")
        _ = run.request.value

    def _finished(self, run: Run, finish: Finish | None, answer: Any) -> Any:
        if finish is None:
            return answer
        run.to("encode")
        return self._plain("encode", finish, answer)

    def _plain(self, stage: str, function: Callable[..., Any], *args: Any) -> Any:
        try:
            if self._processes is not None and stage != "encode":
                return self._in_process(function, args)
            given = function(*args)
            if inspect.iscoroutine(given):
                given.close()
                raise TypeError(f"{stage} gave a coroutine without being declared by async def")
            return given
        except PaddleInferError:
            raise
        except Exception as error:
            raise self._failed(stage, error) from error

    def _in_process(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        assert self._processes is not None
        run = CURRENT.get()
        left_s = None if run is None else run.left_s()
        try:
            return self._processes.call(function, args, left_s)
        except (TimeoutError, futures.TimeoutError):
            if run is not None:
                run.check()  # which raises where it was the deadline
            raise

    def _failed(self, stage: str, error: BaseException) -> ServiceError:
        """Of a function that raised what only the log is to say."""
        _log.error("the service %s failed in %s", self.name, stage, exc_info=error)
        return ServiceError(
            f"the service {self.name} failed in {stage} ({type(error).__name__}); its log says why",
            stage=stage,
        )

    @contextlib.contextmanager
    def _blaming_preprocess(self) -> Iterator[None]:
        try:
            yield
        except InvalidInput as error:
            if not self.functions.checks_inputs:
                raise
            _log.error("the engine of the service %s refused what preprocess gave: %s", self.name, error)
            raise ServiceError(
                f"the service {self.name} failed in preprocess: the engine refused what it gave; "
                "its log says why",
                stage="preprocess",
            ) from error

    async def _in_pool(self, run: Run, work: Callable[[], Any]) -> Any:
        run.to("wait")
        loop = asyncio.get_running_loop()
        mail = self._mails.get(loop)
        if mail is None:
            mail = self._mails[loop] = Mail()
        job = PoolJob(loop, mail, run, work, self._failed)
        self._pool.start(job, run.key_ns)
        return await job.future

    # -- its end

    def close(self, drain: bool, timeout_s: float | None) -> None:
        """See ``Service.close``."""
        if os.getpid() != self._pid:
            return
        deadline_ns = None if timeout_s is None else monotonic_ns() + int(timeout_s * 1e9)

        def left_s() -> float | None:
            return None if deadline_ns is None else max(0.0, (deadline_ns - monotonic_ns()) / 1e9)

        with self._ends:
            self._is_closed = True
            if drain:
                self._ends.wait_for(lambda: self._under_way == 0, left_s())
        if not self._pool.close(left_s()):
            _log.warning("a function of the service %s still runs after its close", self.name)
        if self._processes is not None:
            self._processes.close(left_s())
        self._loop.close()
