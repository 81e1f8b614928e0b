"""A service in the process: its functions, its engines by name, its turns and its end."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Gate, engine_of, eventually, merging, rows, run_threads
from exit_processes import START_SECONDS, finish, start

import paddleinfer
from paddleinfer import (
    ConfigError,
    DeadlineExceeded,
    EngineClosed,
    InvalidInput,
    QueueFull,
)
from paddleinfer.serve import Request, Service, ServiceLimits


class Doubled(Service):
    """A number in, twice that out."""

    def preprocess(self, request: Request) -> Any:
        return {"x": rows(value=request.value)}

    def postprocess(self, results: Any, request: Request) -> Any:
        return {"asked": request.value, "answer": float(results["y"][0, 0])}


class AsyncDoubled(Service):
    """The same in coroutines."""

    async def preprocess(self, request: Request) -> Any:
        return {"x": rows(value=request.value)}

    async def postprocess(self, results: Any, request: Request) -> Any:
        return {"asked": request.value, "answer": float(results["y"][0, 0])}


class HalfDoubled(Service):
    """The same, half of it in a coroutine."""

    async def preprocess(self, request: Request) -> Any:
        return {"x": rows(value=request.value)}

    def postprocess(self, results: Any, request: Request) -> Any:
        return {"asked": request.value, "answer": float(results["y"][0, 0])}


class Chain(Service):
    """Two engines, one after the other."""

    def handle(self, request: Request) -> Any:
        first = self.engines.first.infer({"x": rows(value=request.value)})
        second = self.engines["second"].infer({"x": first["y"]})
        return {"asked": request.value, "answer": float(second["y"][0, 0]) / 2}


class AsyncChain(Service):
    """The same in a coroutine."""

    async def handle(self, request: Request) -> Any:
        first = await self.engines.first.ainfer({"x": rows(value=request.value)})
        second = await self.engines.second.ainfer({"x": first["y"]})
        return {"asked": request.value, "answer": float(second["y"][0, 0]) / 2}


KINDS = [Doubled, AsyncDoubled, HalfDoubled, Chain, AsyncChain]


def service_of(kind: type[Service], engine: paddleinfer.Engine, **options: Any) -> Service:
    chained = issubclass(kind, (Chain, AsyncChain))
    return kind({"first": engine, "second": engine} if chained else engine, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_64_threads_get_the_same_answers_as_one(kind: type[Service]) -> None:
    with engine_of() as engine, service_of(kind, engine) as service:

        def ask(number: int) -> None:
            for step in range(5):
                value = number * 10 + step
                assert service.call(value) == {"asked": value, "answer": 2.0 * value}

        run_threads(64, ask)
        assert service.stats()["outcomes"]["result"] == 64 * 5


@pytest.mark.parametrize("kind", KINDS)
def test_64_tasks_get_the_same_answers_as_one(kind: type[Service]) -> None:
    async def ask(service: Service) -> list[Any]:
        return await asyncio.gather(*(service.acall(value) for value in range(64)))

    with engine_of() as engine, service_of(kind, engine) as service:
        answers = asyncio.run(ask(service))
    assert answers == [{"asked": value, "answer": 2.0 * value} for value in range(64)]


def test_functions_make_a_service_too() -> None:
    with engine_of() as engine:
        with Service(
            engine,
            preprocess=lambda request: {"x": rows(value=request.value)},
            postprocess=lambda results, request: float(results["y"][0, 0]) + request.value,
        ) as service:
            assert service.call(3) == 9.0
        with Service(
            {"a": engine}, handle=lambda request, engines: engines.a.infer({"x": rows(value=request.value)})
        ) as service:
            assert service.call(3)["y"][0, 0] == 6.0


def test_a_coroutine_function_makes_a_service_too() -> None:
    async def handle(request: Request, engines: Any) -> Any:
        first, second = await asyncio.gather(*(engines.a.ainfer({"x": rows(value=v)}) for v in request.value))
        return [float(first["y"][0, 0]), float(second["y"][0, 0])]

    with engine_of() as engine, Service({"a": engine}, handle=handle) as service:
        assert service.call([1, 2]) == [2.0, 4.0]


def test_without_functions_a_service_is_its_engine() -> None:
    with engine_of() as engine, Service(engine) as service:
        np.testing.assert_array_equal(service.call({"x": rows()})["y"], rows(value=2))
        with pytest.raises(InvalidInput, match="x"):
            service.call({"z": rows()})


def test_requests_of_many_callers_share_a_run() -> None:
    with merging() as (engine, gate), Doubled(engine) as service:
        answers: list[Any] = []
        callers = [
            threading.Thread(target=lambda value=value: answers.append(service.call(value)))
            for value in range(6)
        ]
        for thread in callers:
            thread.start()
        assert eventually(lambda: engine.stats()["queued_requests"] == 6)
        gate.open()
        for thread in callers:
            thread.join(PATIENCE_S)
        assert gate.sizes == [6]
        assert sorted(answer["answer"] for answer in answers) == [2.0 * value for value in range(6)]


def test_a_wait_for_an_engine_keeps_nobody_from_running() -> None:
    gate = Gate()
    with engine_of(gate) as engine, Doubled(engine, limits=ServiceLimits(running=1)) as service:
        threads = [threading.Thread(target=service.call, args=(value,)) for value in range(3)]
        for thread in threads:
            thread.start()
        assert eventually(lambda: engine.stats()["queued_requests"] == 2)  # all three have preprocessed
        gate.open()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert service.stats()["outcomes"]["result"] == 3


def waiting(service: Service) -> int:
    pool = service.calls._pool
    return len(pool._waiters) + len(pool._jobs)


def test_a_full_service_refuses_in_a_sentence() -> None:
    gate = Gate()
    with engine_of(gate) as engine, Doubled(engine, limits=ServiceLimits(max_requests=1)) as service:
        thread = threading.Thread(target=service.call, args=(1,))
        thread.start()
        gate.wait_entered()
        with pytest.raises(QueueFull, match="Doubled has 1 requests, which is the most") as caught:
            service.call(2)
        assert caught.value.retry_after_s > 0
        gate.open()
        thread.join(PATIENCE_S)
        assert service.call(3)["answer"] == 6.0
        assert service.stats()["outcomes"] | {"result": 2, "refused": 1} == service.stats()["outcomes"]


@pytest.mark.parametrize("kind", [Doubled, AsyncDoubled, HalfDoubled])
def test_a_deadline_ends_a_request_that_waits_for_its_engine(kind: type[Service]) -> None:
    gate = Gate()
    with engine_of(gate) as engine, kind(engine) as service:
        thread = threading.Thread(target=service.call, args=(1,))
        thread.start()
        gate.wait_entered()
        with pytest.raises(DeadlineExceeded):
            service.call(2, timeout=0.05)
        with pytest.raises(DeadlineExceeded):
            asyncio.run(service.acall(2, timeout=0.05))
        gate.open()
        thread.join(PATIENCE_S)
        assert service.stats()["outcomes"]["expired"] == 2


def test_a_deadline_ends_a_wait_for_a_turn() -> None:
    began, opened = threading.Event(), threading.Event()

    def handle(request: Request, _: Any) -> Any:
        began.set()
        assert opened.wait(PATIENCE_S)
        return request.value

    with Service({}, handle=handle, limits=ServiceLimits(running=1)) as service:
        thread = threading.Thread(target=service.call, args=(1,))
        thread.start()
        assert began.wait(PATIENCE_S)
        with pytest.raises(DeadlineExceeded, match="turn"):
            service.call(2, timeout=0.01)
        opened.set()
        thread.join(PATIENCE_S)
        assert service.call(3) == 3  # no turn was lost


def test_close_lets_accepted_requests_end_and_takes_no_more() -> None:
    gate = Gate()
    with engine_of(gate) as engine:
        service = Doubled(engine)
        answers: list[Any] = []
        asking = [
            threading.Thread(target=lambda v=value: answers.append(service.call(v))) for value in range(8)
        ]
        for thread in asking:
            thread.start()
        assert eventually(lambda: service.calls.under_way == 8)
        closing = threading.Thread(target=service.close)
        closing.start()
        assert eventually(lambda: service.closed)
        with pytest.raises(EngineClosed, match="Doubled is closed"):
            service.call(9)
        gate.open()
        for thread in [*asking, closing]:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        assert sorted(answer["asked"] for answer in answers) == list(range(8))
        assert not [t for t in threading.enumerate() if t.name.startswith("paddleinfer-Doubled")]


@pytest.mark.parametrize("from_a_loop", [True, False], ids=["acall", "call"])
def test_close_without_drain_ends_those_that_wait_for_a_turn(from_a_loop: bool) -> None:
    began, opened, ends = threading.Event(), threading.Event(), []

    def handle(request: Request, _: Any) -> Any:
        began.set()
        assert opened.wait(PATIENCE_S)

    def ask() -> None:
        try:
            if from_a_loop:
                asyncio.run(service.acall(1))
            else:
                service.call(1)
        except EngineClosed as error:
            ends.append(error)

    service = Service({}, handle=handle, limits=ServiceLimits(running=1))
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert began.wait(PATIENCE_S)
    assert eventually(lambda: waiting(service) == 2)
    service.close(drain=False, timeout=0)
    assert eventually(lambda: len(ends) == 2)
    opened.set()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_a_service_may_call_a_service_and_itself() -> None:
    def handle(request: Request, engines: Any) -> Any:
        if request.value > 3:
            return request.value
        return recursive.call(request.value + 1)

    recursive = Service({}, handle=handle, limits=ServiceLimits(running=1))
    with recursive:
        assert recursive.call(0) == 4
        assert asyncio.run(recursive.acall(0)) == 4


def test_an_async_function_hands_plain_work_to_the_pool() -> None:
    async def handle(request: Request, engines: Any) -> Any:
        halves = [service.in_thread(threading.current_thread), service.in_thread(sum, [1, 2])]
        thread, total = await asyncio.gather(*halves)
        return thread is not threading.current_thread() and total

    with Service({}, handle=handle) as service:
        assert asyncio.run(service.acall(None)) == 3


def test_a_cancelled_task_gives_its_request_up() -> None:
    gate = Gate()

    async def ask(service: Service) -> None:
        task = asyncio.create_task(service.acall(1))
        while not service.calls.under_way:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert service.calls.under_way == 0

    with engine_of(gate) as engine, AsyncDoubled(engine) as service:
        asyncio.run(ask(service))
        gate.open()
        assert service.stats()["outcomes"]["cancelled"] == 1
        assert service.call(2)["answer"] == 4.0


def test_stages_follow_each_other() -> None:
    with engine_of() as engine, Doubled(engine) as service:
        service.call(1)
        asyncio.run(service.acall(1))
        for stages in service.calls.statistics.recent():
            names = [name for name, _, _ in stages]
            assert [name for name in names if name != "wait"] == [
                "decode",
                "preprocess",
                "infer",
                "postprocess",
            ]
            assert all(begin <= end for _, begin, end in stages)
            assert all(before[2] <= after[1] for before, after in itertools.pairwise(stages))


def test_a_forked_child_is_told_to_make_its_own() -> None:
    process = start(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads and fork
        from paddleinfer.serve import Service
        engine = make()
        service = Service(engine)
        service.call([X])
        child = os.fork()
        if child == 0:
            try:
                service.call([X])
            except paddleinfer.EngineClosed as error:
                assert "make services after the fork" in str(error), error
            else:
                os._exit(3)
            service.close()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        service.call([X])
        service.close()
        engine.close()
        print("child", os.waitstatus_to_exitcode(status), flush=True)
        """
    )
    stdout, stderr = finish(process, START_SECONDS)
    assert process.returncode == 0 and stdout.strip() == "child 0", (stdout, stderr)


class WithoutInit(Service):
    def __init__(self) -> None:
        self.words = ["a"]


class Both(Service):
    def handle(self, request: Request) -> Any:
        return None

    def preprocess(self, request: Request) -> Any:
        return None


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda engine: Service(engine, handle=len, preprocess=len), "not both"),
        (lambda engine: Service(engine, preprocess=3), "preprocess must be a function, not 3"),  # type: ignore[arg-type]
        (lambda engine: Service({"a": engine, "b": engine}), "engine=… names one of a, b"),
        (lambda engine: Service({"a": engine}, engine="c"), "names the engine 'c', and there is a"),
        (lambda engine: Service(engine, limits=3), "limits must be ServiceLimits"),  # type: ignore[arg-type]
        (lambda engine: Service([engine]), "takes an Engine, or a dict"),  # type: ignore[arg-type]
        (lambda engine: ServiceLimits(running=0), "running must be an integer from 1 up, not 0"),
        (lambda engine: ServiceLimits(timeout_s=-1), "timeout_s"),
        (lambda engine: WithoutInit().call(1), "must call super"),
        (lambda engine: Service().call(1), "has no engine"),
        (Both, "would never be called"),
        (lambda engine: Service(engine).use(engine), "has its engines"),
        (lambda engine: Service(engine).engines["x"], "no engine 'x'; its engines are engine"),
    ],
)
def test_what_contradicts_itself_is_refused_in_a_sentence(make: Any, sentence: str) -> None:
    with engine_of() as engine, pytest.raises(ConfigError, match=sentence):
        make(engine)
