"""Serves ModelInfer and ModelStreamInfer: from a call's bytes to the engine and back, on the loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import grpc

from paddleinfer.errors import DeadlineExceeded

from ..protocol.errors import ServerEnded, to_request_error
from ..protocol.large_json import SMALL_BYTES
from ..service.service import Service
from .calls import ending
from .general_model import GeneralRequest
from .messages import message_class
from .pipeline import PipelineRequest
from .rpc_request import FINAL, RpcRequest
from .status import code_of, sentence_of
from .transfers import Unsent

__all__ = ["GrpcInference"]

_log = logging.getLogger("paddleinfer.grpc")

_ModelInferResponse = message_class("ModelInferResponse")
_ModelStreamInferResponse = message_class("ModelStreamInferResponse")

# A stream's requests that are read ahead of their answers; no more are read until the client reads these.
_MOST_OF_A_STREAM: Final = 256
# A stream's answers that may wait to be read; with more of them no further request is read.
_MAX_UNSENT_OF_STREAM_BYTES: Final = 16 << 20


class GrpcInference:
    """Answers calls for inference, and ends them when the server ends."""

    def __init__(self, service: Service, unsent: Unsent) -> None:
        self._service = service
        self._models = service.models
        self._inference = service.inference
        self._spans = service.spans
        self._real_statuses = service.options.http_status == "real"
        self._running: set[asyncio.Task[Any]] = set()
        self._cut: set[asyncio.Task[Any]] = set()
        self._streams: set[_Stream] = set()
        self._unsent = unsent
        self._unanswered = 0
        self._begun: dict[asyncio.Task[Any], RpcRequest] = {}
        self._ending = False

    # ModelInfer

    async def infer(self, body: bytes, context: Any) -> bytes:
        """Answers one call: a ModelInferRequest gets a ModelInferResponse."""
        request = RpcRequest(self._inference, context.peer, body, in_stream=False)
        del body
        return await self._call(request, context)

    async def infer_general(self, body: bytes, context: Any) -> bytes:
        """Answers one call of Paddle Serving's general service: a Request gets a Response."""
        request = GeneralRequest(self._inference, context.peer, body, in_stream=False)
        del body
        return await self._call_of_serving(request, context)

    async def infer_pipeline(self, body: bytes, context: Any) -> bytes:
        """Answers one call of Paddle Serving's pipelines: a Request gets a Response."""
        request = PipelineRequest(self._service, context.peer, body)
        del body
        return await self._call_of_serving(request, context)

    async def _call_of_serving(self, request: GeneralRequest | PipelineRequest, context: Any) -> bytes:
        """Answers with the error in the Response, as over HTTP, unless real statuses are asked for.

        That its deadline has passed is for gRPC to say, whichever side notices first.
        """
        try:
            return await self._call(request, context)
        except Exception as error:
            if self._real_statuses or isinstance(error, DeadlineExceeded):
                raise
            refused = to_request_error(error)
            if refused.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                _log.error("a call failed", exc_info=error)
            return request.failure(refused)

    async def _call(self, request: RpcRequest, context: Any) -> bytes:
        if self._ending:
            raise ending()
        request.begin()
        self._unanswered += 1
        task = asyncio.current_task()
        assert task is not None
        # A request is over when its answer has left. A callback of the context would keep it in a cycle.
        task.add_done_callback(partial(self._sent, request))
        with self._until_cut():
            return await self._answer(request, context)

    def _sent(self, request: RpcRequest, task: asyncio.Task[Any]) -> None:
        request.release()
        self._unanswered -= 1
        if request.payload is not None:
            request.note_sent()

    async def _answer(self, request: RpcRequest, context: Any) -> bytes:
        """Makes the payload of its answer. The span of a request with a payload ends when that was sent."""
        if self._spans is not None:
            request.span = self._spans.of_rpc(request.method, dict(context.invocation_metadata()))
        try:
            with self._inference.bodies.of_one() as held:
                if request.size_bytes > SMALL_BYTES:
                    held.resize(request.size_bytes)
                request.payload = await self._payload(request, context)
        except asyncio.CancelledError:
            if self._ending:
                cut = ServerEnded()
                request.note_refused(cut, code_of(cut).name)
            else:
                request.note_left()
            raise
        except Exception as error:
            request.note_refused(error, code_of(error).name)
            raise
        return request.payload

    async def _payload(self, request: RpcRequest, context: Any) -> bytes:
        try:
            payload = await request.answered(self._models, context.time_remaining())
        finally:
            request.end_use()
        request.note_encoded()
        return payload

    # ModelStreamInfer

    async def stream(self, bodies: AsyncIterator[bytes], context: Any) -> None:
        """Answers one call: each ModelInferRequest gets a ModelStreamInferResponse, in order, as with Triton.

        An error of a request is the ``error_message`` of its response. With ``triton_grpc_error: true`` in
        the call's metadata the first one ends the stream with its status, as it does with Triton.
        """
        if self._ending:
            raise ending()
        task = asyncio.current_task()
        assert task is not None
        answer = partial(self._stream_answer, context=context, stream=task, strict=_is_strict(context))
        stream = _Stream(bodies, answer, self._end_in_stream, partial(self._unsent.of, task))
        self._streams.add(stream)
        try:
            with self._until_cut():
                await stream.answer_all(partial(self._write, task, context))
        finally:
            self._streams.discard(stream)
            self._unsent.discard(task)
        if stream.ended_early:
            raise ending()

    async def _stream_answer(
        self, body: bytes, context: Any, stream: asyncio.Task[Any], strict: bool
    ) -> RpcRequest | bytes:
        request = RpcRequest(self._inference, context.peer, body, in_stream=True)
        del body
        task = asyncio.current_task()
        assert task is not None
        try:
            request.begin()
            self._begun[task] = request
            self._unsent.add(stream, len(await self._answer(request, context)))
        except Exception as error:
            if strict:
                raise
            failed = _stream_error(request, error)
            self._unsent.add_little(stream, len(failed))
            return failed
        return request

    def _end_in_stream(self, task: asyncio.Task[Any]) -> None:
        """Notes that the answer to a request of a stream has left, or never will."""
        request = self._begun.pop(task, None)
        if request is not None:
            request.release()

    async def _write(self, stream: asyncio.Task[Any], context: Any, payload: bytes) -> None:
        self._unsent.write(stream)
        await context.write(payload)
        self._unsent.sent(stream, len(payload))

    # The end of the server

    @contextlib.contextmanager
    def _until_cut(self) -> Iterator[None]:
        """Turns a cancellation by cut() into ServerEnded; one by the client stays a cancellation."""
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
        """Accepts no more calls. Streams end once the requests they have read are answered."""
        self._ending = True
        for stream in self._streams:
            stream.end_early()

    def cut(self) -> None:
        """Cancels calls in flight, and counts them."""
        self._inference.cut += self._unanswered + sum(stream.unsent for stream in self._streams)
        for task in self._running:
            self._cut.add(task)
            task.cancel()


class _Stream:
    """The requests of one stream, which are read ahead and answered in order."""

    def __init__(
        self,
        bodies: AsyncIterator[bytes],
        answer: Callable[[bytes], Awaitable[RpcRequest | bytes]],
        is_over: Callable[[asyncio.Task[Any]], None],
        unsent_bytes: Callable[[], int],
    ) -> None:
        self._bodies = bodies
        self._answer = answer
        self._is_over = is_over
        self._unsent_bytes = unsent_bytes
        self._was_sent = asyncio.Event()
        self._room = asyncio.Semaphore(_MOST_OF_A_STREAM)
        self._answers: asyncio.Queue[asyncio.Task[RpcRequest | bytes] | None] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(_look_at)
        self._tasks: set[asyncio.Task[RpcRequest | bytes]] = set()
        self.ended_early = False

    @property
    def unsent(self) -> int:
        """Requests that were read and whose answers have not left."""
        return len(self._tasks)

    def end_early(self) -> None:
        """Stops reading requests."""
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
                while self._unsent_bytes() > _MAX_UNSENT_OF_STREAM_BYTES:
                    self._was_sent.clear()
                    await self._was_sent.wait()
        finally:
            self._answers.put_nowait(None)

    async def answer_all(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Answers until the client sends no more or end_early() is called; a strict answer may raise."""
        try:
            while (task := await self._answers.get()) is not None:
                answer = await task
                if isinstance(answer, bytes):
                    await write(answer)
                else:
                    assert answer.payload is not None
                    await write(answer.payload)
                    answer.note_sent()
                self._tasks.discard(task)
                self._is_over(task)
                del answer, task
                self._room.release()
                self._was_sent.set()
            if not self.ended_early:
                await self._reader
        finally:
            self._reader.cancel()
            del self._reader  # its exception's traceback holds this frame
            for task in self._tasks:
                _give_up(task)
                self._is_over(task)


def _give_up(task: asyncio.Task[RpcRequest | bytes]) -> None:
    """Gives a request up: its answer will not be sent, whether it is there or not."""
    if task.cancel() or task.cancelled() or task.exception() is not None:
        return
    answer = task.result()
    if isinstance(answer, RpcRequest):
        answer.note_left()


def _look_at(task: asyncio.Task[Any]) -> None:
    """Retrieves a task's exception, even if the stream is over and nobody waits for it."""
    if not task.cancelled():
        task.exception()


def _stream_error(request: RpcRequest, error: Exception) -> bytes:
    """Makes an error response that names the failed request, as far as that could be read."""
    if code_of(error) is grpc.StatusCode.INTERNAL:
        _log.error("a request of a stream failed", exc_info=error)
    response = _ModelStreamInferResponse(error_message=sentence_of(error))
    if request.names:
        response.infer_response.MergeFrom(_ModelInferResponse(**request.names, parameters=FINAL))
    written: bytes = response.SerializeToString()
    return written


def _is_strict(context: Any) -> bool:
    return dict(context.invocation_metadata()).get("triton_grpc_error") == "true"
