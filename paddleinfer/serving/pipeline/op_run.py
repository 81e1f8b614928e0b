"""One Op at work for one request: its functions, its model, and the numbers of what goes wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
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
        self._inputs = inputs
        self._data_id = data_id
        self._log_id = log_id
        self._feed: Any = None
        self._results: Any = None
        self.is_skipped = True
        """Whether no model runs."""
        self.futures: list[futures.Future[dict[str, Any]]] = []

    def preprocess(self) -> None:
        given = (self._inputs,)
        with self._work, InFunction("preprocess", self.op, self._log_id):
            feed, skips, _, _ = self._prepared.copies.preprocess(self.op, given, self._data_id, self._log_id)
        self._feed = self._results = feed
        self.is_skipped = skips is True or (self.op.model is None and not self._prepared.copies.runs_itself)
        is_list = isinstance(feed, list) and all(isinstance(one, dict) for one in feed)
        if not self.is_skipped and not isinstance(feed, dict) and not is_list:
            raise OpError(
                _TYPE_ERROR,
                f"preprocess of Op {self.op.name!r} must give a dict of arrays, or a list of such dicts, "
                f"and gave {shown(feed)}",
            )

    def run(self) -> None:
        """The model, while this thread waits."""
        if self._prepared.copies.runs_itself:
            self._each(self._process)
        elif isinstance(self._feed, list) and len(self._feed) > 1 and self.submit():
            self.take_results()
        else:
            self._each(self._run_one)

    def _each(self, run: Callable[[dict[str, Any]], Any]) -> None:
        if isinstance(self._feed, list):
            self._results = [run(feed) for feed in self._feed]
        else:
            self._results = run(self._feed)

    def _process(self, feed: dict[str, Any]) -> Any:
        with self._work, InFunction("process", self.op, self._log_id):
            result, err_no, sentence = self.op.process([feed], self._log_id)
            if err_no not in (None, _OK):
                raise OpError(err_no, str(sentence))
            return result

    def _run_one(self, feed: dict[str, Any]) -> Any:
        return self._tried(partial(self._on_model, feed))

    def _model(self) -> Any:
        assert self.op.model is not None
        return self.op.model

    def submit(self) -> bool:
        """Queues all of it; False where that cannot be."""
        if self._prepared.copies.runs_itself:
            return False
        feeds: Sequence[dict[str, Any]] = self._feed if isinstance(self._feed, list) else [self._feed]
        with InFunction("process", self.op, self._log_id):
            for feed in feeds:
                future = self._model().submit(feed, self._prepared.timeout_s)
                if future is None:
                    return False
                self.futures.append(future)
        return True

    def take_results(self) -> None:
        """Of what was queued; this thread waits where it is not over."""
        feeds = self._feed if isinstance(self._feed, list) else [self._feed]
        try:
            results = [
                self._tried(partial(_waited, future), partial(self._on_model, feed))
                for future, feed in zip(self.futures, feeds, strict=True)
            ]
        except BaseException:
            self.cancel()
            raise
        self._results = results if isinstance(self._feed, list) else results[0]

    def _on_model(self, feed: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = self._model().run(feed, self._prepared.timeout_s)
        return result

    def _tried(self, first: Callable[[], Any], again: Callable[[], Any] | None = None) -> Any:
        """What a try gives; one whose own time is over is followed by the next."""
        with InFunction("process", self.op, self._log_id):
            for left in range(self._prepared.tries - 1, -1, -1):
                try:
                    return first()
                except DeadlineExceeded:
                    request = CURRENT.get()
                    if request is not None:
                        request.check()
                    if not left:
                        raise
                    first = again or first
        raise AssertionError("there is at least one try")

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        for future in self.futures:
            future.cancel()

    def postprocess(self) -> Mapping[str, Any]:
        given = (self._inputs, self._results)
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
