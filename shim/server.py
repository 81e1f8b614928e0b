"""Runs the application under uvicorn, and gRPC beside it: loading, signals, draining, the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from paddleinfer.engine import Engine
from paddleinfer.errors import ConfigError, PaddleInferError
from paddleinfer.installed_paddle import import_paddle
from paddleinfer.trace_file import kept_text, write_trace

from .app import CLOSE_TIMEOUT_S, Application
from .http_protocol import HttpProtocol
from .listener import listen, url_of
from .looking import last_trace
from .models import Models, ModelSource, ServedModel
from .server_options import ServerOptions
from .service import Service, ServiceOptions
from .watch import watch_files

if TYPE_CHECKING:
    from .grpc_server import GrpcServer

__all__ = ["serve"]

_log = logging.getLogger("paddleinfer.http")

_CUT = 3
_FAILED = 1


def serve(
    models: Mapping[str, Engine | ModelSource], options: ServerOptions, service_options: ServiceOptions
) -> int:
    """Serves these models until a signal; gives the exit code.

    It is 0; 1 when a model could not be loaded, the address not be had or the trace not be written; 3 when
    requests were cut since they were not over when ``drain_timeout`` was.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    if options.access_log:
        logging.getLogger("paddleinfer.grpc.access").setLevel(logging.INFO)
    service = Service(Models.of(models), service_options)
    try:
        listener = listen(options)
    except ConfigError as error:
        print(f"paddleinfer-http: {error}", file=sys.stderr)
        return _FAILED
    server = _Server(service, options, url_of(listener, options.host, options.tls_cert is not None))
    with _telemetry(options):
        server.run([listener])
    return server.exit_code


@contextlib.contextmanager
def _telemetry(options: ServerOptions) -> Iterator[None]:
    """Spans are sent meanwhile, the last of them when the server has drained."""
    if not options.otel:
        yield
        return
    from . import telemetry  # brings OpenTelemetry

    provider = telemetry.set_up(options.server_name)
    try:
        yield
    finally:
        if provider is not None:
            telemetry.end(provider)


class _Server(uvicorn.Server):
    """uvicorn's, which listens first and loads then, and drains before it ends."""

    def __init__(self, service: Service, options: ServerOptions, url: str) -> None:
        self._service = service
        self._url = url
        self._options = options
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed = False
        self._grpc: GrpcServer | None = None
        super().__init__(
            uvicorn.Config(
                Application(service, load=False),
                loop="uvloop",
                http=HttpProtocol,
                lifespan="on",
                log_level="info" if options.access_log else "warning",
                access_log=options.access_log,
                # Who is behind a proxy concerns the log alone.
                proxy_headers=options.access_log,
                ssl_certfile=options.tls_cert,
                ssl_keyfile=options.tls_key,
                timeout_graceful_shutdown=math.ceil(options.drain_timeout),
                server_header=False,
                ws="none",
            )
        )

    @property
    def exit_code(self) -> int:
        """Of the process, after run()."""
        if self._failed or not self.started:
            return _FAILED
        cut = self._service.inference.cut
        if cut:
            print(
                f"paddleinfer-http: {cut} requests were cut, for they were not over when --drain-timeout was",
                file=sys.stderr,
            )
        return _CUT if cut else 0

    async def startup(self, sockets: Any = None) -> None:
        """Listens; the models are loaded meanwhile, and requests for them get 503."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started and await self._start_grpc():
            self._tasks.append(asyncio.create_task(self._load()))

    async def _start_grpc(self) -> bool:
        """Whether it serves gRPC, or need not."""
        if not self._options.serves_grpc:
            return True
        from .grpc_server import GrpcServer  # brings grpc

        server = GrpcServer(self._service, self._options)
        try:
            await server.start()
        except ConfigError as error:
            print(f"paddleinfer-http: {error}", file=sys.stderr)
            self._failed = self.should_exit = True
            return False
        self._grpc = server
        return True

    async def _load(self) -> None:
        try:
            await self._import_paddle()
            await self._service.models.load_all(_introduce)
        except PaddleInferError as error:
            print(f"paddleinfer-http: {error}", file=sys.stderr)
            self._failed = self.should_exit = True
            return
        except Exception:
            _log.exception("a model could not be loaded")
            self._failed = self.should_exit = True
            return
        # Importing Paddle leaves objects that a full collection takes 0.1 s to visit.
        gc.collect()
        gc.freeze()
        if self._grpc is not None:
            print(f"paddleinfer-http serves gRPC on {', '.join(self._grpc.addresses)}", flush=True)
        print(f"paddleinfer-http serves on {self._url}", flush=True)
        if self._options.reload_interval is not None:
            self._tasks.append(
                asyncio.create_task(watch_files(self._service.models, self._options.reload_interval))
            )

    async def _import_paddle(self) -> None:
        """While Paddle is imported its own handler of SIGTERM is in force: the signal has to wait."""
        if all(model.source is None for model in self._service.models):
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            await asyncio.to_thread(import_paddle)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain, the second ends the process at once."""
        if self._service.draining:
            sys.stderr.write(
                f"paddleinfer-http: ended at once, with {self._service.inference.under_way} requests\n"
            )
            sys.stderr.flush()
            os._exit(128 + sig)
        self._service.draining = True
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._begin_drain, sig)

    def _begin_drain(self, sig: int) -> None:
        self._service.end()
        print(
            f"paddleinfer-http: {signal.Signals(sig).name}, ends in {self._options.drain_delay:g} s "
            f"with {self._service.inference.under_way} requests under way",
            file=sys.stderr,
        )
        self._tasks.append(asyncio.create_task(self._drain()))

    async def _drain(self) -> None:
        await asyncio.sleep(self._options.drain_delay)
        self.should_exit = True

    async def shutdown(self, sockets: Any = None) -> None:
        """Stops listening, lets what is under way end, and closes the engines."""
        for task in self._tasks:
            task.cancel()
        engines = [(model, model.engine) for model in self._service.models if model.engine is not None]
        ends = [super().shutdown(sockets)]
        if self._grpc is not None:
            ends.append(self._grpc.stop(self._options.drain_timeout))
        await asyncio.gather(*ends)
        await self._service.models.close(CLOSE_TIMEOUT_S)
        # Answers that their clients have not read, of those that were given time.
        unread = sum(
            connection.transport.get_write_buffer_size() > 0
            for connection in self.server_state.connections
            if isinstance(connection, HttpProtocol)
        )
        self._service.inference.cut += unread
        if self._options.trace is not None and not self._failed:
            self._keep_trace(self._options.trace, last_trace(engines))

    def _keep_trace(self, path: str, document: dict[str, Any]) -> None:
        try:
            write_trace(path, document)
        except OSError as error:
            print(
                f"paddleinfer-http: the trace cannot be written to {path}: {error.strerror}", file=sys.stderr
            )
            self._failed = True
        else:
            kept = kept_text(document["otherData"]["requests"], document["otherData"]["lost_requests"])
            print(f"paddleinfer-http: {path} has {kept}", file=sys.stderr)


def _introduce(model: ServedModel) -> None:
    """One line of what runs with what."""
    assert model.engine is not None
    in_force = {name: line["value"] for name, line in model.engine.effective_config().items()}
    facts = [
        f"{in_force['instances']} instances on {in_force.get('device', 'cpu')}",
        f"ir_optim {'on' if in_force.get('ir_optim') else 'off'}",
        f"mem_optim {'on' if in_force.get('mem_optim') else 'off'}",
        f"oneDNN {'on' if in_force.get('onednn') else 'off'}",
        f"batches of up to {in_force['max_batch_size']} rows ({in_force['policy']})",
    ]
    assert model.source is not None
    print(f"{model.name}: {model.source.path}, {', '.join(facts)}", flush=True)
