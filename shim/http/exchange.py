"""What handlers share: they read a small body, work while the client stays, and answer JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ..protocol.errors import RequestError

__all__ = ["client_left", "json_answer", "small_object", "while_client_stays", "written_answer"]

_MOST_OBJECT_BYTES: Final = 1 << 16


async def client_left(request: Request) -> None:
    """Returns when its client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def while_client_stays(request: Request, work: Coroutine[Any, Any, None]) -> None:
    """Does it; where the client leaves, it is cancelled."""
    working, left = asyncio.ensure_future(work), asyncio.ensure_future(client_left(request))
    try:
        await asyncio.wait((working, left), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        left.cancel()


async def small_object(request: Request) -> dict[str, Any]:
    """Returns the JSON object in the body, or an empty one.

    Raises
    ------
    RequestError
        400 where it is none, and 413 where it is too large.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_OBJECT_BYTES:
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {_MOST_OBJECT_BYTES} bytes"
            )
    try:
        given = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise RequestError(HTTPStatus.BAD_REQUEST, "the body must be a JSON object")
    return given


def json_answer(value: Any, status: int = HTTPStatus.OK) -> Response:
    """Answers a value as JSON."""
    return written_answer(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS), status)


def written_answer(written: bytes, status: int = HTTPStatus.OK) -> Response:
    """Answers JSON that is written already."""
    return Response(written, status_code=status, media_type="application/json")
