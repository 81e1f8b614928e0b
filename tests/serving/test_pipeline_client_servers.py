"""``PipelineClient``: which servers it asks, and how a call ends that gets no answer."""

from __future__ import annotations

import json
import socket
from typing import Any

import grpc_helpers
import pytest
from engine_helpers import PATIENCE_S, Gate, echo_engine, engine_of, eventually, rows, run_threads
from pipeline_listener import Listener

from paddleinfer.errors import Cancelled, ConfigError, DeadlineExceeded
from paddleinfer.serve import Service
from paddleinfer.serving import PipelineClient
from paddleinfer.serving.grpc_channel import GrpcChannel


def test_several_servers_take_turns_and_one_that_is_gone_is_passed_over(client: PipelineClient) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gone = f"127.0.0.1:{unused.getsockname()[1]}"
        with Listener() as one, Listener() as other:
            client.connect([one.address, gone, f"grpc://{other.address}"])
            while not (one.bodies and other.bodies):
                assert client.predict({"x": "1"}).err_no == 0
            client.release()


@pytest.mark.parametrize(
    ("endpoints", "says"),
    [
        ([], "endpoints are a list"),
        (["nonsense"], "endpoints are a list"),
        (["127.0.0.1:99999"], "endpoints are a list"),
        (["127.0.0.1:1", 5], "in this process"),
        ([5], "an Engine is asked"),
        (object(), "an Engine is asked"),
        (["inproc://x", "127.0.0.1:1"], "cannot stand beside"),
        (["nobody.invalid:1", "127.0.0.1:1"], "not known"),
    ],
)
def test_what_cannot_be_asked_is_refused(client: PipelineClient, endpoints: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        client.connect(endpoints)
    with pytest.raises(ConfigError, match="not connected"):
        client.predict({"x": "1"})


def test_a_silent_server_and_none_at_all_are_errors(client: PipelineClient) -> None:
    gate = Gate()
    with engine_of(gate) as engine, grpc_helpers.serving(engine) as served:
        client.connect(served.server.addresses[0])
        client.set_rpc_timeout_ms(50)
        with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
            client.predict({"x": "1,2,3"})
        client.set_rpc_timeout_ms(int(PATIENCE_S * 1000))
        waiting = client.predict({"x": "1,2,3"}, asyn=True)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.01)
        assert waiting.cancel()
        with pytest.raises(Cancelled):
            waiting.result()
        gate.open()
    with pytest.raises(ConnectionError, match="UNAVAILABLE"):
        client.predict({"x": "1,2,3"})


def test_the_longest_timeout_is_no_deadline_that_has_passed(client: PipelineClient) -> None:
    with echo_engine() as engine, grpc_helpers.serving(engine) as served:
        client.connect(served.server.addresses[0])
        client.set_rpc_timeout_ms((1 << 63) - 1)
        assert client.predict({"x": "1,2,3"}).err_no == 0
        assert client.predict({"x": "1,2,3"}, asyn=True).result().err_no == 0


def test_a_channel_that_was_closed_meanwhile_is_no_connection() -> None:
    channel = GrpcChannel(["127.0.0.1:9"], "s")
    channel.close()
    for ask in (channel.post, channel.begin):
        with pytest.raises(ConnectionError, match="released meanwhile"):
            ask(b"", {}, PATIENCE_S)


def test_what_is_cancelled_or_too_late_is_given_up_by_the_server() -> None:
    gate = Gate()
    with (
        engine_of(gate) as engine,
        Service(engine, preprocess=lambda _: {"x": rows()}) as service,
        grpc_helpers.serving(engine, {"s": service}) as served,
    ):
        client = PipelineClient(name="s")
        client.connect(served.server.addresses[0])
        asked = [client.predict({"k": "v"}, asyn=True) for _ in range(5)]
        assert eventually(lambda: service.calls.under_way == 5)
        assert all(future.cancel() for future in asked)
        assert eventually(lambda: service.calls.under_way == 0)
        client.set_rpc_timeout_ms(30)
        with pytest.raises(DeadlineExceeded):
            client.predict({"k": "v"})
        assert eventually(lambda: service.calls.under_way == 0)
        assert service.stats()["outcomes"]["cancelled"] >= 5
        gate.open()
        client.release()


def test_a_key_is_sent_with_every_call(client: PipelineClient) -> None:
    with engine_of() as engine, grpc_helpers.serving(engine, api_key="k") as served:
        client.connect(served.server.addresses[0])
        with pytest.raises(ConnectionError, match="UNAUTHENTICATED"):
            client.predict({"x": "1,2,3"})
        client.add_metadata({"Authorization": "Bearer k"})
        assert client.predict({"x": "1,2,3"}).err_no == 0
        client.release()


@pytest.mark.parametrize(
    "metadata", [5, {"a b": "c"}, {"": "c"}, {5: "c"}, {"a": 5}, {"a": "ä"}, {"a": "\n"}, {"a-bin": "c"}]
)
def test_metadata_that_cannot_be_sent_is_refused(client: PipelineClient, metadata: Any) -> None:
    with pytest.raises(ConfigError, match="metadata"):
        client.add_metadata(metadata)


def test_threads_share_one_client() -> None:
    with engine_of() as engine, grpc_helpers.serving(engine) as served:
        for target in (served.server.addresses[0], engine):
            client = PipelineClient()
            client.connect(target)

            def ask_often(number: int, client: PipelineClient = client) -> None:
                for _ in range(4):
                    ret = client.predict({"x": [[number] * 3]})
                    assert json.loads(ret.value[0]) == [[2 * number] * 3]

            run_threads(16, ask_often)
            client.release()
