"""Streams of tritonclient: many requests and their answers over one call, for both gRPC clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from triton_calls import FIRST, MANY, SECOND, AioClient, assert_sum_and_difference
from triton_grpc_calls import CLIENTS, PATIENCE_S, Answers, pair, tensor, wanted


@pytest.fixture
def client(grpc_url: str) -> Iterator[Any]:
    with triton.InferenceServerClient(grpc_url) as client:
        yield client


def test_every_request_of_a_stream_is_answered(client: Any) -> None:
    answers = Answers()
    client.start_stream(answers)
    given = {f"{number}": np.full((1 + number % 3, 16), number, "int32") for number in range(100)}
    for name, rows in given.items():
        client.async_stream_infer("simple", pair(rows, rows), request_id=name)
    results = answers.results(len(given))
    for name, rows in given.items():
        assert_sum_and_difference(results[name], rows, rows)
    client.stop_stream()


def test_a_stream_serves_several_models(client: Any) -> None:
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer("simple", pair(), request_id="sum")
    client.async_stream_infer("same_float32", [tensor("x", np.ones((2, 3), "float32"))], request_id="same")
    client.async_stream_infer("aliased", pair(), request_id="alias", outputs=wanted("OUTPUT0", "OUTPUT1"))
    results = answers.results(3)
    assert_sum_and_difference(results["sum"])
    assert_sum_and_difference(results["alias"])
    assert results["same"].get_response().model_name == "same_float32"


def test_what_was_asked_before_the_stream_stops_is_answered(client: Any) -> None:
    answers = Answers()
    client.start_stream(answers)
    for number in range(32):
        client.async_stream_infer("simple", pair(), request_id=str(number))
    client.stop_stream()  # waits
    for result in answers.results(32).values():
        assert_sum_and_difference(result)


def test_a_refused_request_gets_its_sentence_and_the_stream_goes_on(client: Any) -> None:
    answers = Answers()
    client.start_stream(answers)
    refusals = {
        "nobody": ("nobody", pair(), {}),
        "INPUT1": ("simple", [tensor("INPUT0", FIRST)], {}),
        "float32": ("simple", [tensor("INPUT0", FIRST.astype("float32")), tensor("INPUT1", SECOND)], {}),
        "sequences are not offered": ("simple", pair(), {"sequence_id": 1000, "sequence_start": True}),
    }
    for word, (model, inputs, options) in refusals.items():
        client.async_stream_infer(model, inputs, **options)
        assert word in answers.error().message()
        client.async_stream_infer("simple", pair())
        assert_sum_and_difference(answers.result())


def test_a_stream_may_be_compressed(client: Any) -> None:
    for algorithm in ("gzip", "deflate"):
        answers = Answers()
        client.start_stream(answers, compression_algorithm=algorithm)
        client.async_stream_infer("simple", pair(MANY, MANY))
        assert_sum_and_difference(answers.result(), MANY, MANY)
        client.stop_stream()


@pytest.mark.parametrize("asked", [True, False])
def test_every_answer_says_that_it_is_the_last_of_its_request(client: Any, asked: bool) -> None:
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer("simple", pair(), enable_empty_final_response=asked)
    result = answers.result()
    assert_sum_and_difference(result)
    assert result.get_response().parameters["triton_final_response"].bool_param is True


def test_the_asyncio_client_streams(grpc_url: str) -> None:
    client = CLIENTS["aio"](grpc_url)
    assert isinstance(client, AioClient)
    given = {f"{number}": np.full((1, 16), number, "int32") for number in range(20)}

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for name, rows in given.items():
            yield {"model_name": "simple", "inputs": pair(rows, rows), "request_id": name}
        yield {"model_name": "nobody", "inputs": pair()}

    async def streamed() -> list[Any]:
        return [answer async for answer in client.client.stream_infer(requests())]

    answers = client.loop.run_until_complete(asyncio.wait_for(streamed(), PATIENCE_S))
    results = {result.get_response().id: result for result, error in answers if error is None}
    assert results.keys() == given.keys()
    for name, rows in given.items():
        assert_sum_and_difference(results[name], rows, rows)
    (error,) = [error for _, error in answers if error is not None]
    assert "unknown model 'nobody'" in error.message()
    client.close()


def test_the_asyncio_client_talks_in_turn_over_a_stream(grpc_url: str) -> None:
    client = CLIENTS["aio"](grpc_url)
    assert isinstance(client, AioClient)

    async def talk() -> None:
        asked: asyncio.Queue[Any] = asyncio.Queue()

        async def requests() -> AsyncIterator[dict[str, Any]]:
            while (rows := await asked.get()) is not None:
                yield {"model_name": "simple", "inputs": pair(rows, rows)}

        answers = client.client.stream_infer(requests())
        for number in range(10):
            rows = FIRST + number
            await asked.put(rows)
            result, error = await anext(answers)
            assert error is None
            assert_sum_and_difference(result, rows, rows)
        await asked.put(None)
        assert [answer async for answer in answers] == []

    client.loop.run_until_complete(asyncio.wait_for(talk(), PATIENCE_S))
    client.close()
