"""Health for those without a key: what it says, and how many may watch."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from engine_helpers import PATIENCE_S, engine_of
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_helpers import failure, serving

from paddleinfer.shim.grpc.health import Watches
from paddleinfer.shim.protocol.errors import RequestError


@pytest.mark.skipif(
    not hasattr(health_pb2, "HealthListRequest"), reason="needs a grpcio-health-checking that has List"
)
def test_without_the_key_nobody_is_told_which_models_there_are() -> None:
    with engine_of() as engine, serving(engine, api_key="secret") as server:
        health = HealthStub(server.channel)
        code, _ = failure(lambda: health.List(health_pb2.HealthListRequest(), timeout=PATIENCE_S))
        assert code is grpc.StatusCode.UNAUTHENTICATED
        listed = health.List(
            health_pb2.HealthListRequest(),
            timeout=PATIENCE_S,
            metadata=(("authorization", "Bearer secret"),),
        )
        assert "m" in listed.statuses
        assert health.Check(health_pb2.HealthCheckRequest(service="m"), timeout=PATIENCE_S).status == 1


def test_one_connection_may_watch_only_so_often() -> None:
    with engine_of() as engine, serving(engine) as server:
        health = HealthStub(server.channel)
        watched = [health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S) for _ in range(64)]
        for call in watched:
            assert next(call).status == 1
        code, sentence = failure(
            lambda: next(health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S))
        )
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "64 calls of Watch" in sentence
        watched[0].cancel()
        server.still_answers()
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S).status == 1


def test_a_name_is_looked_at_once_for_all_who_watch_it() -> None:
    looks = 0

    def status_of(name: str) -> str:
        nonlocal looks
        looks += 1
        return "ready" if looks < 4 else "not ready"

    async def run() -> None:
        watches = Watches(status_of)

        async def watch(number: int) -> str:
            with watches.one("m", f"connection {number}") as watched:
                await watched.changed()
                status: str = watched.status
                return status

        told = await asyncio.wait_for(asyncio.gather(*map(watch, range(500))), PATIENCE_S)
        assert set(told) == {"not ready"}

    asyncio.run(run())
    assert looks == 4


def test_all_together_may_watch_only_so_often() -> None:
    async def run() -> None:
        watches = Watches(lambda name: "ready")
        gone = asyncio.Event()

        async def watch(number: int) -> None:
            with watches.one(f"model {number}", f"connection {number}"):
                await gone.wait()

        watching = [asyncio.create_task(watch(number)) for number in range(1024)]
        await asyncio.sleep(0)
        with (
            pytest.raises(RequestError, match="the server has 1024 calls of Watch"),
            watches.one("m", "another"),
        ):
            pass
        gone.set()
        await asyncio.gather(*watching)
        with watches.one("m", "another") as watched:
            assert watched.status == "ready"

    asyncio.run(run())
