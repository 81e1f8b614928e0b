"""Priorities: of those that wait, the most urgent gets its turn first, and goes first in the engine, too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import grpc_helpers
import numpy as np
import pytest
from engine_helpers import PATIENCE_S, engine_of, eventually, rows
from starlette.testclient import TestClient

from paddleinfer import InvalidInput
from paddleinfer.serve import Request, Service, ServiceLimits, run
from paddleinfer.serve.engines import Engines
from paddleinfer.shim import create_app

Ask = Callable[[Service, float, int], None]


def client_of(service: Service) -> TestClient:
    return TestClient(create_app({}, services={"s": service}), raise_server_exceptions=False)


def by_call(service: Service, value: float, priority: int) -> None:
    service.call(Request(value, priority=priority))


def by_acall(service: Service, value: float, priority: int) -> None:
    asyncio.run(service.acall(Request(value, priority=priority)))


@pytest.mark.parametrize("ask", [by_call, by_acall])
def test_the_most_urgent_gets_its_turn_first(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    # However long the machine stands still: all of them come at once.
    monkeypatch.setattr(run, "monotonic_ns", lambda: 0)
    order, is_free = list[float](), threading.Event()

    def handle(request: Request, _: Any) -> None:
        order.append(request.value)
        assert is_free.wait(PATIENCE_S)

    with Service({}, handle=handle, limits=ServiceLimits(running=1)) as service:
        threads, pool = [], service.calls._pool
        for waiting, priority in enumerate((1, 2, 1, 0)):
            threads.append(threading.Thread(target=ask, args=(service, float(priority), priority)))
            threads[-1].start()
            assert eventually(lambda count=waiting: len(pool._waiters) + len(pool._jobs) == count)
            assert eventually(lambda: order == [1])
        is_free.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert order == [1, 0, 1, 2]


class Recorded:
    """An engine that notes the priorities that it is asked with."""

    def __init__(self) -> None:
        self.priorities: list[Any] = []

    def infer(self, inputs: Any, *, priority: int = 1, **_: Any) -> Any:
        self.priorities.append(priority)
        return {"y": inputs["x"]}

    async def ainfer(self, inputs: Any, *, priority: int = 1, **_: Any) -> Any:
        return self.infer(inputs, priority=priority)


def recording(**functions: Any) -> tuple[Service, Recorded]:
    engine = Recorded()
    return Service({"e": engine}, **functions), engine  # type: ignore[dict-item]


async def ahandle(request: Request, engines: Engines) -> None:
    await engines.e.ainfer({"x": rows()})


@pytest.mark.parametrize("ask", [by_call, by_acall])
@pytest.mark.parametrize(
    "functions",
    [
        {"preprocess": lambda request: {"x": rows()}},
        {"handle": lambda request, engines: engines.e.infer({"x": rows()})},
        {"handle": ahandle},
    ],
)
def test_the_engine_is_asked_with_the_requests_priority(functions: dict[str, Any], ask: Ask) -> None:
    service, engine = recording(**functions)
    with service:
        for priority in (2, 0, 1):
            ask(service, 5.0, priority)
    assert engine.priorities == [2, 0, 1]


def test_a_priority_of_the_functions_own_is_the_engines() -> None:
    service, engine = recording(handle=lambda _, engines: engines.e.infer({"x": rows()}, priority=2))
    with service:
        service.call(Request(1, priority=0))
    assert engine.priorities == [2]


def test_without_any_it_is_the_usual_one() -> None:
    service, engine = recording(handle=lambda _, engines: engines.e.infer({"x": rows()}))
    with service:
        service.call(1)
        service.call(Request(1))
        asyncio.run(service.acall(1))
    service.engines.e.infer({"x": rows()})  # of no request
    assert engine.priorities == [1, 1, 1, 1]


@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_service_asks_of_another_is_as_urgent_as_its_own_request(is_async: bool) -> None:
    inner, engine = recording(handle=lambda _, engines: engines.e.infer({"x": rows()}))

    async def aouter(request: Request, _: Any) -> None:
        await inner.acall(request.value)
        await inner.acall(Request(request.value, priority=1))
        await outer.in_thread(inner.call, request.value)

    def plain(request: Request, _: Any) -> None:
        inner.call(request.value)
        inner.call(Request(request.value, priority=1))
        inner.call(request.value)

    with inner, Service({}, handle=aouter if is_async else plain) as outer:
        outer.call(Request(5, priority=2))
        asyncio.run(outer.acall(Request(5, priority=0)))
    assert engine.priorities == [2, 1, 2, 0, 1, 0]


@pytest.mark.parametrize("priority", [3, -1, True, "0", 1.0])
def test_what_is_no_priority_is_refused_in_a_sentence(priority: Any) -> None:
    with pytest.raises(InvalidInput, match=r"priority must be 0 \(the most urgent\), 1 or 2"):
        Request(1, priority=priority)


# From clients


@pytest.mark.parametrize(
    ("header", "priority"), [(None, 1), ("0", 1), ("1", 0), ("2", 1), ("3", 2), ("99", 2)]
)
def test_a_client_gives_it_in_a_header(header: str | None, priority: int) -> None:
    service, engine = recording(handle=lambda _, engines: engines.e.infer({"x": rows()}))
    headers = {} if header is None else {"Paddleinfer-Priority": header}
    with client_of(service) as client:
        assert client.post("/services/s", json=1, headers=headers).status_code == 200
        assert (
            client.post("/s/prediction", json={"key": ["k"], "value": ["v"]}, headers=headers).json()[
                "err_no"
            ]
            == 0
        )
    assert engine.priorities == [priority, priority]


@pytest.mark.parametrize("header", ["urgent", "-1", "1.5", "", "9" * 100])
def test_what_is_no_priority_of_a_client_is_a_400(header: str) -> None:
    service, engine = recording(handle=lambda _, engines: engines.e.infer({"x": rows()}))
    with client_of(service) as client:
        answer = client.post("/services/s", json=1, headers={"Paddleinfer-Priority": header})
    assert answer.status_code == 400 and "1, the most urgent" in answer.json()["error"]
    assert engine.priorities == []


def declared(handle: Any) -> tuple[Service, Recorded]:
    x = {"x": ("float32", (-1, 3))}
    return recording(handle=handle, inputs=x, outputs={"y": ("float32", (-1, 3))})


@pytest.mark.parametrize(("parameter", "priority"), [(0, 1), (1, 0), (2, 1), (3, 2)])
def test_over_the_open_protocol_it_is_the_parameter(parameter: int, priority: int) -> None:
    service, engine = declared(lambda request, engines: engines.e.infer(request.value))
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
    body = {"inputs": [tensor], "parameters": {"priority": parameter}}
    with client_of(service) as client:
        assert client.post("/v2/models/s/infer", json=body).status_code == 200
    service, over_grpc = declared(lambda request, engines: engines.e.infer(request.value))
    with engine_of() as other, service, grpc_helpers.serving(other, {"s": service}) as served:
        asked = grpc_helpers.raw(x=np.ones((1, 3), "float32"))
        served.infer(**{**asked, "model_name": "s", "parameters": {"priority": {"int64_param": parameter}}})
    assert engine.priorities == over_grpc.priorities == [priority]
