"""Every option of the server itself: its type, its default, its limits."""

from __future__ import annotations

import importlib.util
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from paddleinfer.config import check_timeout
from paddleinfer.errors import ConfigError
from paddleinfer.option_values import check_writable

from .service import ServiceOptions

__all__ = ["ServerOptions"]


_NEEDED = ("host", "server_name")
_TEXTS = (*_NEEDED, "uds", "grpc_uds", "api_key", "api_key_file", "tls_cert", "tls_key", "trace")


@dataclass(frozen=True)
class ServerOptions:
    """How the server listens, whom it answers, and how it ends.

    Raises
    ------
    ConfigError
        An option is out of range; the sentence says what would be right.
    """

    host: str = "0.0.0.0"
    """Address to listen on."""
    port: int = 9393
    """Port to listen on; 0 takes a free one, which the first lines name."""
    uds: str | None = None
    """Path of a Unix socket to listen on instead."""
    grpc_port: int | None = None
    """Port to serve gRPC on, beside HTTP; 0 takes a free one, which the first lines name."""
    grpc_uds: str | None = None
    """Path of a Unix socket to serve gRPC on, instead of the port or beside it."""
    api_key: str | None = None
    """Key that every request but the health checks must bring: Authorization: Bearer KEY."""
    api_key_file: str | None = None
    """File whose first line is that key."""
    tls_cert: str | None = None
    """Certificate chain (PEM), to serve HTTPS, and gRPC over TLS."""
    tls_key: str | None = None
    """The certificate's private key (PEM)."""
    max_body_bytes: int = 64 << 20
    """Bytes of a request's body, also after decompression, and of a gRPC message."""
    max_inflight: int | None = None
    """Inference requests under way at once, over HTTP and gRPC; further ones get 429."""
    read_timeout: float = 30.0
    """Seconds that a client may be silent in the middle of a request over HTTP; then it gets 408."""
    drain_delay: float = 0.0
    """Seconds after SIGTERM in which new requests are still served while readiness is false already."""
    drain_timeout: float = 30.0
    """Seconds after that in which accepted requests may end."""
    access_log: bool = False
    """Write a line for each request."""
    reload_interval: float | None = None
    """Seconds between two looks at the models' files; changed ones are loaded again."""
    repository_control: bool = False
    """Let clients load and unload models."""
    server_name: str = "paddleinfer"
    """What the server's metadata calls it; for clients that want to read "triton" there."""
    trace: str | None = None
    """File that gets the last requests and runs of each model as a Chrome trace when the server ends."""
    otel: bool = False
    """Send OpenTelemetry spans of requests, to where the OTEL_ variables say (OTLP over HTTP)."""

    def __post_init__(self) -> None:
        _check_port("port", self.port)
        if self.grpc_port is not None:
            _check_port("grpc_port", self.grpc_port)
        for name in ("drain_delay", "drain_timeout", "read_timeout", "reload_interval"):
            check_timeout(name, getattr(self, name))
        for name in ("access_log", "repository_control", "otel"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be true or false, not {getattr(self, name)!r}")
        for name in _TEXTS:
            value = getattr(self, name)
            if not (isinstance(value, str) and value) and not (value is None and name not in _NEEDED):
                raise ConfigError(f"{name} must be a text, not {value!r}")
        if self.reload_interval == 0:
            raise ConfigError("reload_interval must be more than 0 seconds")
        for name in ("max_body_bytes", "max_inflight"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name} must be an integer from 1 up, not {value!r}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("tls_cert and tls_key are given together, or neither")
        for name in ("tls_cert", "tls_key", "api_key_file"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ConfigError(f"{name} names {path}, which is no file")
        if self.tls_cert is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.tls_cert, self.tls_key)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"tls_cert and tls_key are no PEM certificate and its key: {error}"
                ) from None
        if self.api_key is not None and self.api_key_file is not None:
            raise ConfigError("give api_key or api_key_file, not both")
        if self.api_key is not None and not _is_key(self.api_key):
            raise ConfigError("api_key must be printable ASCII without spaces, and not empty")
        if self.trace is not None:
            check_writable("trace", Path(self.trace))
        if self.serves_grpc:
            _check_grpc_is_installed()

    @property
    def serves_grpc(self) -> bool:
        """Whether an address for gRPC is given."""
        return self.grpc_port is not None or self.grpc_uds is not None

    def service_options(self) -> ServiceOptions:
        """What the application needs of these; reads the key's file, and the variables of OpenTelemetry.

        Raises
        ------
        ConfigError
            The file holds no key, or ``otel`` cannot be had.
        """
        key = self.api_key
        if self.api_key_file is not None:
            lines = Path(self.api_key_file).read_text(encoding="utf-8", errors="replace").splitlines()
            key = lines[0].strip() if lines else ""
            if not _is_key(key):
                raise ConfigError(
                    f"the first line of {self.api_key_file} must be a key: printable ASCII, no spaces"
                )
        if self.otel:
            _check_telemetry()
        return ServiceOptions(
            api_key=key,
            max_body_bytes=self.max_body_bytes,
            max_inflight=self.max_inflight,
            read_timeout_s=self.read_timeout,
            repository_control=self.repository_control,
            server_name=self.server_name,
            otel=self.otel,
        )


def _check_port(name: str, port: object) -> None:
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port < 1 << 16:
        raise ConfigError(f"{name} must be an integer from 0 to 65535, not {port!r}")


def _check_grpc_is_installed() -> None:
    for module in ("grpc", "grpc_health", "grpc_reflection", "grpc_status"):
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"grpc_port and grpc_uds need {module}, which is not installed; "
                "pip install 'paddleinfer[grpc]' brings it"
            )


def _check_telemetry() -> None:
    try:
        from . import telemetry
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"otel needs {error.name}, which is not installed; pip install 'paddleinfer[otel]' brings it"
        ) from None
    telemetry.check(os.environ)


def _is_key(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and text != ""
