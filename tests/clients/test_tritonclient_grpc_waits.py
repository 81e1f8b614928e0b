"""tritonclient's deadlines over gRPC, its patience, and requests that it takes back. On the real clock."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from client_servers import Addresses
from grpc import StatusCode
from triton_calls import KEYS, refusal
from triton_grpc_calls import CLIENTS, PATIENCE_S, Answers, tensor

SHORT_S = 0.2


class Held:
    """Requests that the server holds until they are released; it runs one at a time."""

    def __init__(self, addresses: Addresses) -> None:
        self.value = np.full((1, 1), next(KEYS), "float32")
        self.url = addresses.grpc
        self._metrics = f"http://{addresses.http}/metrics"

    @property
    def inputs(self) -> list[Any]:
        return [tensor("x", self.value)]

    def release(self) -> None:
        with triton.InferenceServerClient(self.url) as client:
            client.infer("release", self.inputs)

    def wait_for(self, *, busy: int, queued: int) -> None:
        """Until so many run and so many wait."""
        self._until(lambda: self._gauges() == (busy, queued))

    def wait_for_failures(self, count: int) -> None:
        self._until(lambda: self.failures() == count)

    def executions(self) -> int:
        return int(self._statistics().execution_count)

    def failures(self) -> int:
        """Of all requests, those that were cancelled or came too late among them."""
        return int(self._statistics().inference_stats.fail.count)

    def _statistics(self) -> Any:
        with triton.InferenceServerClient(self.url) as client:
            (stats,) = client.get_inference_statistics("held").model_stats
            return stats

    def _gauges(self) -> tuple[int, ...]:
        with urllib.request.urlopen(self._metrics, timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        lines = [
            re.search(rf'^paddleinfer_{name}{{model="held"}} (.*)$', text, re.MULTILINE)
            for name in ("instances_busy", "queued_requests")
        ]
        return tuple(int(float(line[1])) for line in lines if line)

    @staticmethod
    def _until(condition: Callable[[], bool]) -> None:
        pause = threading.Event()
        for _ in range(int(PATIENCE_S / 0.01)):
            if condition():
                return
            pause.wait(0.01)
        raise AssertionError("it never came true")


@pytest.fixture
def held(holding: Addresses) -> Iterator[Held]:
    held = Held(holding)
    yield held
    held.release()
    held.wait_for(busy=0, queued=0)


@pytest.fixture
def client(held: Held) -> Iterator[Any]:
    with triton.InferenceServerClient(held.url) as client:
        yield client


@pytest.fixture
def running(held: Held, client: Any) -> Answers:
    """A first request that is held, so that what comes after it waits."""
    answers = Answers()
    client.async_infer("held", held.inputs, answers)
    held.wait_for(busy=1, queued=0)
    return answers


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_deadline_of_the_request_ends_it(kind: str, held: Held) -> None:
    client = CLIENTS[kind](held.url)
    message = refusal(StatusCode.DEADLINE_EXCEEDED, client.infer, "held", held.inputs, timeout=50_000)
    assert "0.05" in message or "50" in message
    held.release()
    np.testing.assert_array_equal(client.infer("held", held.inputs).as_numpy("y"), held.value)
    client.close()


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_request_whose_client_waits_no_longer_never_runs(kind: str, held: Held, running: Answers) -> None:
    hasty = CLIENTS[kind](held.url)
    runs = held.executions()
    refusal(StatusCode.DEADLINE_EXCEEDED, hasty.infer, "held", held.inputs, client_timeout=SHORT_S)
    hasty.close()
    held.wait_for(busy=1, queued=0)
    held.release()
    np.testing.assert_array_equal(running.result().as_numpy("y"), held.value)
    held.wait_for(busy=0, queued=0)
    assert held.executions() == runs + 1


def test_requests_that_are_cancelled_call_back_and_never_run(
    client: Any, held: Held, running: Answers
) -> None:
    cancelled = Answers()
    runs = held.executions()
    calls = [client.async_infer("held", held.inputs, cancelled) for _ in range(8)]
    held.wait_for(busy=1, queued=8)
    for call in calls:
        call.cancel()
    for _ in calls:
        assert cancelled.error().status() == str(StatusCode.CANCELLED)
    held.wait_for(busy=1, queued=0)
    held.release()
    running.result()
    held.wait_for(busy=0, queued=0)
    assert held.executions() == runs + 1


def test_a_stream_that_is_stopped_with_its_requests_runs_none_of_those_that_wait(
    client: Any, held: Held, running: Answers
) -> None:
    stopped = Answers()
    runs = held.executions()
    client.start_stream(stopped)
    for _ in range(8):
        client.async_stream_infer("held", held.inputs)
    held.wait_for(busy=1, queued=8)
    client.stop_stream(cancel_requests=True)
    assert stopped.error().status() == str(StatusCode.CANCELLED)
    held.wait_for(busy=1, queued=0)
    held.release()
    running.result()
    held.wait_for(busy=0, queued=0)
    assert held.executions() == runs + 1


def test_a_request_of_a_stream_has_a_deadline_of_its_own(client: Any, held: Held, running: Answers) -> None:
    answers = Answers()
    client.start_stream(answers)
    failures = held.failures()
    client.async_stream_infer("held", held.inputs, request_id="patient")
    client.async_stream_infer("held", held.inputs, request_id="hasty", timeout=50_000)
    held.wait_for_failures(failures + 1)
    held.release()
    result = answers.result()  # a stream's answers are in the order of its requests
    assert result.get_response().id == "patient"
    np.testing.assert_array_equal(result.as_numpy("y"), held.value)
    message = answers.error().message()
    assert "0.05" in message or "50" in message


def test_a_stream_that_lasts_too_long_ends_and_another_may_begin(client: Any, held: Held) -> None:
    answers = Answers()
    client.start_stream(answers, stream_timeout=SHORT_S)
    client.async_stream_infer("held", held.inputs)
    while answers.error().status() != str(StatusCode.DEADLINE_EXCEEDED):
        pass  # the request's own, which has the same deadline
    client.stop_stream()
    held.release()
    client.start_stream(answers)
    client.async_stream_infer("held", held.inputs)
    np.testing.assert_array_equal(answers.result().as_numpy("y"), held.value)
