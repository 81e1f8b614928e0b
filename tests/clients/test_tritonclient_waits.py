"""tritonclient's deadlines, its own time limits, and requests under way together. On the real clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from triton_calls import CLIENTS, KEYS, assert_sum_and_difference, pair, refusal, tensor
from tritonclient.utils import InferenceServerException

PATIENCE_S = 300.0
SHORT_S = 0.2


class Held:
    """A request that the server holds until it is released."""

    def __init__(self, url: str) -> None:
        self.value = np.full((1, 1), next(KEYS), "float32")
        self._url = url

    @property
    def inputs(self) -> list[Any]:
        return [tensor("x", self.value)]

    def release(self) -> None:
        with triton.InferenceServerClient(self._url) as client:
            client.infer("release", self.inputs)


@pytest.fixture
def held(holding_url: str) -> Iterator[Held]:
    held = Held(holding_url)
    yield held
    held.release()


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_deadline_that_passes_is_504(kind: str, holding_url: str, held: Held) -> None:
    client = CLIENTS[kind](holding_url)
    message = refusal(504, client.infer, "held", held.inputs, timeout=50_000)
    assert "0.05" in message or "50" in message
    held.release()
    np.testing.assert_array_equal(client.infer("held", held.inputs).as_numpy("y"), held.value)
    client.close()


def test_a_client_that_waits_no_longer_harms_nobody(holding_url: str, held: Held) -> None:
    client = triton.InferenceServerClient(holding_url, network_timeout=SHORT_S)
    with pytest.raises(TimeoutError):
        client.infer("held", held.inputs)
    client.close()
    aio = CLIENTS["aio"](holding_url, conn_timeout=SHORT_S)
    with pytest.raises(TimeoutError):
        aio.infer("held", held.inputs)
    aio.close()
    held.release()
    with triton.InferenceServerClient(holding_url) as later:
        np.testing.assert_array_equal(later.infer("held", held.inputs).as_numpy("y"), held.value)


def test_a_result_is_waited_for_as_long_as_the_caller_says(holding_url: str, held: Held) -> None:
    client = triton.InferenceServerClient(holding_url)
    request = client.async_infer("held", held.inputs)
    with pytest.raises(InferenceServerException, match="failed to obtain inference response"):
        request.get_result(timeout=SHORT_S)
    held.release()
    np.testing.assert_array_equal(request.get_result(timeout=PATIENCE_S).as_numpy("y"), held.value)
    client.close()


def test_many_requests_are_under_way_together(url: str) -> None:
    client = triton.InferenceServerClient(url, concurrency=8)
    given = [np.full((1 + number % 3, 16), number, "int32") for number in range(32)]
    requests = [client.async_infer("simple", pair(rows, rows)) for rows in given]
    for rows, request in zip(given, requests, strict=True):
        assert_sum_and_difference(request.get_result(), rows, rows)
    client.close()


def test_a_failed_request_among_many_fails_alone(url: str) -> None:
    client = triton.InferenceServerClient(url, concurrency=4)
    good = [client.async_infer("simple", pair()) for _ in range(4)]
    bad = client.async_infer("nobody", pair())
    assert "unknown model" in refusal(404, bad.get_result)
    for request in good:
        assert_sum_and_difference(request.get_result())
    client.close()
