"""Connections to one HTTP server, kept open between requests, for any number of threads."""

from __future__ import annotations

import gzip
import http.client
import re
import threading
import zlib
from collections.abc import Mapping
from typing import Final

from paddleinfer.errors import ConfigError, DeadlineExceeded
from paddleinfer.sentences import shown

__all__ = ["HttpConnections"]

_ADDRESS: Final = re.compile(r"(?:(https?)://)?([\w.-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})/?")
_KINDS: Final = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
_MOST_KEPT: Final = 64
# The interpreter gives poll() milliseconds of 32 bits: more of them may end a wait at once.
_LONGEST_S: Final = ((1 << 31) - 1) / 1000


class HttpConnections:
    """To an address such as "127.0.0.1:9393", "http://host:9393" or "https://host:443".

    Raises
    ------
    ConfigError
        It is no address.
    """

    def __init__(self, address: object) -> None:
        match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if match is None or int(match[3]) >= 1 << 16:
            raise ConfigError(f"an endpoint is HOST:PORT, as in 127.0.0.1:9393, not {shown(address)}")
        self.address = f"{match[1] or 'http'}://{match[2]}:{match[3]}"
        self._kind = _KINDS[match[1] or "http"]
        self._host, self._port = match[2].strip("[]"), int(match[3])
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float, retries: int = 0
    ) -> tuple[int, str, bytes]:
        """Status, media type and body of an answer.

        A connection that was kept may have ended meanwhile: then the request goes by a new one. `retries`:
        how often a request is sent again that could not be sent at all.

        Raises
        ------
        DeadlineExceeded
            There was no answer in time.
        ConnectionError
            There is no such server, or it broke off.
        """
        while True:
            connection, is_kept = self._take(min(timeout_s, _LONGEST_S))
            try:
                connection.request("POST", path, body, dict(headers))
                answer = connection.getresponse()
                data = answer.read()
            except TimeoutError as error:
                connection.close()
                raise DeadlineExceeded(f"{self.address} did not answer within {timeout_s:g} s") from error
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if is_kept and isinstance(error, (http.client.RemoteDisconnected, ConnectionError)):
                    continue
                if retries > 0 and isinstance(error, ConnectionRefusedError):
                    retries -= 1
                    continue
                raise ConnectionError(
                    f"{self.address} did not answer: {error or type(error).__name__}"
                ) from error
            self._keep(connection, answer)
            media_type = (answer.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
            return answer.status, media_type, self._plain(data, answer.headers.get("Content-Encoding"))

    def close(self) -> None:
        """Ends the connections that are kept."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __del__(self) -> None:  # as Paddle Serving's clients do, whose users close nothing
        if hasattr(self, "_idle"):
            self.close()

    def _take(self, timeout_s: float) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        if kept is None:
            return self._kind(self._host, self._port, timeout=timeout_s), False
        if kept.sock is not None:
            kept.sock.settimeout(timeout_s)
        return kept, True

    def _keep(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
        with self._lock:
            if not answer.will_close and len(self._idle) < _MOST_KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def _plain(self, data: bytes, encoding: str | None) -> bytes:
        if encoding != "gzip":
            return data
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ConnectionError(f"{self.address} sent a damaged answer: {error}") from error
