"""Sets up OpenTelemetry's SDK by its standard variables, and flushes it when the server ends."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Mapping
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["FLUSH_TIMEOUT_S", "check", "end", "resource_of", "set_up"]

_log = logging.getLogger("paddleinfer.http")

FLUSH_TIMEOUT_S: Final = 5.0
_EXPORTERS = {"otlp": OTLPSpanExporter, "console": ConsoleSpanExporter}
_PROTOCOL = "http/protobuf"


def check(environment: Mapping[str, str]) -> list[str]:
    """Returns the exporters that OTEL_TRACES_EXPORTER names.

    Raises
    ------
    ConfigError
        A variable asks for what the server cannot do.
    """
    names = [name.strip() for name in environment.get("OTEL_TRACES_EXPORTER", "").split(",") if name.strip()]
    for name in names:
        if name not in (*_EXPORTERS, "none"):
            raise ConfigError(
                f"OTEL_TRACES_EXPORTER must be otlp, console or none, or several of them, not {shown(name)}"
            )
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environment.get(variable) or _PROTOCOL
        if protocol != _PROTOCOL:
            raise ConfigError(
                f"{variable} must be {_PROTOCOL}, not {shown(protocol)}: spans go by OTLP over HTTP"
            )
    return [name for name in names or ["otlp"] if name != "none"]


def set_up(service_name: str) -> TracerProvider | None:
    """Makes the process's tracer provider; None if there is one already, which its maker ends.

    Raises
    ------
    ConfigError
        A variable is wrong, as ``check`` finds.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    exporters = check(os.environ)
    provider = TracerProvider(resource=resource_of(service_name), shutdown_on_exit=False)
    for name in exporters:
        provider.add_span_processor(BatchSpanProcessor(_EXPORTERS[name]()))
    trace.set_tracer_provider(provider)
    return provider


def end(provider: TracerProvider, timeout_s: float = FLUSH_TIMEOUT_S) -> None:
    """Sends remaining spans. A collector that does not take them in time holds nobody up."""
    ending = threading.Thread(target=provider.shutdown, daemon=True)
    ending.start()
    ending.join(timeout_s)
    if ending.is_alive():
        _log.warning("some spans could not be sent within %g s and are lost", timeout_s)


def resource_of(service_name: str) -> Resource:
    """Returns the resource: the variables' attributes, and defaults for the others."""
    resource = Resource.create()
    own = {}
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        own["service.name"] = service_name
    if "service.instance.id" not in resource.attributes:  # run numbers count within one process
        own["service.instance.id"] = str(uuid.uuid4())
    return resource.merge(Resource(own))
