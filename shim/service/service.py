"""Holds the state of one server: its models, its options, and whether it takes new work."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown
from paddleinfer.serve.service import Service as ModelService
from paddleinfer.serving.formats.pipeline import Pipeline

from ..protocol.body import Headers
from ..protocol.limits import RequestLimits
from .connection_limits import ConnectionLimits
from .inference import Inference
from .long_work import LongWork
from .models import Models, unknown_model
from .origins import AllowedHosts
from .served_models import ServedModel
from .service_pipeline import ServicePipeline
from .services import Services

if TYPE_CHECKING:
    from .request_spans import ServerSpans

__all__ = ["Service", "ServiceOptions"]


@dataclass(frozen=True)
class ServiceOptions:
    """Options of the application itself; ServerOptions has those of the listener."""

    api_key: str | None = None
    """The key that requests must send as ``Authorization: Bearer KEY``, except to the health routes."""
    max_body_bytes: int = 64 << 20
    """Bytes of a request's body, also after decompression."""
    max_json_bytes: int = 32 << 20
    """Bytes of the JSON in a request over HTTP, also after decompression; binary tensors do not count."""
    max_inflight: int | None = None
    """Inference requests under way at once; further ones get 429."""
    max_buffered_bytes: int | None = None
    """Bytes of all requests' bodies at once; further ones get 429. It also limits all answers that clients
    have not read; those that have waited longest are dropped. None: four times `max_body_bytes`."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that a Host header may have; ``*.`` and a name allows all below it, () anything."""
    max_connections: int = 4000
    """Connections at once; further ones get 503. This and the next limits need `HttpProtocol`."""
    max_connections_per_address: int = 2000
    """Connections from one client's address."""
    read_timeout_s: float = 30.0
    """Seconds that a client may be silent in the middle of a request."""
    request_timeout_s: float = 300.0
    """Seconds in which a request must arrive whole."""
    write_timeout_s: float = 30.0
    """Seconds in which a client must read some of an answer that waits for it."""
    min_bytes_per_s: int = 500
    """The least rate of requests, and of reading answers, that take longer than these silences."""
    http_status: str = "200"
    """Status of failed requests in Paddle Serving's forms: "200", as its servers answer, or "real"."""
    repository_control: bool = False
    """Let clients load and unload models."""
    max_load_batch_size: int = 1024
    """The largest ``max_batch_size`` that a client may load a model with."""
    max_loaded_bytes: int | None = None
    """What the weights of all models that are opened here may take. The least recently used ones are unloaded
    to make room, and loaded again by the next request for them. None: all models stay loaded."""
    server_name: str = "paddleinfer"
    """The server's name in its metadata."""
    otel: bool = False
    """Make OpenTelemetry's server spans of inference requests. If the application makes such spans itself,
    use ``paddleinfer.otel.instrument`` on the engines instead."""


@dataclass
class Service:
    """The state that all routes of one application share."""

    models: Models
    options: ServiceOptions = field(default_factory=ServiceOptions)
    given_services: Mapping[str, ModelService] = field(default_factory=dict)
    """Name -> a service around the models."""
    pipelines: Mapping[str, Pipeline] = field(default_factory=dict)
    """Name -> what answers Paddle Serving's requests under that name; its service is served as any other.
    Each of the given services is one of them."""
    draining: bool = False
    """Whether the server is shutting down: it still answers, but is not ready for new requests."""

    def __post_init__(self) -> None:
        options = self.options
        for name in self.pipelines:
            if name in self.given_services:
                raise ConfigError(f"a service and a pipeline are both named {shown(name)}")
        of_pipelines = {name: pipeline.service for name, pipeline in self.pipelines.items()}
        services = {**self.given_services, **of_pipelines}
        if options.max_loaded_bytes is not None:
            self.models.limit_memory(options.max_loaded_bytes)
        self.services = Services(services, self.models)
        of_services = {name: ServicePipeline(service) for name, service in self.given_services.items()}
        self.pipelines = {**of_services, **self.pipelines}
        self.long_work = LongWork()
        """Runs work that would block the event loop for too long."""
        self.limits = RequestLimits(options.max_body_bytes, options.max_json_bytes)
        self.buffered_bytes = options.max_buffered_bytes or 4 * options.max_body_bytes
        """The inference requests of all protocols."""
        self.inference = Inference(options.max_inflight, self.long_work, self.buffered_bytes)
        self.connections = ConnectionLimits(
            options.max_connections, options.max_connections_per_address, self.buffered_bytes
        )
        self.hosts = AllowedHosts(options.allowed_hosts)
        self.spans: ServerSpans | None = None
        if options.otel:
            from .request_spans import ServerSpans  # imports OpenTelemetry

            self.spans = ServerSpans()
        self._waiting: set[asyncio.Future[None]] = set()
        self._key = self.options.api_key.encode() if self.options.api_key else None

    def model_of_prediction(self, name: str) -> ServedModel:
        """The model that a client of Paddle Serving's asks by a name, which no pipeline has.

        Raises RequestError 404 for a name that is not served; it names the pipelines, too.
        """
        if self.models.find(name) is None:
            raise unknown_model(name, [*self.pipelines, *self.models.names])
        return self.models.choose(name)

    def end(self) -> None:
        """Begins the shutdown. Call it on the event loop."""
        self.draining = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def ended(self) -> None:
        """Returns when the shutdown begins."""
        if self.draining:
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)

    def allows(self, headers: Headers) -> bool:
        """Whether these headers contain the API key, if one is required."""
        if self._key is None:
            return True
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._key)

    @property
    def ready(self) -> bool:
        """Whether a load balancer should send requests here."""
        return not self.draining and self.models.ready
