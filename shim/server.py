"""Runs the application under uvicorn, and gRPC beside it: loading, signals, draining, the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import os
import signal
from collections.abc import Iterator, Mapping
from time import monotonic_ns
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from paddleinfer.backends.paddle.installed import import_paddle
from paddleinfer.errors import ConfigError, PaddleInferError
from paddleinfer.serve.service import Service as ModelService
from paddleinfer.serving.formats.pipeline import Pipeline
from paddleinfer.tracing.files import kept_text, write_trace

from .http.app import CLOSE_TIMEOUT_S, Application
from .http.protocol import HttpProtocol
from .http.tls_listener import TlsListener
from .http.traces import last_trace
from .options import ServerOptions
from .protocol.errors import RequestError
from .service.daemon_thread import DaemonCalls
from .service.log_format import escape_logs, say, tell
from .service.models import Models
from .service.served_models import Served, ServedModel
from .service.service import Service, ServiceOptions
from .service.watch import watch_files
from .sockets.descriptors import allow_descriptors
from .sockets.listen_backlog import has_waiting, refuse_new
from .sockets.listener import Listener, listen

if TYPE_CHECKING:
    from .grpc.server import GrpcServer

__all__ = ["serve"]

_log = logging.getLogger("paddleinfer.http")

_BACKLOG = 2048
"""The most connections that may wait to be accepted."""
# The wait after the last accepted connection, for handshakes under way and for requests to be read.
_LAST_CONNECTIONS_S = 0.1

# New objects until garbage is collected. A request under way has dozens, and a batch of requests more than
# Python's 700, so each batch would be searched for garbage.
_NEW_OBJECTS = 10_000
_CUT = 3
_WRONG = 2
_FAILED = 1


def serve(
    models: Mapping[str, Served],
    options: ServerOptions,
    service_options: ServiceOptions,
    services: Mapping[str, ModelService] | None = None,
    pipelines: Mapping[str, Pipeline] | None = None,
) -> int:
    """Serves these models until a signal, and returns the exit code.

    It is 0; 1 if the address is not available, the trace cannot be written, or something unexpected failed;
    2 if no model could be opened, because of its files or an option; 3 if requests were cut because they had
    not finished within ``drain_timeout``.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    _log.setLevel(logging.INFO)
    escape_logs([logging.getLogger()])
    if options.access_log:
        logging.getLogger("paddleinfer.grpc.access").setLevel(logging.INFO)
    if options.is_open_to_all:
        _log.warning(
            "anyone who can reach this machine may call the server because it listens on all interfaces "
            "without a key; --api-key-file sets one, --host 127.0.0.1 listens on this machine only"
        )
    try:
        service = Service(Models.of(models), service_options, services or {}, pipelines or {})
    except ConfigError as error:
        say(f"paddleinfer-http: {error}")
        return _WRONG
    allow_descriptors(service.connections)
    server = _Server(service, options)
    with server.capture_signals():  # of everything that has to be cleaned up
        try:
            listener = server.listener = listen(options)
        except ConfigError as error:
            say(f"paddleinfer-http: {error}")
            return _FAILED
        try:
            with _telemetry(options):
                server.run([listener.socket])
        finally:
            listener.remove_file()
        if server.calls.under_way or service.models.under_way:
            # It is inside a call of Paddle that nothing can end, and the interpreter cannot exit around it.
            code = server.exit_code
            os._exit(code)
        return server.exit_code


@contextlib.contextmanager
def _telemetry(options: ServerOptions) -> Iterator[None]:
    """Sends spans during the block, the last of them once the server has drained."""
    if not options.otel:
        yield
        return
    from .service import telemetry  # imports OpenTelemetry

    provider = telemetry.set_up(options.server_name)
    try:
        yield
    finally:
        if provider is not None:
            telemetry.end(provider)


class _Server(uvicorn.Server):
    """uvicorn's server, which listens first, then loads, and drains before it ends."""

    listener: Listener | None = None

    def __init__(self, service: Service, options: ServerOptions) -> None:
        self._service = service
        self._options = options
        self._tasks: list[asyncio.Task[None]] = []
        self.calls = DaemonCalls()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: int | None = None
        """The exit code, once something has failed."""
        self._grpc: GrpcServer | None = None
        super().__init__(
            uvicorn.Config(
                Application(service, load=False),
                loop="uvloop",
                http=HttpProtocol,
                lifespan="on",
                log_level="info" if options.access_log else "warning",
                access_log=options.access_log,
                # Which client is behind a proxy concerns only the log.
                proxy_headers=options.access_log,
                ssl_certfile=options.tls_cert,
                ssl_keyfile=options.tls_key,
                timeout_keep_alive=options.keep_alive_timeout,  # type: ignore[arg-type]
                timeout_graceful_shutdown=math.ceil(options.drain_timeout),
                server_header=False,
                ws="none",
            )
        )
        # uvicorn has just set it up.
        escape_logs(map(logging.getLogger, ("uvicorn", "uvicorn.error", "uvicorn.access")))

    @property
    def exit_code(self) -> int:
        """The exit code of the process, after run()."""
        if self._failure is not None or not self.started:
            return self._failure or _FAILED
        cut = self._service.inference.cut
        if cut:
            say(f"paddleinfer-http: {_counted(cut)} did not finish within --drain-timeout")
        return _CUT if cut else 0

    async def startup(self, sockets: Any = None) -> None:
        """Starts to listen, then loads the models; until they are loaded their requests get 503."""
        loop = self._loop = asyncio.get_running_loop()
        await self.lifespan.startup()
        assert self.listener is not None
        listener, context = self.listener.socket, self.config.ssl
        if context is None:
            server = await loop.create_server(self._protocol, sock=listener, backlog=_BACKLOG)
            self.servers = [server]
        else:
            connections, tasks = self._service.connections, self.server_state.tasks
            timeout_s = self._options.tls_handshake_timeout
            over_tls = TlsListener(listener, self._protocol, connections, tasks, context, timeout_s)
            over_tls.start(_BACKLOG)
            self.servers = [over_tls]  # type: ignore[list-item]
        self.started = True
        if await self._start_grpc():
            self._tasks.append(asyncio.create_task(self._load()))

    def _protocol(self) -> HttpProtocol:
        return HttpProtocol(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=self._loop,
        )

    async def _start_grpc(self) -> bool:
        """Starts gRPC if it is asked for; False if that failed."""
        if not self._options.serves_grpc:
            return True
        from .grpc.server import GrpcServer  # imports grpc

        server = GrpcServer(self._service, self._options)
        try:
            await server.start()
        except ConfigError as error:
            say(f"paddleinfer-http: {error}")
            self._fail(_FAILED)
            return False
        self._grpc = server
        return True

    async def _load(self) -> None:
        try:
            await self._import_paddle()
            await self._service.models.load_all(_introduce)
            if self._service.draining:
                return
        except (PaddleInferError, RequestError) as error:
            if self._service.draining:  # the load was ended
                return
            say(f"paddleinfer-http: {error}")
            self._fail(_WRONG)
            return
        except Exception:
            _log.exception("no model could be loaded")
            self._fail(_FAILED)
            return
        # A full collection takes 0.1 s to visit the objects that importing Paddle leaves.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_NEW_OBJECTS)
        if self._grpc is not None:
            tell(f"paddleinfer-http serves gRPC on {', '.join(self._grpc.addresses)}")
        assert self.listener is not None
        for served in self._service.services:
            if served.name in self._service.given_services:
                what = f"a service at /services/{served.name}"
            else:
                what = f"a web service at /{served.name}/prediction"
            tell(f"{served.name}: {what}, {served.service.described}")
        tell(f"paddleinfer-http serves on {self.listener.url}")
        if self._options.reload_interval is not None:
            self._tasks.append(
                asyncio.create_task(watch_files(self._service.models, self._options.reload_interval))
            )

    def _fail(self, code: int) -> None:
        self._failure = code
        self.should_exit = True

    async def _import_paddle(self) -> None:
        if any(model.source is not None for model in self._service.models):
            await self.calls.start(import_paddle)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal starts the drain, the second ends the process at once."""
        if self._service.draining:
            say(f"paddleinfer-http: received a second signal; exiting at once, {self._in_flight} abandoned")
            if self.listener is not None:
                self.listener.remove_file()
            if self._grpc is not None:
                self._grpc.remove_file()
            os._exit(128 + sig)
        self._service.draining = True
        if self._loop is None or self._loop.is_closed():
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._begin_drain, sig)

    @property
    def _in_flight(self) -> str:
        return _counted(self._service.inference.under_way)

    def _begin_drain(self, sig: int) -> None:
        self._service.end()
        for connection in self.server_state.connections:
            if isinstance(connection, HttpProtocol):
                connection.begin_drain()
        self._service.models.end_loads()
        say(f"paddleinfer-http: received {signal.Signals(sig).name}; draining {self._in_flight}")
        self._tasks.append(asyncio.create_task(self._drain()))

    async def _drain(self) -> None:
        await asyncio.sleep(self._options.drain_delay)
        self.should_exit = True

    async def shutdown(self, sockets: Any = None) -> None:
        """Stops listening, lets requests in flight finish, and closes the engines."""
        for task in self._tasks:
            task.cancel()
        engines = [(model, model.engine) for model in self._service.models if model.engine is not None]
        if self.listener is not None:
            self.listener.remove_file()
            await self._accept_last(self.listener)
        ends = [super().shutdown(sockets)]
        if self._grpc is not None:
            ends.append(self._grpc.stop(self._options.drain_timeout))
        await asyncio.gather(*ends)
        await self._service.services.close(CLOSE_TIMEOUT_S)
        await self._service.models.close(CLOSE_TIMEOUT_S)
        # The answers that clients have not read although they had time.
        unread = sum(
            connection.transport.get_write_buffer_size() > 0
            for connection in self.server_state.connections
            if isinstance(connection, HttpProtocol)
        )
        self._service.inference.cut += unread
        if self._options.trace is not None and self._failure is None:
            self._keep_trace(self._options.trace, last_trace(engines, self._service.services))

    async def _accept_last(self, listener: Listener) -> None:
        """Accepts the connections that wait, which would be reset otherwise."""
        refuse_new(listener.socket)
        ends_ns = monotonic_ns() + int(self._options.drain_timeout * 1e9)
        for _ in range(2):
            while has_waiting(listener.socket) and monotonic_ns() < ends_ns:
                await asyncio.sleep(0.001)
            await asyncio.sleep(_LAST_CONNECTIONS_S)

    def _keep_trace(self, path: str, document: dict[str, Any]) -> None:
        try:
            write_trace(path, document)
        except OSError as error:
            say(f"paddleinfer-http: the trace cannot be written to {path}: {error.strerror}")
            self._failure = _FAILED
        else:
            kept = kept_text(document["otherData"]["requests"], document["otherData"]["lost_requests"])
            say(f"paddleinfer-http: {path} has {kept}")


def _counted(requests: int) -> str:
    return f"{requests} request{'' if requests == 1 else 's'}"


def _of_the_runtime(in_force: Mapping[str, Any]) -> list[str]:
    if in_force["backend"] != "paddle":
        return [in_force["backend"]]
    return [
        f"ir_optim {'on' if in_force.get('ir_optim') else 'off'}",
        f"mem_optim {'on' if in_force.get('mem_optim') else 'off'}",
        f"oneDNN {'on' if in_force.get('onednn') else 'off'}",
    ]


def _introduce(model: ServedModel) -> None:
    """Prints one line: the model, its instances and its options."""
    assert model.source is not None
    if model.engine is None:
        tell(f"{model.label}: {model.source.path}, which the first request for it loads")
        return
    in_force = {name: line["value"] for name, line in model.engine.effective_config().items()}
    facts = [
        f"{in_force['instances']} instances on {in_force.get('device', 'cpu')}",
        *_of_the_runtime(in_force),
        f"batches of up to {in_force['max_batch_size']} rows ({in_force['policy']})",
    ]
    tell(f"{model.label}: {model.source.path}, {', '.join(facts)}")
