"""Measures what OpenTelemetry's spans cost: off, on but not sampled, and on and sampled.

``python -m benchmarks.bench_otel [--quick] [--json FILE]``
"""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

import numpy as np
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, TraceIdRatioBased

from benchmarks import harness
from benchmarks.harness import Callers, Effort, Section, differences, interleave, p50_us, ratios, spread
from benchmarks.models import MODELS, directory
from benchmarks.transport.client import Connection, request
from benchmarks.transport.server import served
from paddleinfer import Engine
from paddleinfer.otel import instrument, uninstrument

MODEL = "mlp"
CALLERS = 16
IN_FLIGHT = 8
OFF = "off"
UNSAMPLED = "on, not sampled"
SOME = "on, one in 100 sampled"
SAMPLED = "on, sampled"
ENCODED = "on, sampled, and encoded for export"
_TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"
_INFER = f"/v2/models/{MODEL}/infer"


class Discarding(SpanExporter):
    """Discards spans; with `encode` only after making the bytes that OTLP would send."""

    def __init__(self, *, encode: bool) -> None:
        self._encode = encode

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Exports a batch."""
        if self._encode:
            encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


def providers() -> dict[str, TracerProvider | None]:
    """Returns variant -> the provider of its spans."""
    return {
        OFF: None,
        UNSAMPLED: TracerProvider(sampler=ALWAYS_OFF),
        SOME: _provider(TraceIdRatioBased(0.01), encode=True),
        SAMPLED: _provider(ALWAYS_ON, encode=False),
        ENCODED: _provider(ALWAYS_ON, encode=True),
    }


def _provider(sampler: Sampler, *, encode: bool) -> TracerProvider:
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(BatchSpanProcessor(Discarding(encode=encode)))
    return provider


@contextlib.contextmanager
def traced(engine: Engine, provider: TracerProvider | None) -> Iterator[None]:
    """Has the engine make spans during the block, if there is a provider."""
    if provider is None:
        yield
        return
    instrument(engine, provider)
    try:
        yield
    finally:
        uninstrument(engine)


def in_process(effort: Effort) -> dict[str, Section]:
    """Measures one call at a time, and many callers at once, of one engine."""
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(Engine(directory(MODEL), batchable=True, onednn=False))
        callers = Callers([functools.partial(submit_some, engine)] * CALLERS)
        stack.callback(callers.close)
        x = np.ones((1, *MODELS[MODEL].fed), np.float32)

        def lone(provider: TracerProvider | None) -> float:
            with traced(engine, provider):
                return p50_us(lambda: engine.infer([x]), effort.calls)

        def throughput(provider: TracerProvider | None) -> float:
            with traced(engine, provider):
                return IN_FLIGHT * callers.rate(effort.seconds)

        variants = providers()
        alone = interleave(
            {name: functools.partial(lone, provider) for name, provider in variants.items()}, effort.rounds
        )
        rates = interleave(
            {name: functools.partial(throughput, provider) for name, provider in variants.items()},
            effort.rounds,
        )
    section = Section(f"{MODEL}, {CALLERS} callers", ["variant", "requests/s", "unit", "of off"])
    for name, values in rates.items():
        section.measured(name, values, "1/s", spread(ratios(values, rates[OFF])))
    return {"infer": _latencies(f"{MODEL}, one infer() at a time", alone), "throughput": section}


def submit_some(engine: Engine) -> None:
    """Submits several requests at once, so that the callers cost little beside the engine."""
    x = np.ones((1, *MODELS[MODEL].fed), np.float32)
    for future in [engine.submit([x]) for _ in range(IN_FLIGHT)]:
        future.result()


def over_http(effort: Effort) -> Section:
    """Measures one small request at a time over a kept connection; sampled spans are not exported."""
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(_connected())
        spans = stack.enter_context(_connected("--otel"))
        asked = {
            OFF: functools.partial(plain.ask, _request("01")),
            UNSAMPLED: functools.partial(spans.ask, _request("00")),
            SAMPLED: functools.partial(spans.ask, _request("01")),
        }
        for ask in asked.values():
            p50_us(ask, effort.calls // 10)
        # Windows last a time and not a number of calls, because these calls take longer.
        taken = interleave(
            {name: functools.partial(_p50_us_of, ask, effort.seconds) for name, ask in asked.items()},
            effort.rounds,
        )
    return _latencies(f"{MODEL}, one HTTP request at a time", taken)


@contextlib.contextmanager
def _connected(*flags: str) -> Iterator[Connection]:
    where = ["--host", "127.0.0.1", "--port", "0", *flags]
    with served({MODEL: directory(MODEL)}, where, {"OTEL_TRACES_EXPORTER": "none"}) as server:
        parts = urlsplit(server.http)
        connection = Connection(socket.AF_INET, (parts.hostname, parts.port))
        try:
            connection.open()
            yield connection
        finally:
            connection.close()


def _request(flags: str) -> Sequence[bytes | memoryview]:
    shape = [1, *MODELS[MODEL].fed]
    tensor = {"name": "x", "shape": shape, "datatype": "FP32", "data": [1.0] * int(np.prod(shape))}
    body = json.dumps({"inputs": [tensor]}).encode()
    return request(_INFER, {"traceparent": _TRACEPARENT + flags}, [body])


def _p50_us_of(call: Callable[[], object], seconds: float) -> float:
    clock = time.perf_counter_ns
    taken: list[int] = []
    end = clock() + seconds * 1e9
    while not taken or clock() < end:
        begin = clock()
        call()
        taken.append(clock() - begin)
    return statistics.median(taken) / 1e3


def _latencies(title: str, taken: Mapping[str, list[float]]) -> Section:
    section = Section(title, ["variant", "p50", "unit", "more than off"])
    for name, values in taken.items():
        section.measured(name, values, "us", spread(differences(values, taken[OFF])))
    return section


def main() -> None:
    """Measures, prints and writes; the module describes it."""
    options = harness.options_of(__doc__)
    effort = Effort.of(options.quick)
    sections = {**in_process(effort), "http": over_http(effort)}
    for section in sections.values():
        harness.show(section)
    if options.json:
        harness.write_json(options.json, sections, vars(effort))


if __name__ == "__main__":
    main()
