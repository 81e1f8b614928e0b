"""Sends whole answers over ASGI, and gives all errors one form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson

from ..protocol.body import Message, Send
from ..protocol.errors import RequestError

__all__ = ["JSON_FIELDS", "answer", "error_answer", "error_body"]

JSON_FIELDS: Final = [(b"content-type", b"application/json")]


async def answer(
    send: Send, status: int, body: bytes | bytearray, fields: Iterable[tuple[bytes, bytes]]
) -> None:
    """Sends one whole answer."""
    start: Message = {
        "type": "http.response.start",
        "status": status,
        "headers": [*fields, (b"content-length", b"%d" % len(body))],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def error_answer(send: Send, error: RequestError) -> None:
    """Answers a request that gets no result."""
    fields = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    await answer(send, error.status, error_body(error.message), [*JSON_FIELDS, *fields])


def error_body(message: str) -> bytes:
    """Makes the body of every answer that is an error."""
    return orjson.dumps({"error": message})
