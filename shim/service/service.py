"""What one server is: its models, its options, and whether it takes new work."""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .body import Headers
from .inference import Inference
from .models import Models

if TYPE_CHECKING:
    from .request_spans import ServerSpans

__all__ = ["Service", "ServiceOptions"]


@dataclass(frozen=True)
class ServiceOptions:
    """What the application itself needs to know; the listener's options are the server's."""

    api_key: str | None = None
    """Asked for as ``Authorization: Bearer KEY``, except by the health routes."""
    max_body_bytes: int = 64 << 20
    """Of a request, also after decompression."""
    max_inflight: int | None = None
    """Inference requests under way at once; further ones get 429."""
    read_timeout_s: float = 30.0
    """Seconds that a client may be silent in the middle of a request; only where `HttpProtocol` listens."""
    repository_control: bool = False
    """Offer to load and unload models."""
    server_name: str = "paddleinfer"
    """What the server's metadata calls it."""
    otel: bool = False
    """Make OpenTelemetry's server spans of inference requests. In an application that makes spans of its
    requests itself, ``paddleinfer.otel.instrument`` the engines instead."""


@dataclass
class Service:
    """Shared by all routes of one application."""

    models: Models
    options: ServiceOptions = field(default_factory=ServiceOptions)
    draining: bool = False
    """The server is about to end: it still answers, but is not ready for more."""

    def __post_init__(self) -> None:
        self.inference = Inference(self.options.max_body_bytes, self.options.max_inflight)
        self.spans: ServerSpans | None = None
        if self.options.otel:
            from .request_spans import ServerSpans  # brings OpenTelemetry

            self.spans = ServerSpans()
        self._waiting: set[asyncio.Future[None]] = set()
        self._key = self.options.api_key.encode() if self.options.api_key else None

    def end(self) -> None:
        """The server begins to end; to be called on its loop."""
        self.draining = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def ended(self) -> None:
        """Returns when the server begins to end."""
        if self.draining:
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)

    def allows(self, headers: Headers) -> bool:
        """Whether these bring the key, where there is one."""
        if self._key is None:
            return True
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._key)

    @property
    def ready(self) -> bool:
        """Whether a load balancer should send requests here."""
        return not self.draining and self.models.ready
