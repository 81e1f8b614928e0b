"""Functions of a service in processes of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import engine_of, eventually, run_threads
from process_functions import postprocess, preprocess

from paddleinfer import ConfigError, DeadlineExceeded, InvalidInput, ServiceError
from paddleinfer.serve import Service, ServiceLimits

LIMITS = ServiceLimits(processes=2)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    functions: Any = {"preprocess": preprocess, "postprocess": postprocess}
    with engine_of() as engine, Service(engine, limits=LIMITS, **functions) as made:
        yield made


def test_many_threads_and_tasks_get_the_same_answers_from_other_processes(service: Service) -> None:
    pids = set()

    def ask(number: int) -> None:
        answer = service.call(number)
        assert answer["answer"] == 2.0 * number
        pids.add(answer["pid"])

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(service.acall(number) for number in range(16)))

    run_threads(16, ask)
    answers = asyncio.run(all_of_them())
    assert [answer["answer"] for answer in answers] == [2.0 * number for number in range(16)]
    pids |= {answer["pid"] for answer in answers}
    assert 1 <= len(pids) <= 2 and os.getpid() not in pids


def test_errors_come_back_as_they_are_and_as_one_line_of_the_log(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidInput, match="a number is needed"):
        service.call("refuse")
    assert not caplog.records
    with pytest.raises(ServiceError, match="failed in preprocess \\(KeyError\\)"):
        service.call("fail")
    assert len(caplog.records) == 1


def test_a_function_that_ends_its_process_harms_only_its_request(service: Service) -> None:
    with pytest.raises(ServiceError, match="failed in preprocess \\(BrokenProcessPool\\)"):
        service.call("die")
    assert service.call(3)["answer"] == 6.0


def test_a_deadline_ends_the_wait_for_a_process(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "now"
    try:
        with pytest.raises(DeadlineExceeded):
            service.call(file, timeout=0.05)
    finally:
        file.touch()
    assert service.call(3)["answer"] == 6.0


def test_one_function_may_be_given_alone() -> None:
    with engine_of() as engine, Service(engine, preprocess=preprocess, limits=LIMITS) as service:
        assert service.call(3)["y"][0, 0] == 6.0


def test_close_ends_a_process_that_does_not_end_by_itself(tmp_path: Path) -> None:
    with engine_of() as engine:
        service = Service(engine, preprocess=preprocess, postprocess=postprocess, limits=LIMITS)
        answer = service.call(1)
        with pytest.raises(DeadlineExceeded):
            service.call(tmp_path / "never", timeout=0.5)
        service.close(timeout=0.1)
    assert eventually(lambda: not Path(f"/proc/{answer['pid']}").exists())


def test_methods_coroutines_and_handle_cannot_run_in_processes() -> None:
    class Own(Service):
        def preprocess(self, request: Any) -> Any:
            return request.value

    async def later(request: Any) -> Any:
        return request.value

    with engine_of() as engine:
        with pytest.raises(ConfigError, match="preprocess must be a function of a module"):
            Own(engine, limits=LIMITS)
        with pytest.raises(ConfigError, match="must be a function of a module"):
            Service(engine, preprocess=lambda request: request.value, limits=LIMITS)
        with pytest.raises(ConfigError, match="only preprocess and postprocess can"):
            Service(engine, preprocess=later, limits=LIMITS)
        with pytest.raises(ConfigError, match="only preprocess and postprocess can"):
            Service({}, handle=lambda request, _: None, limits=LIMITS)
        with pytest.raises(ConfigError, match="processes must be an integer from 0 up"):
            ServiceLimits(processes=-1)
