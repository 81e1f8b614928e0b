"""The calls of a service: each request accepted, driven through its functions, and ended exactly once."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from time import monotonic_ns
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

from paddleinfer.config import check_timeout
from paddleinfer.errors import (
    ConfigError,
    DeadlineExceeded,
    EngineClosed,
    InvalidInput,
    PaddleInferError,
    QueueFull,
)
from paddleinfer.models.spec import TensorSpec
from paddleinfer.serve.functions import Functions
from paddleinfer.serve.limits import ServiceLimits
from paddleinfer.serve.loops import LoopThread, Mail, PoolJob
from paddleinfer.serve.observing import OBSERVER
from paddleinfer.serve.part_steps import PartSteps
from paddleinfer.serve.plain_steps import PlainSteps, UsualTime
from paddleinfer.serve.processes import FunctionProcesses, check_functions
from paddleinfer.serve.request import Request
from paddleinfer.serve.run import CURRENT, Run
from paddleinfer.serve.statistics import ServiceStatistics, outcome_of
from paddleinfer.serve.steps import Finish, Steps
from paddleinfer.serve.turns import TurnPool

__all__ = ["ServiceCalls"]

_log = logging.getLogger("paddleinfer.serve")

# Of a refusal where no request has had its answer yet.
_RETRY_AFTER_S: Final = 0.1


class ServiceCalls:
    """All requests of one service."""

    _forks: ClassVar[int] = 0
    """Forks between the process that first had this class and this process."""

    def __init__(
        self,
        name: str,
        functions: Functions,
        limits: ServiceLimits,
        inputs: tuple[TensorSpec, ...] = (),
        outputs: tuple[TensorSpec, ...] = (),
    ) -> None:
        self.functions = functions
        self.limits = limits
        self.inputs = inputs
        self.outputs = outputs
        self.statistics = ServiceStatistics()
        self._pool = TurnPool(name, limits.processes or limits.running, limits.threads)
        self._processes: FunctionProcesses | None = None
        self._before, self._after = UsualTime(), UsualTime()
        if limits.processes:
            if functions.is_whole or functions.is_async:
                raise ConfigError(
                    f"the service {name} cannot run in processes: only preprocess and postprocess can, "
                    "as plain functions"
                )
            check_functions(preprocess=functions.preprocess, postprocess=functions.postprocess)
            self._processes = FunctionProcesses(limits.processes)
            self._before = self._after = UsualTime(0)  # a thread only waits for a process
        self._steps = Steps(name, functions, self._processes)
        self._loop = LoopThread(f"paddleinfer-{name}-loop")
        self._mails: WeakKeyDictionary[asyncio.AbstractEventLoop, Mail] = WeakKeyDictionary()
        self._ends = threading.Condition(threading.RLock())
        self._under_way = 0
        self._is_closed = False
        self._made_after = ServiceCalls._forks

    @property
    def name(self) -> str:
        """In sentences."""
        return self._steps.name

    @name.setter
    def name(self, name: str) -> None:
        self._steps.name = name

    # -- a request's begin and end

    @property
    def closed(self) -> bool:
        """Whether no more requests are taken."""
        return self._is_closed

    @property
    def under_way(self) -> int:
        """Requests that were accepted and are not over."""
        return self._under_way

    def _accept(self, request: Any, timeout_s: float | None) -> Run:
        """Begins a request, which is under way until _end()."""
        if timeout_s is None:
            timeout_s = self.limits.timeout_s
        else:
            try:
                check_timeout("timeout", timeout_s)
            except ConfigError as wrong:
                raise InvalidInput(str(wrong)) from None
        if self._made_after != ServiceCalls._forks:
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
        return Run(self._pool, given, timeout_s)

    def _end(self, run: Run, error: BaseException | None) -> None:
        """It is over, and counted."""
        if error is None:
            run.to(None)
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
        run = self._accept(request, timeout_s)
        error: BaseException | None = None
        try:
            run.to("wait")
            run.take_turn()
            try:
                answer = self._steps.whole(run, None)
            finally:
                run.leave_turn()
            run.check()
            return answer
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._end(run, error)

    async def acall(self, request: Any, timeout_s: float | None, finish: Finish | None) -> Any:
        """On the running loop; plain functions on threads of the pool."""
        outer = CURRENT.get()
        if outer is None:
            return await self._acall(request, timeout_s, finish)
        outer.begin_wait("infer")
        try:
            return await self._acall(outer.lend_priority(request), outer.timeout_s(timeout_s), finish)
        finally:
            outer.end_wait()

    async def _acall(self, request: Any, timeout_s: float | None, finish: Finish | None) -> Any:
        run = self._accept(request, timeout_s)
        error: BaseException | None = None
        plain: PlainSteps | None = None
        try:
            work: Awaitable[Any]
            if self.functions.is_async:
                work = self._steps_on_loop(run, finish)
            elif self._goes_in_steps:
                plain = self._plain_steps(run, finish)
                work = plain.future
            else:
                work = self._whole_in_pool(run, finish)
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
        except BaseException as raised:
            error = raised
            raise
        finally:
            if plain is not None:
                plain.give_up()
            self._end(run, error)

    @property
    def _goes_in_steps(self) -> bool:
        """Whether a request of plain functions goes from step to step by the loop.

        Else one thread does all of it, which is sooner over where it is the only one: of many each would wake
        a thread more often.
        """
        in_parts = self.functions.parts is not None
        return (in_parts or not self.functions.is_whole) and self._under_way > 1

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

    # -- a request from a loop

    def _mail(self, loop: asyncio.AbstractEventLoop) -> Mail:
        mail = self._mails.get(loop)
        if mail is None:
            mail = self._mails[loop] = Mail(self._pool)
        return mail

    def _plain_steps(self, run: Run, finish: Finish | None) -> PlainSteps:
        """Begins it."""
        run.to("wait")
        loop = asyncio.get_running_loop()
        kind = PlainSteps if self.functions.parts is None else PartSteps
        steps = kind(loop, self._mail(loop), run, self._steps, finish, self._before, self._after)
        steps.begin()
        return steps

    def _whole_in_pool(self, run: Run, finish: Finish | None) -> asyncio.Future[Any]:
        """Begins it at once."""
        run.to("wait")
        loop = asyncio.get_running_loop()
        whole = functools.partial(self._steps.whole, run, finish)
        job = PoolJob(loop, self._mail(loop), run, self._steps.failed, whole)
        self._pool.start([(run.key_ns, job)])
        return job.future

    async def _in_pool(self, run: Run, work: Callable[[], Any]) -> Any:
        run.to("wait")
        loop = asyncio.get_running_loop()
        job = PoolJob(loop, self._mail(loop), run, self._steps.failed, work)
        job.post()
        return await job.future

    async def _steps_on_loop(self, run: Run, finish: Finish | None) -> Any:
        """Coroutines, from a task; plain functions between them go to the pool."""
        token = CURRENT.set(run)
        try:
            request, functions = run.request, self.functions
            if functions.handle is not None:
                answer = await self._any(run, "handle", request, decodes=True, finish=finish)
            else:
                inputs = await self._any(run, "preprocess", request, decodes=True)
                results = await self._steps.ask(inputs)
                del inputs
                answer = await self._any(run, "postprocess", results, request, finish=finish)
            run.to(None)
            return answer
        finally:
            CURRENT.reset(token)

    async def _any(
        self, run: Run, stage: str, *args: Any, decodes: bool = False, finish: Finish | None = None
    ) -> Any:
        """The function of a stage, plain or a coroutine's, as ``Steps.one`` does a plain one."""
        steps, function = self._steps, getattr(self.functions, stage)
        if not self.functions.awaited[stage]:
            one = functools.partial(steps.one, run, stage, function, *args, decodes=decodes, finish=finish)
            return await self._in_pool(run, one)
        if decodes and run.request.is_large:
            await self._in_pool(run, lambda: steps.decode(run))
        elif decodes:
            steps.decode(run)
        run.to(stage)
        try:
            answer = await function(*args)
        except PaddleInferError:
            raise
        except Exception as error:
            raise steps.failed(stage, error) from error
        return steps.finished(run, finish, answer)

    # -- its end

    def close(self, drain: bool, timeout_s: float | None) -> None:
        """See ``Service.close``."""
        if self._made_after != ServiceCalls._forks:
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


def _note_fork() -> None:
    ServiceCalls._forks += 1


os.register_at_fork(after_in_child=_note_fork)
