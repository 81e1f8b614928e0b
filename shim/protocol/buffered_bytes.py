"""Counts bytes in memory over all requests: of their bodies, and of results that wait to be written."""

from __future__ import annotations

from http import HTTPStatus
from types import TracebackType

from .errors import RequestError

__all__ = ["BufferedBytes", "HeldBytes"]


class BufferedBytes:
    """Limits the bytes of all bodies, or of all results, together; a single one may take any number.

    `of_what` begins the sentence of a refusal; with `ends_connection` the connection ends with it, because
    more of the request may come.
    """

    def __init__(self, most: int, of_what: str, *, ends_connection: bool) -> None:
        self.most = most
        self.held = 0
        self._of_what = of_what
        self._headers = {"Retry-After": "1", **({"Connection": "close"} if ends_connection else {})}

    @property
    def is_full(self) -> bool:
        """Whether nothing more may begin."""
        return self.held >= self.most

    def refusal(self) -> RequestError:
        """429."""
        return RequestError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"{self._of_what} of all requests would take more than the {self.most} bytes "
            "that --max-buffered-bytes allows",
            self._headers,
        )

    def of_one(self) -> HeldBytes:
        """Makes a counter for one body or result, which gives all its bytes back when its block ends."""
        return HeldBytes(self)


class HeldBytes:
    """The bytes of one request."""

    __slots__ = ("_all", "_held")

    def __init__(self, of_all: BufferedBytes) -> None:
        self._all = of_all
        self._held = 0

    def resize(self, size_bytes: int) -> None:
        """Sets how many bytes it takes; raises RequestError 429 if there is no room for them."""
        more = size_bytes - self._held
        if more > 0 and self._all.held > self._held and self._all.held + more > self._all.most:
            raise self._all.refusal()
        self._all.held += more
        self._held = size_bytes

    def release(self) -> None:
        """Gives all its bytes back."""
        self._all.held -= self._held
        self._held = 0

    def __enter__(self) -> HeldBytes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
