"""Limits the size of requests over HTTP, and tells which are too long for the loop's own thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .body import BodyLimit, Headers
from .large_json import SMALL_BYTES
from .request import has_binary, json_size

__all__ = ["RequestLimits"]

# Copying tensors that are not aligned, or making booleans of bytes, takes 1 ms for 4 MiB.
_LONG_BINARY_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class RequestLimits:
    """The limits of one server."""

    max_body_bytes: int
    max_json_bytes: int

    def of_body(self, headers: Headers) -> BodyLimit:
        """Returns the limit of a whole body; without binary tensors it is all JSON."""
        if has_binary(headers) or self.max_body_bytes <= self.max_json_bytes:
            return BodyLimit(self.max_body_bytes, "--max-body-bytes")
        return BodyLimit(self.max_json_bytes, "--max-json-bytes")

    def is_long(self, body: bytes, headers: Headers) -> bool:
        """Tells whether reading it takes long; raises RequestError 413 if its JSON is too large."""
        json_bytes = json_size(body, headers)
        if json_bytes > self.max_json_bytes:
            raise BodyLimit(self.max_json_bytes, "--max-json-bytes").refusal("JSON")
        return json_bytes > SMALL_BYTES or len(body) > _LONG_BINARY_BYTES
