"""Follows one inference request of any protocol: counts it, notes its times, and fills its span."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Coroutine
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from paddleinfer.engine.engine import Engine
from paddleinfer.tracing.paddle_profile import profile_line

from .stage_log import ServedTimes

if TYPE_CHECKING:
    from paddleinfer.explanation import InferInfo

    from ..protocol.request import InferRequest
    from .inference import Inference
    from .request_spans import ServerSpan
    from .served_models import ServedModel

__all__ = ["ServedRequest"]

Taken = ParamSpec("Taken")
Given = TypeVar("Given")

_log = logging.getLogger("paddleinfer.http")


class ServedRequest:
    """One request. Each protocol derives its own class, which reads messages and writes answers.

    The steps come in this order: ``serve`` (which model), ``begin`` (it has arrived whole), ``ask`` and
    ``deliver`` (the engine), ``note_encoded``, ``note_sent``, ``release``. It may be refused instead of
    answered, and its client may leave at any time.
    """

    __slots__ = (
        *("_began_ns", "_decoded_ns", "_delivered_ns", "_encoded_ns", "_received_ns"),
        *("_inference", "_info", "_is_counted", "model", "span"),
    )

    model: ServedModel
    # Each of these is set by its step, and read after all steps.
    _received_ns: int
    _decoded_ns: int
    _delivered_ns: int
    _encoded_ns: int

    def __init__(self, inference: Inference, span: ServerSpan | None = None) -> None:
        self._began_ns = monotonic_ns()
        self._inference = inference
        self._info: InferInfo | None = None
        self._is_counted = False
        self.span = span
        """Its OpenTelemetry span; None if there is none."""

    def serve(self, model: ServedModel) -> None:
        """Notes which model it is for."""
        self.model = model
        if self.span is not None:
            self.span.serve(model)

    def begin(self) -> None:
        """Counts it as under way until release(): it has arrived. Raises RequestError 429 without room."""
        self._received_ns = monotonic_ns()
        self._inference.begin()
        self._is_counted = True

    def release(self) -> None:
        """Counts it as over: its answer has left, or never will."""
        if self._is_counted:
            self._is_counted = False
            self._inference.end()

    # The engine

    def client_address(self) -> str | None:
        """The client's address; None if it has none."""
        return None

    async def work(
        self,
        size_bytes: int,
        is_long: bool,
        call: Callable[Taken, Given],
        *args: Taken.args,
        **named: Taken.kwargs,
    ) -> Given:
        """Runs a call on this many bytes: in its turn on the loop, or beside the loop if it takes long."""
        if is_long:
            return await self._inference.long_work.run(self.client_address(), call, *args, **named)
        return await self._inference.turns.run(size_bytes, call, *args, **named)

    def ask(
        self, engine: Engine, request: InferRequest, remaining_s: float | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Asks the engine; its answer is for deliver(). The client waits `remaining_s` at most."""
        self._decoded_ns = monotonic_ns()
        timeout_s = request.timeout_s
        if remaining_s is not None:
            timeout_s = remaining_s if timeout_s is None else min(timeout_s, remaining_s)
        asked = engine.ainfer(
            request.inputs,
            timeout=timeout_s,
            outputs=None if request.outputs is None else [output.name for output in request.outputs],
            priority=request.priority,
            return_info=self.span is not None,
        )
        return asked if self.span is None or not self.model.is_service else _observed(asked, self.span)

    def deliver(self, request: InferRequest, given: Any) -> Any:
        """Returns the results in the engine's answer."""
        self._delivered_ns = monotonic_ns()
        if self.span is not None:
            given, self._info = given
        self.model.stage_log.look_at(request.inputs, given)
        return given

    async def infer(self, request: InferRequest, remaining_s: float | None = None) -> Any:
        """Returns the results, and releases the request's inputs: a long answer need not be beside them."""
        engine = (
            self.model.open_engine()
        )  # another engine may have taken its place while the request was read
        results = self.deliver(request, await self.ask(engine, request, remaining_s))
        request.inputs.clear()
        return results

    # Its end

    def note_encoded(self) -> None:
        """Notes that the answer is encoded."""
        self._encoded_ns = monotonic_ns()
        self.model.latencies.add((self._encoded_ns - self._received_ns) / 1e9)

    def note_sent(self, is_json: bool = False) -> None:
        """Notes that the answer was passed on. `is_json`: neither request nor answer had binary tensors."""
        times = self._times(is_json)
        self.model.stage_log.note(times)
        if self.span is not None:
            self.span.answered(self._info, times)

    def _times(self, is_json: bool) -> ServedTimes:
        """Those of an answer that was passed on just now."""
        return ServedTimes(
            self._began_ns,
            self._received_ns,
            self._decoded_ns,
            self._delivered_ns,
            self._encoded_ns,
            monotonic_ns(),
            is_json,
        )

    def profile(self) -> str:
        """Returns the ``PROFILE`` line of its stages so far, as Paddle Serving's pipelines write it."""
        now_ns = monotonic_ns()
        epoch_ns = time_ns() - now_ns
        ends = [self._received_ns, self._decoded_ns, self._delivered_ns, now_ns]
        times_us = [(epoch_ns + end_ns) // 1000 for end_ns in ends]
        stages = zip(("prepack", "midp", "postpack"), times_us, times_us[1:], strict=False)
        return profile_line(os.getpid(), list(stages))

    def note_refused(self, error: BaseException, status: int | str) -> None:
        """Notes that it gets an error instead of results, with a status of its protocol."""
        if self.span is not None:
            self.span.refused(error, status)

    def note_left(self) -> None:
        """Notes that its client left before it was answered; does nothing if it was answered."""
        if self.span is not None:
            self.span.leave()

    def note_cut(self) -> None:
        """Notes that the server ends and waits for it no longer."""
        self._inference.cut += 1


async def _observed(asked: Coroutine[Any, Any, Any], span: ServerSpan) -> Any:
    with span.observing():
        return await asked
