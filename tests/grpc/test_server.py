"""The gRPC server as such: where it listens, health, reflection, its end, and the options."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx2 as httpx
import numpy as np
import pytest
from engine_helpers import PATIENCE_S, engine_of, eventually, gated, rows
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_helpers import Client, failure, make_certificate, outputs_of, raw, serving
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from http_processes import ELSEWHERE, Server, started, waiting_server
from zoo import Zoo

from paddleinfer.errors import ConfigError
from paddleinfer.shim.grpc.calls import Calls
from paddleinfer.shim.grpc.infer import GrpcInference
from paddleinfer.shim.grpc.transfers import Arrivals, Patience, Unsent
from paddleinfer.shim.options import ServerOptions
from paddleinfer.shim.protocol.errors import RequestError
from paddleinfer.shim.service.models import Models
from paddleinfer.shim.service.service import Service

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


@contextlib.contextmanager
def client_of(address: str) -> Iterator[Client]:
    with grpc.insecure_channel(address) as channel:
        yield Client(channel)


# -- where it listens


def test_a_unix_socket_is_served_beside_the_port_a_left_over_one_replaced_and_it_is_gone_at_the_end(
    tmp_path: Path,
) -> None:
    path = tmp_path / "grpc.sock"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    with engine_of() as engine, serving(engine, grpc_uds=str(path)) as server:
        server.still_answers()
        assert server.server.addresses[1] == f"unix:{path}"
        with client_of(f"unix:{path}") as client:
            client.still_answers()
        taken = engine_of()
        with taken, pytest.raises(ConfigError, match=f"cannot listen for gRPC on unix:{path}"):
            serving(taken, grpc_uds=str(path)).__enter__()
        with client_of(f"unix:{path}") as client:
            client.still_answers()
        assert path.stat().st_mode & 0o777 == 0o660
        assert list(tmp_path.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == []


def test_a_unix_socket_that_another_server_has_made_since_stays(tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    with engine_of() as engine, engine_of() as second:
        with serving(engine, grpc_uds=str(path), uds_mode="600"):
            assert path.stat().st_mode & 0o777 == 0o600
            path.unlink()
            other = serving(second, grpc_uds=str(path))
            other.__enter__()
        with client_of(f"unix:{path}") as client:
            client.still_answers()
        other.__exit__(None, None, None)
    assert not path.exists()


def test_a_taken_port_is_said_in_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            engine_of() as engine,
            pytest.raises(ConfigError, match=f"127.0.0.1:{port}: Address already in use"),
        ):
            serving(engine, grpc_port=port).__enter__()


def test_a_second_server_does_not_share_the_port_of_the_first() -> None:
    with engine_of() as engine, serving(engine) as server:
        port = int(server.server.addresses[0].rpartition(":")[2])
        with pytest.raises(ConfigError, match="Address already in use"):
            serving(engine, grpc_port=port).__enter__()


def test_tls_is_served_with_the_certificate_of_https(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    with engine_of() as engine, serving(engine, tls_cert=str(certificate), tls_key=str(key)) as server:
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        with grpc.secure_channel(server.server.addresses[0], credentials) as channel:
            Client(channel).still_answers()
        code, _ = server.refused("ServerLive", timeout=PATIENCE_S)  # without TLS
        assert code == grpc.StatusCode.UNAVAILABLE


# -- health and reflection


def test_health_is_that_of_the_server_and_of_each_model() -> None:
    with engine_of() as engine, serving({"a": engine, "b": engine}) as server:
        stub = HealthStub(server.channel)

        def status(name: str) -> int:
            return stub.Check(HealthCheckRequest(service=name)).status

        assert [status(name) for name in ("", "a", "b")] == [SERVING] * 3
        model = server.service.models.get("b")
        model.state = "LOADING"
        assert [status(name) for name in ("", "a", "b")] == [NOT_SERVING, SERVING, NOT_SERVING]
        model.state = "READY"
        assert status("") == SERVING
        server.service.draining = True
        assert [status(name) for name in ("", "a", "b")] == [NOT_SERVING] * 3
        code, sentence = failure(lambda: status("q"))
        assert code == grpc.StatusCode.NOT_FOUND
        assert "there is no model 'q'" in sentence


def test_who_watches_health_is_told_of_changes_until_the_server_ends() -> None:
    with engine_of() as engine, serving(engine) as server:
        watch = HealthStub(server.channel).Watch(HealthCheckRequest(service="m"))
        unknown = HealthStub(server.channel).Watch(HealthCheckRequest(service="q"))
        assert next(watch).status == SERVING
        assert next(unknown).status == HealthCheckResponse.SERVICE_UNKNOWN
        server.service.draining = True
        assert next(watch).status == NOT_SERVING
        server.begin_stop(PATIENCE_S).result(PATIENCE_S)
        for call in (watch, unknown):
            assert failure(lambda call=call: next(call)) == (
                grpc.StatusCode.UNAVAILABLE,
                "the server is ending",
            )


def test_reflection_describes_the_services() -> None:
    with engine_of() as engine, serving(engine) as server:
        described = ProtoReflectionDescriptorDatabase(server.channel)
        assert sorted(described.get_services()) == [
            "baidu.paddle_serving.pipeline_serving.PipelineService",
            "baidu.paddle_serving.predictor.general_model.GeneralModelService",
            "grpc.health.v1.Health",
            "inference.GRPCInferenceService",
        ]
        file = described.FindFileContainingSymbol("inference.ModelInferRequest")
        assert file.service[0].name == "GRPCInferenceService"
        assert described.FindFileContainingSymbol("grpc.health.v1.Health").package == "grpc.health.v1"
        newer = server.channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            ServerReflectionRequest.SerializeToString,
            ServerReflectionResponse.FromString,
        )
        (answer,) = newer(iter([ServerReflectionRequest(list_services="")]))
        assert len(answer.list_services_response.service) == 4


# -- its end


def test_at_the_end_calls_under_way_are_answered_and_new_ones_are_not() -> None:
    with gated() as (engine, gate), serving(engine) as server:
        call = server.begin(**raw(x=rows()))
        assert eventually(lambda: engine.stats()["queued_requests"] == 1)
        stopping = server.begin_stop(PATIENCE_S)
        assert eventually(lambda: not _listens(server.server.addresses[0]))
        gate.open()
        assert np.array_equal(outputs_of(call.result())["y"], rows() * 2)
        stopping.result(PATIENCE_S)
        assert server.service.inference.cut == 0


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_what_is_not_over_in_time_is_cut_counted_and_told_so() -> None:
    with gated() as (engine, _), serving(engine) as server:
        calls = [server.begin(**raw(x=rows())) for _ in range(2)]
        stream = server.stream([raw(x=rows())] * 3)
        assert eventually(lambda: engine.stats()["queued_requests"] == 5)
        server.begin_stop(0.0).result(PATIENCE_S)
        for call in (*calls, stream):
            code, sentence = failure(lambda call=call: next(call) if call is stream else call.result())
            assert code == grpc.StatusCode.UNAVAILABLE
            assert sentence == "the server ended before this request was over"
        assert server.service.inference.cut == 5
        assert engine.stats()["cancelled"] == 5


def _address(server: Server) -> str:
    (line,) = [line for line in server.lines if "gRPC" in line]
    assert line.startswith("paddleinfer-http serves gRPC on 127.0.0.1:")
    return line.rpartition(" ")[2]


def test_one_process_answers_both_protocols_and_ends_both_with_0(tmp_path: Path) -> None:
    with waiting_server(tmp_path, grpc_port=0) as server, client_of(_address(server)) as client:
        call = client.begin(**raw(x=rows()))
        assert eventually((tmp_path / "running-0").exists, PATIENCE_S)
        assert server.status("/v2/health/ready") == 200
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: not _listens(_address(server)), PATIENCE_S)
        (tmp_path / "go").touch()
        assert np.array_equal(outputs_of(call.result())["y"], rows())
        code, errors = server.end()
    assert code == 0
    assert "draining 1 request\n" in errors


def test_past_the_drain_timeout_cut_calls_count_in_the_exit_code(tmp_path: Path) -> None:
    with (
        waiting_server(tmp_path, grpc_port=0, drain_timeout=0.1) as server,
        client_of(_address(server)) as client,
    ):
        call = client.begin(**raw(x=rows()))
        assert eventually((tmp_path / "running-0").exists, PATIENCE_S)
        server.process.send_signal(signal.SIGTERM)
        assert call.exception().code() == grpc.StatusCode.UNAVAILABLE
        code, errors = server.end()
    assert code == 3
    assert "1 request did not finish within --drain-timeout" in errors


def test_health_is_false_and_calls_are_served_for_the_drain_delay(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with (
        waiting_server(tmp_path, grpc_port=0, drain_delay=10 * PATIENCE_S) as server,
        client_of(_address(server)) as client,
    ):
        watch = HealthStub(client.channel).Watch(HealthCheckRequest())
        assert next(watch).status == SERVING
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        assert np.array_equal(outputs_of(client.infer(**raw(x=rows())))["y"], rows())


def test_after_the_drain_delay_the_server_ends(tmp_path: Path) -> None:
    with waiting_server(tmp_path, grpc_port=0, drain_delay=0.2) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 0


def test_a_model_is_served_over_both_from_its_files(zoo: Zoo) -> None:
    model = zoo.directory("mlp", zoo.formats[0])
    arguments = ["--host", "127.0.0.1", "--port", "0", "--grpc-port", "0", "--instances", "1"]
    with started("-m", "paddleinfer.shim", f"--model=m={model}", *arguments) as server:
        metadata = httpx.get(f"{server.url}/v2/models/m", timeout=PATIENCE_S).json()
        tensor = metadata["inputs"][0]
        x = rows(2)[:, :1].repeat(tensor["shape"][1], 1)
        request = {"name": tensor["name"], "shape": x.shape, "datatype": "FP32", "data": x.tolist()}
        over_http = httpx.post(
            f"{server.url}/v2/models/m/infer", json={"inputs": [request]}, timeout=PATIENCE_S
        ).json()["outputs"][0]
        with client_of(_address(server)) as client:
            (y,) = outputs_of(client.infer(**raw(**{tensor["name"]: x}))).values()
        assert np.allclose(np.array(over_http["data"]).reshape(over_http["shape"]), y, rtol=1e-5)


def test_a_grpc_port_that_is_taken_ends_the_command_with_a_sentence(zoo: Zoo) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        arguments = ["--host", "127.0.0.1", "--port", "0", "--grpc-port", str(port)]
        with pytest.raises(AssertionError, match=f"cannot listen for gRPC on 127.0.0.1:{port}"):
            started("-m", "paddleinfer.shim", zoo.directory("mlp", zoo.formats[0]), *arguments).__enter__()


def test_calls_that_come_while_the_server_ends_do_not_keep_it() -> None:
    async def never(request: Any, context: Any) -> None:
        raise AssertionError("it was called")

    unsent = Unsent(1, Patience(PATIENCE_S, 1, PATIENCE_S))
    calls = Calls(Arrivals(1, 1, PATIENCE_S), unsent)
    endless = calls.endless(never)
    calls.end_endless()
    with pytest.raises(RequestError, match="the server is ending"):
        asyncio.run(endless(None, None))
    inference = GrpcInference(Service(Models.of({})), unsent)
    inference.end()
    with pytest.raises(RequestError, match="the server is ending"):
        asyncio.run(inference.stream(None, None))  # type: ignore[arg-type]


# -- options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"grpc_port": 1 << 16}, "grpc_port must be an integer from 0 to 65535"),
        ({"grpc_port": "9"}, "grpc_port must be an integer"),
        ({"grpc_uds": ""}, "grpc_uds must be a text"),
    ],
)
def test_an_address_that_is_none_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ServerOptions(**options)


def test_without_the_extra_grpc_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "grpc_status" else find(name, *more)
    )
    assert not ServerOptions().serves_grpc
    for options in ({"grpc_port": 0}, {"grpc_uds": "x"}):
        with pytest.raises(ConfigError, match=r"pip install 'paddleinfer\[grpc\]'"):
            ServerOptions(**options)


def test_a_server_of_http_alone_imports_no_grpc() -> None:
    code = "import sys, paddleinfer.shim.server; print(*{'grpc', 'google'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ELSEWHERE
    )
    assert done.stdout.strip() == ""


def test_with_an_access_log_each_call_is_a_line(tmp_path: Path) -> None:
    with waiting_server(tmp_path, grpc_port=0, access_log=True) as server:
        with client_of(_address(server)) as client:
            client.call("ServerLive")
            client.refused("ModelConfig", name="q")
        server.process.send_signal(signal.SIGTERM)
        code, errors = server.end()
    assert code == 0
    first, second = (line for line in errors.splitlines() if "paddleinfer.grpc.access" in line)
    assert '"ServerLive" OK' in first
    assert '"ModelConfig" NOT_FOUND' in second


def test_a_limit_beyond_what_grpc_counts_is_its_own() -> None:
    with engine_of() as engine, serving(engine, max_body_bytes=1 << 40) as server:
        server.still_answers()
