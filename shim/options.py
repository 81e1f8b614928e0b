"""Defines every option of the server itself: its type, its default, its limits."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paddleinfer.config import check_timeout
from paddleinfer.config.checks import check_choice
from paddleinfer.errors import ConfigError
from paddleinfer.options.parser import check_writable
from paddleinfer.sentences import shown

from .service.origins import is_host_pattern
from .service.service import ServiceOptions
from .service.versions import VersionPolicy

__all__ = ["ServerOptions"]


_NEEDED = ("host", "server_name", "uds_mode")
_TEXTS = (*_NEEDED, "uds", "grpc_uds", "api_key", "api_key_file", "tls_cert", "tls_key", "trace")
_TIMEOUTS = (
    "read_timeout",
    "request_timeout",
    "write_timeout",
    "keep_alive_timeout",
    "tls_handshake_timeout",
)
_SECONDS = ("drain_delay", "drain_timeout", *_TIMEOUTS)
_COUNTS = (
    *("max_body_bytes", "max_grpc_message_bytes", "max_json_bytes", "max_buffered_bytes", "max_inflight"),
    *("max_connections", "max_connections_per_address", "min_bytes_per_s"),
    *("max_load_batch_size", "max_loaded_bytes"),
)
_MOST_COUNT = (1 << 63) - 1  # what counts and metrics can say
_MODE = re.compile("0?[0-7]{3}")


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
    uds_mode: str = "660"
    """Permissions of the Unix sockets, in octal; who may write to one may call the server."""
    grpc_port: int | None = None
    """Port to serve gRPC on, beside HTTP; 0 takes a free one, which the first lines name."""
    grpc_uds: str | None = None
    """Path of a Unix socket to serve gRPC on, instead of the port or beside it."""
    api_key: str | None = None
    """API key that every request except health checks must send: Authorization: Bearer KEY."""
    api_key_file: str | None = None
    """File whose first line is that key."""
    tls_cert: str | None = None
    """Certificate chain (PEM), to serve HTTPS, and gRPC over TLS."""
    tls_key: str | None = None
    """The certificate's private key (PEM)."""
    max_body_bytes: int = 64 << 20
    """Bytes of a request's body, also after decompression, over HTTP and gRPC."""
    max_grpc_message_bytes: int = 12 << 20
    """Bytes of a gRPC message, if max_body_bytes is not less; other requests wait while grpc copies it."""
    max_json_bytes: int = 32 << 20
    """Bytes of the JSON of a request over HTTP, also after decompression; binary tensors do not count."""
    max_buffered_bytes: int | None = None
    """Bytes of all incoming bodies, and of all answers not yet read; by default 4 times max_body_bytes."""
    max_inflight: int | None = None
    """Inference requests in flight at once, over HTTP and gRPC; further ones get 429."""
    max_connections: int = 4000
    """Open HTTP connections, beyond which clients get 503; the same number over gRPC."""
    max_connections_per_address: int = 2000
    """Open HTTP connections from one client's address."""
    read_timeout: float = 30.0
    """Seconds that a client may be silent in the middle of an HTTP request before it gets 408."""
    request_timeout: float = 300.0
    """Seconds within which a whole request must arrive; otherwise its client gets 408."""
    write_timeout: float = 30.0
    """Seconds that a client may leave an answer unread before its connection is closed."""
    min_bytes_per_s: int = 500
    """Least average bytes per second of a request, or of reading an answer, that takes longer than that."""
    tls_handshake_timeout: float = 10.0
    """Seconds within which a client must complete its TLS handshake, and the HTTP/2 one over gRPC."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that a request's Host may have; "*.example.com" allows all below it; without any, all."""
    keep_alive_timeout: float = 75.0
    """Seconds that an idle HTTP connection stays open; should exceed the proxy's own."""
    drain_delay: float = 0.0
    """Seconds after SIGTERM during which new requests are still served while readiness is already false."""
    drain_timeout: float = 30.0
    """Seconds after that within which accepted requests may finish."""
    access_log: bool = False
    """Write a line for each request."""
    version_policy: str = "latest"
    """Which numbered directories of a model to serve as its versions: latest, latest:2, all, or 1,3."""
    reload_interval: float | None = None
    """Seconds between two checks of the models' files; a model whose files changed is reloaded."""
    http_status: Literal["200", "real"] = "200"
    """Status of a failed request in Paddle Serving's forms: "200" beside its err_no, or the "real" one."""
    repository_control: bool = False
    """Let clients load and unload models."""
    max_load_batch_size: int = 1024
    """Largest max_batch_size that a client may load a model with, unless the model's own is larger."""
    max_loaded_bytes: int | None = None
    """Bytes of all loaded models' weights; the least recently used are unloaded, and loaded on demand."""
    server_name: str = "paddleinfer"
    """Name of the server in its metadata; some clients expect "triton"."""
    trace: str | None = None
    """File to which the last requests and runs of each model are written as a Chrome trace at shutdown."""
    otel: bool = False
    """Send OpenTelemetry spans of requests to the address in the OTEL_ variables (OTLP over HTTP)."""

    def __post_init__(self) -> None:
        VersionPolicy.of(self.version_policy)
        _check_port("port", self.port)
        if self.grpc_port is not None:
            _check_port("grpc_port", self.grpc_port)
        for name in (*_SECONDS, "reload_interval"):
            check_timeout(name, getattr(self, name))
        for name in _SECONDS:
            if getattr(self, name) is None:
                raise ConfigError(f"{name} must be a number of seconds, not None")
        check_choice("http_status", self.http_status, ("200", "real"))
        for name in ("access_log", "repository_control", "otel"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be true or false, not {shown(getattr(self, name))}")
        for name in _TEXTS:
            value = getattr(self, name)
            if not (isinstance(value, str) and value) and not (value is None and name not in _NEEDED):
                raise ConfigError(f"{name} must be a text, not {shown(value)}")
        for name in ("reload_interval", *_TIMEOUTS):
            if getattr(self, name) == 0:
                raise ConfigError(f"{name} must be more than 0 seconds")
        if not _MODE.fullmatch(self.uds_mode):
            raise ConfigError(
                f'uds_mode must be permissions in octal, such as "660", not {shown(self.uds_mode)}'
            )
        if self.uds is not None and self.uds == self.grpc_uds:
            raise ConfigError(f"uds and grpc_uds cannot be one path, {self.uds}")
        if self.uds is None and self.port and self.port == self.grpc_port:
            raise ConfigError(f"port and grpc_port cannot be one port, {self.port}")
        for name in _COUNTS:
            value = getattr(self, name)
            if value is None and name not in ("max_buffered_bytes", "max_inflight", "max_loaded_bytes"):
                raise ConfigError(f"{name} must be an integer from 1 up, not None")
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name} must be an integer from 1 up, not {shown(value)}")
            if value is not None and value > _MOST_COUNT:
                raise ConfigError(f"{name} must be at most {_MOST_COUNT}, not {shown(value)}")
        if self.max_buffered_bytes is not None and self.max_buffered_bytes < self.max_body_bytes:
            raise ConfigError(
                f"max_buffered_bytes must be at least max_body_bytes, {self.max_body_bytes}, "
                f"not {self.max_buffered_bytes}"
            )
        _check_hosts(self.allowed_hosts)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("tls_cert and tls_key must be given together")
        for name in ("tls_cert", "tls_key", "api_key_file"):
            path = getattr(self, name)
            if path is not None and not os.path.isfile(path):  # works for any text, unlike Path's own method
                raise ConfigError(f"{name} points to {path}, which is not a file")
        if self.tls_cert is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.tls_cert, self.tls_key)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"tls_cert and tls_key are not a PEM certificate and its key: {error}"
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
    def is_open_to_all(self) -> bool:
        """Whether anyone who reaches the machine may call the server."""
        has_port = self.uds is None or self.grpc_port is not None
        return has_port and _is_everywhere(self.host) and self.api_key is None and self.api_key_file is None

    @property
    def socket_mode(self) -> int:
        """Permissions of the Unix sockets."""
        return int(self.uds_mode, 8)

    @property
    def serves_grpc(self) -> bool:
        """Whether an address for gRPC is given."""
        return self.grpc_port is not None or self.grpc_uds is not None

    def service_options(self) -> ServiceOptions:
        """Returns the options that the application needs; reads the key's file and OpenTelemetry's variables.

        Raises
        ------
        ConfigError
            The file holds no key, or ``otel`` is not possible.
        """
        key = self.api_key
        if self.api_key_file is not None:
            try:
                lines = Path(self.api_key_file).read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError as error:
                raise ConfigError(f"cannot read {self.api_key_file}: {error.strerror}") from None
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
            max_json_bytes=self.max_json_bytes,
            max_buffered_bytes=self.max_buffered_bytes,
            max_inflight=self.max_inflight,
            allowed_hosts=self.allowed_hosts,
            max_connections=self.max_connections,
            max_connections_per_address=self.max_connections_per_address,
            read_timeout_s=self.read_timeout,
            request_timeout_s=self.request_timeout,
            write_timeout_s=self.write_timeout,
            min_bytes_per_s=self.min_bytes_per_s,
            http_status=self.http_status,
            repository_control=self.repository_control,
            max_load_batch_size=self.max_load_batch_size,
            max_loaded_bytes=self.max_loaded_bytes,
            server_name=self.server_name,
            otel=self.otel,
        )


def _is_everywhere(host: str) -> bool:
    """Tells whether an address means all interfaces; it can be spelled in many ways."""
    try:
        return socket.inet_aton(host) == bytes(4)
    except OSError:
        pass
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return (address.ipv4_mapped or address).is_unspecified


def _check_hosts(hosts: object) -> None:
    if not isinstance(hosts, tuple | list):
        raise ConfigError(f"allowed_hosts must be a list of names, not {shown(hosts)}")
    for host in hosts:
        if not (isinstance(host, str) and is_host_pattern(host)):
            raise ConfigError(
                f"allowed_hosts takes names or addresses without a port, and *. before a name, "
                f"not {shown(host)}"
            )


def _check_port(name: str, port: object) -> None:
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port < 1 << 16:
        raise ConfigError(f"{name} must be an integer from 0 to 65535, not {shown(port)}")


def _check_grpc_is_installed() -> None:
    for module in ("grpc", "grpc_health", "grpc_reflection", "grpc_status"):
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"grpc_port and grpc_uds need {module}, which is not installed; "
                "pip install 'paddleinfer[grpc]' brings it"
            )


def _check_telemetry() -> None:
    try:
        from .service import telemetry
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"otel needs {error.name}, which is not installed; pip install 'paddleinfer[otel]' brings it"
        ) from None
    telemetry.check(os.environ)


def _is_key(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and text != ""
