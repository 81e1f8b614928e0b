"""The hot path: one POST to ``…/infer``, from its bytes to the engine and back, on the loop's own thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from http import HTTPStatus
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING, Any

from .body import ClientGone, Headers, Message, Receive, Send, accepted_encoding, compressed, read_body
from .errors import RequestError, status_of
from .infer_request import has_binary, parse_request
from .infer_response import encode_response
from .models import VERSION, ServedModel
from .stage_log import ServedTimes

if TYPE_CHECKING:
    from .request_spans import HttpSpan

__all__ = ["Inference", "answer", "error_answer"]

_log = logging.getLogger("paddleinfer.http")

# A request that waits for longer is watched: if its client leaves, it need not run.
_WATCHED_AFTER_S = 0.005
_JSON = [(b"content-type", b"application/json")]


class Inference:
    """Answers inference requests over HTTP, and knows how many are under way, those over gRPC among them."""

    def __init__(self, max_body_bytes: int, max_inflight: int | None) -> None:
        self._max_body_bytes = max_body_bytes
        self._max_inflight = max_inflight
        self.under_way = 0
        """Requests that have begun and not been answered."""
        self._watch = _Watch()
        self.cut = 0
        """Requests that were cancelled under way while the server ended."""

    @property
    def has_room(self) -> bool:
        """Whether one more may begin."""
        return self._max_inflight is None or self.under_way < self._max_inflight

    def begin(self) -> None:
        """One more is under way, until end(); RequestError 429 where there is no room for it."""
        if not self.has_room:
            raise RequestError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self.under_way} requests are under way, which --max-inflight allows at most",
                {"Retry-After": "1"},
            )
        self.under_way += 1

    def end(self) -> None:
        """One is over."""
        self.under_way -= 1

    async def __call__(
        self, model: ServedModel, headers: Headers, receive: Receive, send: Send, span: HttpSpan | None
    ) -> None:
        """One request; `headers` in lower case. `span` is told how it goes, and ended where that is well."""
        self.begin()
        try:
            await self._answer(model, headers, receive, send, span)
        except ClientGone:
            _log.debug("a client of %s left before it was answered", model.name)
        except asyncio.CancelledError:
            self.cut += 1
            raise
        finally:
            self.end()

    async def _answer(
        self, model: ServedModel, headers: Headers, receive: Receive, send: Send, span: HttpSpan | None
    ) -> None:
        began_ns = monotonic_ns()
        if span is not None:
            span.serve(model)
        model.open_engine()  # else the body need not come
        body = await read_body(receive, headers, self._max_body_bytes)
        engine = model.open_engine()  # meanwhile another may have taken its place
        received_ns = monotonic_ns()
        request = parse_request(body, headers, engine.inputs)
        decoded_ns = monotonic_ns()
        names = None if request.outputs is None else [output.name for output in request.outputs]
        with self._watch.over(receive) as watched:
            try:
                results: Any = await engine.ainfer(
                    request.inputs,
                    timeout=request.timeout_s,
                    outputs=names,
                    priority=request.priority,
                    return_info=span is not None,
                )
            except asyncio.CancelledError:
                if watched.left:
                    raise ClientGone from None
                raise
        delivered_ns = monotonic_ns()
        info = None
        if span is not None:
            results, info = results
        payload, json_bytes = encode_response(model.name, VERSION, request, results)
        fields: list[tuple[bytes, bytes]] = list(_JSON)
        if json_bytes is not None:
            fields = [
                (b"content-type", b"application/octet-stream"),
                (b"inference-header-content-length", b"%d" % json_bytes),
            ]
        encoding = accepted_encoding(headers, len(payload))
        if encoding is not None:
            payload = await compressed(payload, encoding)
            fields.append((b"content-encoding", encoding.encode()))
        encoded_ns = monotonic_ns()
        model.latencies.add((encoded_ns - received_ns) / 1e9)
        await answer(send, 200, payload, fields)
        is_json = json_bytes is None and not has_binary(headers)
        instants = (began_ns, received_ns, decoded_ns, delivered_ns, encoded_ns)
        times = ServedTimes(*instants, monotonic_ns(), is_json)
        model.stage_log.note(times)
        model.stage_log.look_at(request.inputs, results)
        if span is not None:
            span.answered(info, times)


class _Watched:
    """One request that may be watched; `left`: its client has."""

    __slots__ = ("_task", "_watch", "_watcher", "left", "receive", "since")

    def __init__(self, watch: _Watch, receive: Receive) -> None:
        self._watch = watch
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self.receive = receive
        self.since = monotonic()
        self.left = False

    def __enter__(self) -> _Watched:
        self._watch.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.remove(self)
        if self._watcher is not None:
            self._watcher.cancel()

    def begin(self) -> None:
        self._watcher = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.left = True
        assert self._task is not None
        self._task.cancel()


class _Watch:
    """Watches the clients of those requests that wait long; most are answered sooner, and cost no task."""

    def __init__(self) -> None:
        self._new: dict[_Watched, None] = {}  # the oldest first
        self._timer_is_set = False

    def over(self, receive: Receive) -> _Watched:
        return _Watched(self, receive)

    def add(self, watched: _Watched) -> None:
        self._new[watched] = None
        if not self._timer_is_set:
            self._set_timer()

    def remove(self, watched: _Watched) -> None:
        self._new.pop(watched, None)

    def _set_timer(self) -> None:
        self._timer_is_set = True
        asyncio.get_running_loop().call_later(_WATCHED_AFTER_S, self._look)

    def _look(self) -> None:
        self._timer_is_set = False
        limit = monotonic() - _WATCHED_AFTER_S
        while self._new:
            oldest = next(iter(self._new))
            if oldest.since > limit:
                self._set_timer()
                return
            del self._new[oldest]
            oldest.begin()


async def answer(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """One whole response."""
    start: Message = {
        "type": "http.response.start",
        "status": status,
        "headers": [*headers, (b"content-length", b"%d" % len(body))],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def error_answer(send: Send, error: BaseException, body_of: Any) -> int:
    """The response to a request that gets no result; its status."""
    refused = error if isinstance(error, RequestError) else status_of(error)
    headers = [(name.lower().encode(), value.encode()) for name, value in refused.headers.items()]
    await answer(send, refused.status, body_of(refused.message), [*_JSON, *headers])
    return refused.status
