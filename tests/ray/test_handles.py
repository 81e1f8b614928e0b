"""Requests by handle: answers, batches across callers, errors, deadlines, cancellation, backpressure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, assert_close, eventually, rows
from zoo import Zoo

import paddleinfer
from paddleinfer.errors import DeadlineExceeded, InvalidInput, QueueFull

pytestmark = pytest.mark.ray


def stats_of(handle: Any) -> dict[str, Any]:
    stats: dict[str, Any] = handle.stats.remote().result(timeout_s=PATIENCE_S)
    return stats


def waits_for_gate(handle: Any, queued: int) -> None:
    """Waits until one run stands at the gate and so many requests wait behind it."""
    assert eventually(
        lambda: (stats_of(handle)["running_executions"], stats_of(handle)["queued_requests"]) == (1, queued)
    )


@pytest.fixture
def mlp(serve: Any, zoo: Zoo) -> Any:
    from paddleinfer.ray import deployment

    return serve.run(deployment(zoo.directory("mlp"), name="mlp").bind())


def test_answers_are_those_of_an_engine(mlp: Any, zoo: Zoo) -> None:
    x = np.random.default_rng(1).standard_normal((5, 16), dtype=np.float32)
    with paddleinfer.Engine(zoo.directory("mlp"), instances=1) as engine:
        alone = engine.infer({"x": x})
        (name,) = alone
    assert_close(mlp.remote({"x": x}).result(), alone)
    assert_close(mlp.remote(x, outputs=[name], priority=0).result(), alone)
    results, info = mlp.remote([x], return_info=True).result()
    assert_close(results, alone)
    assert info.batch_rows >= 5


def test_errors_keep_their_class_and_their_sentence(mlp: Any) -> None:
    with pytest.raises(InvalidInput, match="there is no input 'y'; the model takes x"):
        mlp.remote({"y": rows()}).result()
    with pytest.raises(InvalidInput, match="deadline_unix_s must be seconds as"):
        mlp.remote(rows(), deadline_unix_s="soon").result()


def test_callers_share_batches(gated: Callable[..., Any], gate: Any) -> None:
    handle = gated()
    first = handle.remote({"x": rows()})
    waits_for_gate(handle, 0)
    others = [handle.remote({"x": rows(1, value)}) for value in range(7)]
    waits_for_gate(handle, 7)
    gate.open()
    first.result()
    assert [float(other.result()["y"][0, 0]) for other in others] == [2.0 * value for value in range(7)]
    batches = stats_of(handle)["batch_rows"]
    assert sum(size * count for size, count in batches.items()) == 8
    assert max(batches) >= 4


def test_a_cancelled_response_takes_its_request_out_of_the_queue(
    gated: Callable[..., Any], gate: Any
) -> None:
    handle = gated()
    first = handle.remote({"x": rows()})
    waits_for_gate(handle, 0)
    unwanted = handle.remote({"x": rows()})
    waits_for_gate(handle, 1)
    unwanted.cancel()
    waits_for_gate(handle, 0)
    gate.open()
    first.result()
    stats = stats_of(handle)
    assert (stats["cancelled"], stats["executed_rows"]) == (1, 1)


def test_a_deadline_travels_with_its_request(gated: Callable[..., Any], gate: Any) -> None:
    handle = gated()
    with pytest.raises(DeadlineExceeded, match="had passed when the request reached its replica"):
        handle.remote({"x": rows()}, deadline_unix_s=time.time() - 1).result()
    first = handle.remote({"x": rows()})
    waits_for_gate(handle, 0)
    for late in ({"deadline_unix_s": time.time() + 0.05}, {"timeout": 0.05}):
        with pytest.raises(DeadlineExceeded):
            handle.remote({"x": rows()}, **late).result()
    gate.open()
    first.result()


def test_a_full_engine_refuses_and_says_when_to_come_again(gated: Callable[..., Any], gate: Any) -> None:
    handle = gated(max_queue_rows=2)
    accepted = [handle.remote({"x": rows()})]
    waits_for_gate(handle, 0)
    accepted += [handle.remote({"x": rows()}) for _ in range(2)]
    waits_for_gate(handle, 2)
    with pytest.raises(QueueFull, match="2 rows") as refusal:
        handle.remote({"x": rows()}).result()
    assert refusal.value.cause.retry_after_s > 0
    gate.open()
    assert [len(one.result()["y"]) for one in accepted] == [1, 1, 1]


def test_serve_refuses_what_exceeds_its_own_queue(gated: Callable[..., Any], gate: Any) -> None:
    from ray.serve.exceptions import BackPressureError

    handle = gated({"max_ongoing_requests": 1, "max_queued_requests": 1})
    running = handle.remote({"x": rows()})
    assert eventually(gate.reached)
    queued, *beyond = [handle.remote({"x": rows()}) for _ in range(3)]
    for refused in beyond:
        with pytest.raises(BackPressureError):
            refused.result(timeout_s=PATIENCE_S)
    gate.open()
    assert [len(one.result()["y"]) for one in (running, queued)] == [1, 1]


def test_defaults_of_a_deployment_fit_its_engine(zoo: Zoo) -> None:
    from paddleinfer.ray import deployment

    made = deployment(zoo.directory("mlp"), instances=2, max_batch_size=16, max_queue_rows=500)
    assert made.name == zoo.directory("mlp").name
    assert made.max_ongoing_requests == 4 * 2 * 16
    assert made.max_queued_requests == 500
    assert (made.backpressure_config.status_code, made.backpressure_config.retry_after_s) == (429, 1.0)
    assert made.ray_actor_options["num_cpus"] == 2
    assert made.options(max_ongoing_requests=7).max_ongoing_requests == 7


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"instance": 2}, "there is no option 'instance'"),
        ({"name": "a/b"}, "a model's name is made of letters"),
        ({"http": {"key": "k"}}, "http has no option 'key'"),
        ({"config": paddleinfer.EngineConfig(), "instances": 2}, "as keywords or as config="),
    ],
)
def test_wrong_options_are_refused_before_anything_is_deployed(options: dict[str, Any], says: str) -> None:
    from paddleinfer.ray import deployment

    with pytest.raises(paddleinfer.ConfigError, match=says):
        deployment("somewhere", **options)
