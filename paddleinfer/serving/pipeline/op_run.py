"""One Op at work for one request: its functions, its model, and the numbers of what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent import futures
from functools import partial
from typing import Any, Final

from paddleinfer.errors import (
    DeadlineExceeded,
    EngineClosed,
    OutOfMemory,
    PaddleInferError,
    QueueFull,
    ThreadStartError,
)
from paddleinfer.sentences import shown
from paddleinfer.serve.run import CURRENT
from paddleinfer.serving.pipeline.channel_data import ChannelData
from paddleinfer.serving.pipeline.errors import CustomException, CustomExceptionCode, OpError, number_of
from paddleinfer.serving.pipeline.models import EngineModel, OpModel
from paddleinfer.serving.pipeline.op import Op
from paddleinfer.serving.pipeline.op_copies import OpCopies

__all__ = ["InFunction", "OpRun", "PreparedOp"]

_log = logging.getLogger("paddleinfer.serving")

_OK: Final = CustomExceptionCode.OK.value
_TYPE_ERROR: Final = CustomExceptionCode.TYPE_ERROR.value
_UNKNOWN: Final = CustomExceptionCode.UNKNOW.value
_PASSED_ON: Final = (OpError, QueueFull, EngineClosed, ThreadStartError, OutOfMemory)


class PreparedOp:
    """An Op, and how its model is run."""

    def __init__(self, copies: OpCopies, timeout_s: float | None, tries: int) -> None:
        self.copies = copies
        self.timeout_s = timeout_s
        """Of each try of a run; None: the request's deadline alone."""
        self.tries = tries


class InFunction:
    """Around a function of a user's: what it raises ends the request, with a number and a sentence.

    It raises OpError, with the sentence of an error that is meant for the client; of any other the sentence
    says only where, and the log has it. What concerns the service, and not the Op, is raised as it is.
    """

    __slots__ = ("_log_id", "_name", "_op")

    def __init__(self, name: str, op: Op, log_id: int) -> None:
        self._name = name
        self._op = op
        self._log_id = log_id

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, _PASSED_ON):
            raise self._told(error) from error

    def _told(self, error: Exception) -> OpError:
        if isinstance(error, CustomException):
            if error.is_send_to_user:
                return OpError(error.err_no, str(error))
            return self._logged(error, error.err_no)
        if isinstance(error, PaddleInferError):
            request = CURRENT.get()
            if isinstance(error, DeadlineExceeded) and request is not None:
                request.check()
            return OpError(number_of(error), f"Op {self._op.name!r} in {self._name}: {error}")
        return self._logged(error, _UNKNOWN)

    def _logged(self, error: Exception, err_no: int) -> OpError:
        name, op, log_id = self._name, self._op.name, self._log_id
        _log.error("Op %s failed in %s (log_id %s)", op, name, log_id, exc_info=error)
        return OpError(
            err_no, f"Op {op!r} failed in {name} ({type(error).__name__}); the log says why (log_id {log_id})"
        )


class OpRun:
    """One Op at work for the request."""

    def __init__(self, prepared: PreparedOp, inputs: dict[str, Any], data_id: int, log_id: int) -> None:
        self._prepared = prepared
        self._work = prepared.copies.lend()
        self.op = self._work.op
        self._given = inputs
        self._data_id = data_id
        self._log_id = log_id
        self._is_list = False
        self._inputs: list[dict[str, Any]] = []
        self._results: Any = None
        self.error: BaseException | None = None
        """Of its model."""
        self.futures: list[futures.Future[dict[str, Any]]] = []
        """Of its runs, where they were queued."""
        self.task: asyncio.Future[None] | None = None
        """On an event loop, where others run beside it."""

    def preprocess(self) -> bool:
        """Its function; whether its model is to run."""
        copies = self._prepared.copies
        with self._work, InFunction("preprocess", self.op, self._log_id):
            feed, skips, _, _ = copies.preprocess(self.op, (self._given,), self._data_id, self._log_id)
        self._results = feed
        if skips is True or (self.op.model is None and not copies.runs_itself):
            return False
        self._is_list = isinstance(feed, list)
        feeds = feed if self._is_list else [feed]
        if not all(isinstance(one, dict) for one in feeds):
            raise OpError(
                _TYPE_ERROR,
                f"preprocess of Op {self.op.name!r} must give a dict of arrays, or a list of such dicts, "
                f"and gave {shown(feed)}",
            )
        if copies.runs_itself:
            self._take([self._process(one) for one in feeds])
            return False
        with InFunction("process", self.op, self._log_id):
            self._inputs = [self._model.prepare(one) for one in feeds]
        return True

    def _process(self, feed: dict[str, Any]) -> Any:
        with self._work, InFunction("process", self.op, self._log_id):
            result, err_no, sentence = self.op.process([feed], self._log_id)
            if err_no not in (None, _OK):
                raise OpError(err_no, str(sentence))
            return result

    @property
    def _model(self) -> OpModel:
        assert self.op.model is not None
        return self.op.model

    @property
    def _engine(self) -> EngineModel:
        assert isinstance(self.op.model, EngineModel)
        return self.op.model

    @property
    def blocks(self) -> bool:
        """Whether its model can only be waited for."""
        return not isinstance(self.op.model, EngineModel)

    def _take(self, results: list[Any]) -> None:
        self._results = results if self._is_list else results[0]

    # -- its model, while this thread waits

    def run(self) -> None:
        """All of it."""
        if len(self._inputs) > 1 and not self.blocks:
            self.submit()
            self.take_results()
        else:
            self._take([self._tried(partial(self._run_one, one)) for one in self._inputs])

    def submit(self) -> None:
        """Queues all of it."""
        with InFunction("process", self.op, self._log_id):
            for one in self._inputs:
                self.futures.append(self._engine.submit(one, self._prepared.timeout_s))

    def take_results(self) -> None:
        """Of what was queued."""
        results = []
        for future, one in zip(self.futures, self._inputs, strict=True):
            results.append(self._tried(partial(_waited, future), partial(self._run_one, one)))
        self._take(results)

    def _run_one(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return self._model.run(inputs, self._prepared.timeout_s)

    def _tried(self, first: Callable[[], Any], again: Callable[[], Any] | None = None) -> Any:
        """What a try gives; one whose own time is over is followed by the next."""
        with InFunction("process", self.op, self._log_id):
            for left in range(self._prepared.tries - 1, -1, -1):
                try:
                    return first()
                except DeadlineExceeded:
                    _check_request()
                    if not left:
                        raise
                    first = again or first
        raise AssertionError("there is at least one try")

    def keeping_error(self, step: Callable[[], None]) -> None:
        """One of these; what it raises is `error`, and nobody waits for what is queued."""
        try:
            step()
        except Exception as error:
            self.error = error
            self.cancel()

    def cancel(self) -> None:
        """Nobody waits for it any more; from any thread."""
        for future in self.futures:
            future.cancel()
        if self.task is not None and not self.task.done():
            with contextlib.suppress(RuntimeError):  # of a loop that is closed
                self.task.get_loop().call_soon_threadsafe(self.task.cancel)

    # -- its model, on an event loop

    async def run_on_loop(self) -> None:
        """All of it; what it raises is `error`."""
        try:
            if len(self._inputs) == 1:
                self._take([await self._tried_on_loop(self._inputs[0])])
            else:
                self._take(await _all_of([self._tried_on_loop(one) for one in self._inputs]))
        except Exception as error:
            self.error = error

    async def _tried_on_loop(self, inputs: dict[str, Any]) -> Any:
        with InFunction("process", self.op, self._log_id):
            for left in range(self._prepared.tries - 1, -1, -1):
                try:
                    return await self._engine.arun(inputs, self._prepared.timeout_s)
                except DeadlineExceeded:
                    _check_request()
                    if not left:
                        raise
        raise AssertionError("there is at least one try")

    # -- what follows

    def postprocess(self) -> Mapping[str, Any]:
        """Its output."""
        if self.error is not None:
            raise self.error
        given = (self._given, self._results)
        with self._work, InFunction("postprocess", self.op, self._log_id):
            output, _, _ = self._prepared.copies.postprocess(self.op, given, self._data_id, self._log_id)
        if not isinstance(output, dict):
            raise OpError(
                _TYPE_ERROR, f"postprocess of Op {self.op.name!r} must give a dict, and gave {shown(output)}"
            )
        return output

    def jumps(self, output: Mapping[str, Any]) -> bool:
        """Whether the Op's own function says so."""
        data = {self._data_id: ChannelData(self._data_id, self._log_id, output)}
        with self._work, InFunction("check_jumping", self.op, self._log_id):
            return self.op.check_jumping(data) is True


def _waited(future: futures.Future[dict[str, Any]]) -> dict[str, Any]:
    request = CURRENT.get()
    if future.done() or request is None:
        return future.result()
    with request.waiting():
        return future.result()


def _check_request() -> None:
    """Raises DeadlineExceeded where it is the request's own, after which no further try helps."""
    request = CURRENT.get()
    if request is not None:
        request.check()


async def _all_of(asked: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """What each gives; where one fails, or nobody waits, the others are cancelled."""
    tasks = [asyncio.ensure_future(one) for one in asked]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
