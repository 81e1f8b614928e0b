"""Errors of a service's functions: what its caller is told, and what its log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from engine_helpers import engine_of, rows

from paddleinfer import (
    InvalidInput,
    ServiceError,
)
from paddleinfer.serve import Request, Service, ServiceLimits


@pytest.mark.parametrize("stage", ["preprocess", "postprocess"])
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "plain"])
def test_an_error_of_a_function_is_a_sentence_and_one_line_of_the_log(
    stage: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> Any:
        raise KeyError("secret")

    async def afails(*_: Any) -> Any:
        raise KeyError("secret")

    given: Any = {"preprocess": lambda request: request.value, stage: afails if is_async else fails}
    with engine_of() as engine, Service(engine, name="broken", **given) as service:
        for ask in (service.call, lambda value: asyncio.run(service.acall(value))):
            caplog.clear()
            with caplog.at_level(logging.ERROR), pytest.raises(ServiceError) as caught:
                ask({"x": rows()})
            assert str(caught.value) == f"the service broken failed in {stage} (KeyError); its log says why"
            assert caught.value.stage == stage
            assert isinstance(caught.value.__cause__, KeyError)
            assert [record.message for record in caplog.records] == [f"the service broken failed in {stage}"]
        assert service.stats()["outcomes"]["error"] == 2


def test_what_preprocess_makes_wrong_is_no_fault_of_the_client(caplog: pytest.LogCaptureFixture) -> None:
    with engine_of() as engine, Service(engine, preprocess=lambda request: {"z": 1}) as service:
        with pytest.raises(ServiceError, match="the engine refused what it gave"):
            service.call(1)
        assert len(caplog.records) == 1


def test_a_function_may_say_that_the_client_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    def preprocess(request: Request) -> Any:
        raise InvalidInput("a number is needed")

    with engine_of() as engine, Service(engine, preprocess=preprocess) as service:
        with pytest.raises(InvalidInput, match="a number is needed"):
            asyncio.run(service.acall("one"))
        assert not caplog.records
        assert service.stats()["outcomes"]["invalid"] == 1


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(), KeyboardInterrupt()])
def test_no_error_of_a_function_ends_a_thread_of_the_pool(error: BaseException) -> None:
    def handle(request: Request, _: Any) -> Any:
        if request.value:
            raise error
        return "still there"

    async def ask(service: Service) -> Any:
        for _ in range(3):
            with pytest.raises(ServiceError):
                await service.acall(True)
        return await service.acall(False)

    with Service({}, handle=handle, limits=ServiceLimits(running=1, threads=1)) as service:
        assert asyncio.run(ask(service)) == "still there"


def test_a_plain_function_that_gives_a_coroutine_is_told_to_be_async() -> None:
    async def inner(request: Request) -> Any:
        return request.value

    with Service({}, handle=lambda request, _: inner(request)) as service:
        with pytest.raises(ServiceError) as caught:
            service.call(1)
        assert "async def" in str(caught.value.__cause__)


def test_a_handle_that_calls_the_one_of_service_is_told_to_call_an_engine() -> None:
    class Lazy(Service):
        def handle(self, request: Request) -> Any:
            return super().handle(request)

    with engine_of() as engine, Lazy(engine) as service:
        with pytest.raises(ServiceError) as caught:
            service.call(1)
        cause = caught.value.__cause__
        assert isinstance(cause, TypeError) and "Lazy.handle calls Service.handle" in str(cause)
        assert "call an engine" in str(cause)
