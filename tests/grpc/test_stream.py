"""ModelStreamInfer: many requests of one call, answered in their order."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
from engine_helpers import echo_engine, engine_of, eventually, gated, merging, rows
from grpc_helpers import Requests, failure, outputs_of, raw, serving


def numbered(count: int) -> list[dict[str, Any]]:
    return [{**raw(x=rows(value=number)), "id": str(number)} for number in range(count)]


def test_answers_come_in_the_order_of_their_requests() -> None:
    with engine_of(instances=4) as engine, serving(engine) as server:
        responses = [response.infer_response for response in server.stream(numbered(500))]
    assert [response.id for response in responses] == [str(number) for number in range(500)]
    assert [outputs_of(response)["y"][0, 0] for response in responses] == [2.0 * n for n in range(500)]
    assert all(response.parameters["triton_final_response"].bool_param for response in responses)


def test_requests_of_a_stream_share_batches() -> None:
    with merging() as (engine, gate), serving(engine) as server:
        responses = server.stream(numbered(8))
        assert eventually(lambda: engine.stats()["queued_requests"] == 8)
        gate.open()
        assert len(list(responses)) == 8
        assert 8 in gate.sizes


def test_an_error_of_one_request_is_told_and_the_stream_goes_on() -> None:
    wrong = {**raw(x=rows()), "model_name": "q", "id": "wrong"}
    with engine_of() as engine, serving(engine) as server:
        first, second, third = server.stream([*numbered(1), wrong, *numbered(1)])
    assert first.error_message == third.error_message == ""
    assert "unknown model 'q'" in second.error_message
    assert (second.infer_response.id, second.infer_response.model_name) == ("wrong", "q")
    assert not second.infer_response.outputs


def test_bytes_that_are_no_request_are_told_and_the_stream_goes_on() -> None:
    with engine_of() as engine, serving(engine) as server:
        ask = server.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        wrong, _ = ask(iter([b"\x2a\xff", b""]))
        assert b"the message is not an inference.ModelInferRequest" in wrong


def test_a_client_that_wants_statuses_gets_that_of_the_first_error() -> None:
    wrong = {**raw(x=rows()), "model_name": "q"}
    with engine_of() as engine, serving(engine) as server:
        call = server.stream([*numbered(1), wrong, *numbered(1), wrong], (("triton_grpc_error", "true"),))
        assert next(call).error_message == ""
        code, sentence = failure(lambda: next(call))
        assert code == grpc.StatusCode.NOT_FOUND
        assert "unknown model 'q'" in sentence
        server.still_answers()


def test_a_stream_that_its_client_cancels_leaves_nothing_that_runs() -> None:
    with gated() as (engine, gate), serving(engine) as server:
        call = server.stream(numbered(5))
        assert eventually(lambda: engine.stats()["queued_requests"] == 5)
        call.cancel()
        assert eventually(lambda: engine.stats()["cancelled"] == 5)
        assert eventually(lambda: server.service.inference.under_way == 0)
        gate.open()
        server.still_answers()
        assert gate.ran == [-1, 1]


def test_a_client_that_reads_no_answers_is_not_read_from_for_ever() -> None:
    count = 600
    with gated(max_queue_rows=count) as (engine, gate), serving(engine) as server:
        call = server.stream(numbered(count))
        assert eventually(lambda: engine.stats()["queued_requests"] >= 256)
        server.call("ServerLive")  # it had time to read on
        assert engine.stats()["queued_requests"] == 256
        gate.open()
        assert sum(1 for _ in call) == count


def test_requests_of_a_stream_count_to_those_under_way() -> None:
    with gated() as (engine, gate), serving(engine, max_inflight=2) as server:
        requests = Requests()
        call = server.stream(requests)
        for fields in numbered(3):
            requests.send(**fields)
        assert eventually(lambda: engine.stats()["queued_requests"] == 2)
        gate.open()
        messages = [next(call).error_message for _ in range(3)]
        requests.end()
        assert messages[:2] == ["", ""]
        assert "--max-inflight" in messages[2]


def test_at_the_end_of_the_server_an_open_stream_gets_what_it_asked_and_ends() -> None:
    with gated() as (engine, gate), serving(engine) as server:
        requests = Requests()
        call = server.stream(requests)
        requests.send(**raw(x=rows()))
        assert eventually(lambda: engine.stats()["queued_requests"] == 1)
        stopping = server.begin_stop(30.0)
        gate.open()
        assert np.array_equal(outputs_of(next(call).infer_response)["y"], rows() * 2)
        assert failure(lambda: next(call)) == (grpc.StatusCode.UNAVAILABLE, "the server is ending")
        requests.end()
        stopping.result(30.0)
        assert server.service.inference.cut == 0


def test_answers_that_a_client_does_not_read_count_as_cut(caplog: pytest.LogCaptureFixture) -> None:
    large = np.zeros((1, 4 << 20), "float32")
    room = 2 * large.nbytes
    with (
        echo_engine(shape=(-1, large.size)) as engine,
        serving(engine, max_grpc_message_bytes=room) as server,
    ):
        call = server.stream([raw(x=large)] * 2)
        assert eventually(lambda: engine.stats()["results"] == 2)
        server.begin_stop(0.0).result(30.0)
        assert server.service.inference.cut == 2
        call.cancel()
    assert caplog.messages == []


@pytest.mark.parametrize("requests", [[], numbered(1)], ids=["none", "one"])
def test_a_stream_ends_with_its_last_answer(requests: list[dict[str, Any]]) -> None:
    with engine_of() as engine, serving(engine) as server:
        call = server.stream(requests)
        assert len(list(call)) == len(requests)
        assert call.code() == grpc.StatusCode.OK
