"""Recognises a request with the head of one before it on its connection, but for the length of its body.

A client that keeps its connection sends the same head again and again. Comparing it takes a small part of the
time that parsing and checking it takes, and says the same: neither depends on anything but its bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ..protocol.body import Headers

if TYPE_CHECKING:
    from .fast_path import AskedModel

__all__ = ["RepeatedHead"]

_END: Final = b"\r\n\r\n"
_MOST_DIGITS: Final = 10
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,10})(?=\r\n)", re.IGNORECASE)


class RepeatedHead:
    """The head of a request that took the fast path."""

    __slots__ = ("_after", "_before", "asked", "headers")

    def __init__(self, before: bytes, after: bytes, headers: Headers, asked: AskedModel) -> None:
        self._before = before
        self._after = after
        self.headers = headers
        """Its headers. The Content-Length is the first request's."""
        self.asked = asked
        """The model that its path asks for."""

    @classmethod
    def of(cls, request: bytes, headers: Headers, asked: AskedModel) -> RepeatedHead | None:
        """Returns the head of a request that was read; None unless `request` is it alone, and whole."""
        end = request.find(_END) + len(_END)
        lengths = list(_LENGTH.finditer(request, 0, end))
        if len(lengths) != 1 or end + int(lengths[0][1]) != len(request):
            return None
        begin, after = lengths[0].span(1)
        return cls(request[:begin], request[after:end], headers, asked)

    def body_of(self, request: bytes) -> bytes | None:
        """Returns the body of a whole request that has this head; None for anything else."""
        before, after = self._before, self._after
        if not request.startswith(before):
            return None
        begin = len(before)
        end = request.find(b"\r", begin, begin + _MOST_DIGITS + 1)
        if end < 0 or not request.startswith(after, end):
            return None
        digits, body = request[begin:end], request[end + len(after) :]
        return body if digits.isdigit() and int(digits) == len(body) else None
