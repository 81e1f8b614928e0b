"""``--otel``: what the process sends, where, until when, and which settings it refuses."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import pytest
from engine_helpers import eventually
from http_commands import plan, refused
from http_processes import asking, under_way, waiting_server
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from otel_helpers import SAMPLED, SPAN_ID, TRACE_ID, global_recorded
from otlp_receiver import receiving, values
from zoo import Zoo

import paddleinfer.shim.service
from paddleinfer import ConfigError
from paddleinfer.shim.service import telemetry


@pytest.fixture
def model(zoo: Zoo) -> Path:
    return zoo.directory("mlp", zoo.formats[0])


def test_every_span_is_sent_by_the_time_the_process_has_ended(tmp_path: Path) -> None:
    with receiving() as receiver:
        # Not sent before the end.
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
        with waiting_server(tmp_path, environment=environment, otel=True, drain_timeout=30.0) as server:
            (tmp_path / "go").touch()
            for _ in range(5):
                assert server.post(headers={"traceparent": SAMPLED}).status_code == 200
            (tmp_path / "go").unlink()
            with asking(server, 3) as ends:
                assert eventually(lambda: "8.0" in under_way(server))
                server.process.send_signal(signal.SIGTERM)
                (tmp_path / "go").touch()
            assert [end.status_code for end in ends] == [200] * 3
            assert server.end()[0] == 0
    assert receiver.paths == {"/v1/traces"} and len(receiver.spans) == 8
    below = [span for span in receiver.spans if span.trace_id == TRACE_ID.to_bytes(16, "big")]
    assert len(below) == 5 and {span.parent_span_id for span in below} == {SPAN_ID.to_bytes(8, "big")}
    assert {values(span.attributes)["paddleinfer.outcome"] for span in receiver.spans} == {"result"}
    assert {resource["service.name"] for resource in receiver.resources} == {"paddleinfer"}
    assert all(resource["service.instance.id"] for resource in receiver.resources)


def test_a_request_that_is_cut_is_an_error_and_is_sent_too(tmp_path: Path) -> None:
    with receiving() as receiver:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_SERVICE_NAME": "ocr"}
        with waiting_server(tmp_path, environment=environment, otel=True, drain_timeout=0.1) as server:
            with asking(server, 2) as ends:
                assert eventually(lambda: "2.0" in under_way(server))
                server.process.send_signal(signal.SIGTERM)
            assert [end.status_code for end in ends] == [503] * 2
            assert server.end()[0] == 3
    assert [values(span.attributes)["paddleinfer.outcome"] for span in receiver.spans] == ["closed"] * 2
    assert [values(span.attributes)["error.type"] for span in receiver.spans] == ["503"] * 2
    assert {resource["service.name"] for resource in receiver.resources} == {"ocr"}


def test_a_collector_that_takes_nothing_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    taken = threading.Event()

    class Stuck(SpanProcessor):
        def shutdown(self) -> None:
            taken.wait()

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Stuck())
    telemetry.end(provider, timeout_s=0.01)
    taken.set()
    assert "some spans could not be sent within 0.01 s" in caplog.text


def test_the_service_has_the_name_of_its_variable_else_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    attributes = telemetry.resource_of("digits").attributes
    assert (attributes["service.name"], attributes["deployment.environment.name"]) == ("digits", "test")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ocr")
    assert telemetry.resource_of("digits").attributes["service.name"] == "ocr"


def test_a_provider_that_is_there_already_is_kept() -> None:
    global_recorded()
    assert telemetry.set_up("digits") is None


@pytest.mark.parametrize(
    ("names", "exporters"),
    [("", ["otlp"]), ("otlp", ["otlp"]), ("none", []), ("console, otlp", ["console", "otlp"])],
)
def test_the_exporters_are_those_of_the_variable(names: str, exporters: list[str]) -> None:
    assert telemetry.check({"OTEL_TRACES_EXPORTER": names}) == exporters


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp, console or none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "must be http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "must be http/protobuf"),
    ],
)
def test_a_variable_that_cannot_be_is_refused_in_a_sentence(
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    says: str,
) -> None:
    monkeypatch.setenv(variable, value)
    sentence = refused(capsys, model, "--otel")
    assert variable in sentence and repr(value) in sentence and says in sentence


def test_the_flag_without_its_packages_is_refused_with_the_command_that_brings_them(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(paddleinfer.shim.service, "telemetry", raising=False)
    monkeypatch.delitem(sys.modules, "paddleinfer.shim.service.telemetry", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert "pip install 'paddleinfer[otel]'" in refused(capsys, model, "--otel")


def test_the_option_is_a_flag_a_variable_and_a_line_of_the_file(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("[server]\notel = true\n")
    given = [
        plan(model, "--otel"),
        plan(model, environment={"PADDLEINFER_OTEL": "true"}),
        plan(model, "--config", file),
    ]
    assert all(planned.server.service_options().otel for planned in given)
    assert not plan(model).server.service_options().otel
    file.write_text("[server]\notel = 1\n")
    with pytest.raises(ConfigError, match="otel must be true or false"):
        plan(model, "--config", file)
