"""ModelInfer and ModelStreamInfer: from a call's bytes to the engine and back, on the loop's own thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.message import DecodeError

from .errors import ServerEnded
from .grpc_calls import ending, parsed
from .grpc_messages import SERVICE, STREAM, message_class
from .grpc_status import code_of, sentence_of
from .grpc_tensors import encode_response, length_delimited, parse_message
from .models import VERSION, ServedModel
from .service import Service
from .stage_log import ServedTimes

if TYPE_CHECKING:
    from paddleinfer.explanation import InferInfo

    from .request_spans import RpcSpan

__all__ = ["GrpcInference"]

_log = logging.getLogger("paddleinfer.grpc")

_ModelInferRequest = message_class("ModelInferRequest")
_ModelInferResponse = message_class("ModelInferResponse")
_ModelStreamInferResponse = message_class("ModelStreamInferResponse")
_INFER_RESPONSE: Final = _ModelStreamInferResponse.DESCRIPTOR.fields_by_name["infer_response"].number

# Of one stream: so many requests are read ahead of their answers, and no more until the client reads these.
_MOST_OF_A_STREAM: Final = 256
# What Triton says with each answer of a stream.
_FINAL: Final = {"triton_final_response": {"bool_param": True}}


@dataclass(slots=True)
class _Answer:
    """The bytes of a response, and when what was done for it."""

    payload: bytes
    model: ServedModel
    received_ns: int
    decoded_ns: int
    delivered_ns: int
    encoded_ns: int
    info: InferInfo | None
    span: RpcSpan | None

    def was_sent(self) -> None:
        instants = (self.received_ns, self.received_ns, self.decoded_ns, self.delivered_ns, self.encoded_ns)
        times = ServedTimes(*instants, monotonic_ns())
        self.model.stage_log.note(times)
        if self.span is not None:
            self.span.answered(self.info, times)

    def was_left(self) -> None:
        """Its client is gone."""
        if self.span is not None:
            self.span.leave()


class GrpcInference:
    """Answers calls for inference, and ends them when the server ends."""

    def __init__(self, service: Service) -> None:
        self._models = service.models
        self._inference = service.inference
        self._spans = service.spans
        self._running: set[asyncio.Task[Any]] = set()
        self._cut: set[asyncio.Task[Any]] = set()
        self._streams: set[_Stream] = set()
        self._unsent = 0
        self._ending = False

    # ModelInfer

    async def infer(self, body: bytes, context: Any) -> bytes:
        """One call: a ModelInferRequest -> a ModelInferResponse."""
        received_ns = monotonic_ns()
        if self._ending:
            raise ending()
        self._inference.begin()
        self._unsent += 1
        answers: list[_Answer] = []
        # It is over when its answer has left.
        context.add_done_callback(partial(self._sent, answers))
        with self._until_cut():
            answers.append(await self._answer(body, context, received_ns, "ModelInfer"))
        return answers[0].payload

    def _sent(self, answers: list[_Answer], context: Any) -> None:
        self._inference.end()
        self._unsent -= 1
        if answers:
            answers[0].was_sent()

    async def _answer(self, body: bytes, context: Any, received_ns: int, method: str) -> _Answer:
        """Of one request, with its span; that of an answer ends when it was sent."""
        span = None
        if self._spans is not None:
            span = self._spans.of_rpc(f"{SERVICE}/{method}", dict(context.invocation_metadata()))
        try:
            return await self._infer(body, context, received_ns, method == STREAM, span)
        except asyncio.CancelledError:
            if span is not None:
                if self._ending:
                    cut = ServerEnded()
                    span.refused(cut, code_of(cut).name)
                else:
                    span.leave()
            raise
        except Exception as error:
            if span is not None:
                span.refused(error, code_of(error).name)
            raise

    async def _infer(
        self, body: bytes, context: Any, received_ns: int, in_stream: bool, span: RpcSpan | None
    ) -> _Answer:
        message = parsed(_ModelInferRequest, body)
        model = self._models.get(message.model_name, message.model_version)
        engine = model.open_engine()
        request = parse_message(message)
        del message  # has the tensors once more
        decoded_ns = monotonic_ns()
        names = None if request.outputs is None else [output.name for output in request.outputs]
        if span is not None:
            span.serve(model)
        answer: Any = await engine.ainfer(
            request.inputs,
            timeout=_sooner(request.timeout_s, context.time_remaining()),
            outputs=names,
            priority=request.priority,
            return_info=span is not None,
        )
        results, info = answer if span is not None else (answer, None)
        delivered_ns = monotonic_ns()
        parts = encode_response(model.name, VERSION, request, results, _FINAL if in_stream else {})
        if in_stream:
            parts.insert(0, length_delimited(_INFER_RESPONSE, sum(map(len, parts))))
        payload = b"".join(parts)
        encoded_ns = monotonic_ns()
        model.latencies.add((encoded_ns - received_ns) / 1e9)
        return _Answer(payload, model, received_ns, decoded_ns, delivered_ns, encoded_ns, info, span)

    # ModelStreamInfer

    async def stream(self, bodies: AsyncIterator[bytes], context: Any) -> None:
        """One call: ModelInferRequests -> a ModelStreamInferResponse for each, in their order, as of Triton.

        An error of a request is the ``error_message`` of its response. With ``triton_grpc_error: true`` in
        the call's metadata the first one ends the stream with its status, as it does with Triton.
        """
        if self._ending:
            raise ending()
        stream = _Stream(bodies, partial(self._stream_answer, context=context, strict=_is_strict(context)))
        self._streams.add(stream)
        try:
            with self._until_cut():
                await stream.answer_all(context.write)
        finally:
            self._streams.discard(stream)
        if stream.ended_early:
            raise ending()

    async def _stream_answer(self, body: bytes, context: Any, strict: bool) -> _Answer | bytes:
        received_ns = monotonic_ns()
        try:
            self._inference.begin()
            try:
                return await self._answer(body, context, received_ns, STREAM)
            finally:
                self._inference.end()
        except Exception as error:
            if strict:
                raise
            return _stream_error(body, error)

    # The server's end

    @contextlib.contextmanager
    def _until_cut(self) -> Iterator[None]:
        """What cut() ends raises ServerEnded, and what the client cancels stays cancelled."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._cut:
                raise
            raise ServerEnded from None
        finally:
            self._running.discard(task)
            self._cut.discard(task)

    def end(self) -> None:
        """Takes no more calls; streams end when what they have read is answered."""
        self._ending = True
        for stream in self._streams:
            stream.end_early()

    def cut(self) -> None:
        """Ends at once what is under way, and counts it."""
        self._inference.cut += self._unsent + sum(stream.unsent for stream in self._streams)
        for task in self._running:
            self._cut.add(task)
            task.cancel()


class _Stream:
    """The requests of one stream: read ahead, answered in their order."""

    def __init__(
        self, bodies: AsyncIterator[bytes], answer: Callable[[bytes], Awaitable[_Answer | bytes]]
    ) -> None:
        self._bodies = bodies
        self._answer = answer
        self._room = asyncio.Semaphore(_MOST_OF_A_STREAM)
        self._answers: asyncio.Queue[asyncio.Task[_Answer | bytes] | None] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(_look_at)
        self._tasks: set[asyncio.Task[_Answer | bytes]] = set()
        self.ended_early = False

    @property
    def unsent(self) -> int:
        """Requests that were read and whose answers have not left."""
        return len(self._tasks)

    def end_early(self) -> None:
        """Reads no more."""
        self.ended_early = True
        self._reader.cancel()

    async def _read(self) -> None:
        try:
            await self._room.acquire()
            async for body in self._bodies:
                task = asyncio.ensure_future(self._answer(body))
                task.add_done_callback(_look_at)
                self._tasks.add(task)
                self._answers.put_nowait(task)
                await self._room.acquire()
        finally:
            self._answers.put_nowait(None)

    async def answer_all(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Until the client sends no more, or end_early(); raises what a strict answer raises."""
        try:
            while (task := await self._answers.get()) is not None:
                answer = await task
                if isinstance(answer, bytes):
                    await write(answer)
                else:
                    await write(answer.payload)
                    answer.was_sent()
                self._tasks.discard(task)
                self._room.release()
            if not self.ended_early:
                await self._reader
        finally:
            self._reader.cancel()
            for task in self._tasks:
                _give_up(task)


def _give_up(task: asyncio.Task[_Answer | bytes]) -> None:
    """Its answer will not be sent, whether it is there or not."""
    if task.cancel() or task.cancelled() or task.exception() is not None:
        return
    answer = task.result()
    if isinstance(answer, _Answer):
        answer.was_left()


def _look_at(task: asyncio.Task[Any]) -> None:
    """What it raised has been seen, also where the stream is over and nobody waits for it."""
    if not task.cancelled():
        task.exception()


def _stream_error(body: bytes, error: Exception) -> bytes:
    """Says which request failed, as far as that can be read."""
    if code_of(error) is grpc.StatusCode.INTERNAL:
        _log.error("a request of a stream failed", exc_info=error)
    response = _ModelStreamInferResponse(error_message=sentence_of(error))
    with contextlib.suppress(DecodeError):
        request = _ModelInferRequest.FromString(body)
        response.infer_response.MergeFrom(
            _ModelInferResponse(
                model_name=request.model_name,
                model_version=request.model_version,
                id=request.id,
                parameters=_FINAL,
            )
        )
    written: bytes = response.SerializeToString()
    return written


def _is_strict(context: Any) -> bool:
    return dict(context.invocation_metadata()).get("triton_grpc_error") == "true"


def _sooner(timeout_s: float | None, remaining_s: float | None) -> float | None:
    if timeout_s is None or remaining_s is None:
        return timeout_s if remaining_s is None else remaining_s
    return min(timeout_s, remaining_s)
