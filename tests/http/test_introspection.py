"""Traces and diagnoses over HTTP: the engine's stages, and the server's around them."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, engine_of, eventually, rows
from http_helpers import INFER, binary_body, binary_tensor, client_of, json_tensor, serving
from zoo import Zoo

from paddleinfer import EngineConfig
from paddleinfer.shim import create_app
from paddleinfer.shim.http import diagnoses, traces
from paddleinfer.shim.http.diagnoses import Diagnoses, binary_us
from paddleinfer.shim.http.traces import TraceRecorder
from paddleinfer.shim.protocol.errors import RequestError
from paddleinfer.shim.service.models import Models
from paddleinfer.shim.service.served_models import ModelSource, ServedModel
from paddleinfer.shim.service.service import Service
from paddleinfer.shim.service.stage_log import ServedTimes
from paddleinfer.stages import STAGE_COLOURS
from paddleinfer.tracing.paddle_profile import read as read_profile
from paddleinfer.tracing.paddle_profile import to_chrome
from paddleinfer.tracing.validate import check, spans

BODY = json.dumps({"inputs": [json_tensor("x", rows())]}).encode()
LARGE = json.dumps({"inputs": [json_tensor("x", rows(4000))]}).encode()


def connection(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)


def get(port: int, path: str) -> Any:
    client = connection(port)
    client.request("GET", path)
    response = client.getresponse()
    body = response.read()
    client.close()
    assert response.status == 200, body
    return json.loads(body)


def while_calling(port: int, body: bytes, action: Callable[[], Any]) -> Any:
    """What `action` gives while a client keeps sending, and is answered."""
    stop, answered = threading.Event(), threading.Event()

    def call() -> None:
        client = connection(port)
        while not stop.is_set():
            client.request("POST", INFER, body, {"Content-Type": "application/json"})
            assert client.getresponse().read()
            answered.set()
        client.close()

    thread = threading.Thread(target=call)
    thread.start()
    try:
        assert answered.wait(PATIENCE_S)
        return action()
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("body", [BODY, LARGE], ids=["direct", "application"])
def test_a_trace_shows_each_request_with_what_the_server_did_for_it(body: bytes) -> None:
    with engine_of(batchable=True) as engine, serving(engine) as server:
        document = while_calling(server.port, body, lambda: get(server.port, "/v2/trace?seconds=2"))
    assert check(document) == []
    names = {event["name"] for event in document["traceEvents"] if event["ph"] == "X"}
    assert names - {"hold"} == {
        *("http request", "receive", "decode", "infer", "encode", "send"),
        *("request", "submit", "queue", "gather", "run", "scatter", "deliver", "batch"),
    }
    assert names <= set(STAGE_COLOURS), "paddleinfer/stages.py has every stage"
    processes = [e["args"]["name"] for e in document["traceEvents"] if e["name"] == "process_name"]
    assert processes == ["m"]


def test_a_diagnosis_counts_the_server_s_part() -> None:
    with engine_of(batchable=True) as engine, serving(engine) as server:
        client = connection(server.port)
        for _ in range(200):
            client.request("POST", INFER, LARGE, {"Content-Type": "application/json"})
            assert client.getresponse().read()
        client.close()
        diagnosis = get(server.port, "/v2/models/m/diagnosis")
        without = engine.diagnose()
    assert diagnosis["model"] == "m" and diagnosis["requests"] == 200
    assert diagnosis["shares"]["communication"] > without.shares["communication"]
    stages = {stage["stage"]: stage for stage in diagnosis["stages"]}
    assert {"receive", "decode", "run", "encode", "send"} <= set(stages)
    assert all(stage["count"] == 200 for stage in stages.values())


def test_only_requests_in_json_are_told_what_binary_tensors_would_take() -> None:
    x = rows(4000)
    document = {"inputs": [binary_tensor("x", x)], "parameters": {"binary_data_output": True}}
    body, headers = binary_body(document, x)
    with engine_of(batchable=True) as engine, client_of(engine) as client:
        log = client.app.service.models.get("m").stage_log  # type: ignore[attr-defined]
        assert binary_us(log, engine.inputs) == {}
        for _ in range(4):
            assert client.post(INFER, content=body, headers=headers).status_code == 200
        assert binary_us(log, engine.inputs) == {}
        for _ in range(4):
            assert client.post(INFER, content=LARGE).status_code == 200
        told = binary_us(log, engine.inputs)
    assert [times.json for times in log.recent()] == [False] * 4 + [True] * 4
    assert log.inputs == [("x", np.dtype("float32"), (4000, 3))]
    assert set(told) == {"decode", "encode"} and all(us > 0 for us in told.values())


def test_advice_over_http_is_plain_data_with_its_figures() -> None:
    with engine_of(batchable=True) as engine, serving(engine) as server:
        while_calling(
            server.port, BODY, lambda: eventually(lambda: engine.stats()["results"] > 20, PATIENCE_S)
        )
        diagnosis = get(server.port, "/v2/models/m/diagnosis")
    assert diagnosis["advice"]
    for advice in diagnosis["advice"]:
        assert advice["now"] == diagnosis["figures"][advice["figure"]]
        assert advice["sentence"].startswith(advice["action"])


@pytest.mark.parametrize(
    "seconds", ["0", "-1", "61", "nan", "soon", "", "1_0", " 1", "\u0661", "1" * 33, "1" * 900 + "x"]
)
def test_a_trace_that_cannot_be_recorded_is_refused_in_a_sentence(seconds: str) -> None:
    with engine_of() as engine, client_of(engine) as client:
        response = client.get("/v2/trace", params={"seconds": seconds})
        assert response.status_code == 400
        assert "seconds must be a number above 0 and at most 60" in response.json()["error"]


def test_a_parameter_that_a_trace_does_not_have_is_refused_by_its_name() -> None:
    with engine_of() as engine, client_of(engine) as client:
        response = client.get("/v2/trace", params={"sec": "1"})
    assert response.status_code == 400
    assert response.json()["error"] == "/v2/trace takes the parameters seconds and model, not 'sec'"


def test_a_server_that_ends_answers_with_what_it_has_recorded() -> None:
    with engine_of() as engine:
        service = Service(Models.of({"m": engine}))

        async def recorded() -> Any:
            asyncio.get_running_loop().call_soon(service.end)
            recorder = TraceRecorder(service.long_work)
            return await recorder.record(service.models, 2 * PATIENCE_S, service.ended)

        document = json.loads(asyncio.run(asyncio.wait_for(recorded(), PATIENCE_S)))
    assert check(document) == []


def test_a_trace_ends_with_its_client_and_waits_for_nothing_else() -> None:
    received = iter([{"type": "http.request", "body": b""}, {"type": "http.disconnect"}])
    sent = []

    async def receive() -> Any:
        return next(received)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v2/trace",
        "headers": [],
        "query_string": b"seconds=60",
    }
    with engine_of() as engine:
        app = create_app({"m": engine})
        asyncio.run(asyncio.wait_for(app(scope, receive, send), PATIENCE_S))  # type: ignore[arg-type]
    assert sent[0]["status"] == 200


def test_a_query_that_is_too_long_is_refused() -> None:
    with engine_of() as engine, client_of(engine) as client:
        response = client.get("/v2/trace?" + "a&" * 1000)
    assert response.status_code == 400 and "longer than 1024 characters" in response.json()["error"]


def test_one_trace_is_recorded_at_a_time() -> None:
    async def asked(recorder: TraceRecorder, models: Models) -> bytes:
        over = asyncio.get_running_loop().create_future()
        first = asyncio.create_task(recorder.record(models, 50.0, lambda: over))
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as refused:
            await recorder.record(models, 1.0, lambda: pytest.fail("nothing waits for it"))
        assert refused.value.status == 429 and "one at a time" in refused.value.message
        assert 1 <= int(refused.value.headers["Retry-After"]) <= 50
        over.set_result(None)
        assert check(json.loads(await first)) == []
        return await recorder.record(models, 0.001)

    with engine_of() as engine:
        service = Service(Models.of({"m": engine}))
        document = asyncio.run(asked(TraceRecorder(service.long_work), service.models))
        assert check(json.loads(document)) == []


def test_a_trace_whose_client_s_task_is_cancelled_lets_the_next_one_begin() -> None:
    async def asked(recorder: TraceRecorder, models: Models) -> bytes:
        first = asyncio.create_task(recorder.record(models, 50.0))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await recorder.record(models, 0.001)

    with engine_of() as engine:
        service = Service(Models.of({"m": engine}))
        assert check(json.loads(asyncio.run(asked(TraceRecorder(service.long_work), service.models)))) == []


def test_of_more_requests_than_a_trace_holds_the_last_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_MOST_TRACED", 10)
    monkeypatch.setattr(traces, "_WRITTEN_AT_ONCE", 3)
    with engine_of(batchable=True) as engine, client_of(engine) as client:
        service = client.app.service  # type: ignore[attr-defined]

        async def recorded() -> bytes:
            over = asyncio.get_running_loop().create_future()
            recording = asyncio.create_task(
                TraceRecorder(service.long_work).record(service.models, 50.0, lambda: over)
            )
            await asyncio.sleep(0)
            await asyncio.to_thread(lambda: [client.post(INFER, content=BODY) for _ in range(25)])
            over.set_result(None)
            return await recording

        document = json.loads(asyncio.run(recorded()))
    assert check(document) == []
    assert document["otherData"]["requests"] == 10 and document["otherData"]["lost_requests"] == 15
    assert sum(event["name"] == "http request" for event in document["traceEvents"]) == 10


def test_a_diagnosis_is_worked_out_once_a_second_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    now, worked_out = 100.0, []
    monkeypatch.setattr(
        diagnoses, "binary_us", lambda log, specs: worked_out.append(threading.get_ident()) or {}
    )

    async def asked(service: Service) -> None:
        nonlocal now
        diagnoses, model = Diagnoses(service.long_work, lambda: now), service.models.get("m")
        first, second = await asyncio.gather(diagnoses.of(model), diagnoses.of(model))
        now += 0.99
        assert first == second == await diagnoses.of(model) and len(worked_out) == 1
        now += 0.02
        assert json.loads(await diagnoses.of(model))["model"] == "m" and len(worked_out) == 2

    with engine_of() as engine:
        asyncio.run(asked(Service(Models.of({"m": engine}))))
    assert threading.get_ident() not in worked_out


def test_a_client_that_leaves_takes_the_diagnosis_from_nobody_else() -> None:
    async def asked(service: Service) -> bytes:
        diagnoses, model = Diagnoses(service.long_work), service.models.get("m")
        leaving = asyncio.create_task(diagnoses.of(model))
        staying = asyncio.create_task(diagnoses.of(model))
        await asyncio.sleep(0)
        leaving.cancel()
        return await staying

    with engine_of() as engine:
        assert json.loads(asyncio.run(asked(Service(Models.of({"m": engine})))))["model"] == "m"


def test_a_diagnosis_keeps_no_engine_that_has_been_unloaded(zoo: Zoo) -> None:
    async def asked() -> bool:
        model = ServedModel("m", ModelSource(zoo.directory("mlp", "legacy"), EngineConfig()))
        service = Service(Models([model]))
        diagnoses = Diagnoses(service.long_work)
        await service.models.load_all()
        engine = weakref.ref(model.open_engine())
        assert json.loads(await diagnoses.of(model))["model"] == "m"
        await service.models.unload(model)
        ended = await asyncio.to_thread(eventually, lambda: engine() is None)
        await service.models.close(PATIENCE_S)
        return ended

    assert asyncio.run(asked())


def test_a_model_s_http_stages_are_kept_as_long_as_its_requests(zoo: Zoo) -> None:
    model = ServedModel("m", ModelSource(zoo.directory("mlp", "legacy"), EngineConfig(trace_requests=5000)))
    models = Models([model])

    async def loaded() -> None:
        await models.load_all()
        await models.close(PATIENCE_S)

    asyncio.run(loaded())
    times = ServedTimes(0, 1, 2, 3, 4, 5)
    for _ in range(6000):
        model.stage_log.note(times)
    assert len(model.stage_log.since(0)) == 5000


def test_both_want_the_key() -> None:
    with engine_of() as engine, client_of(engine, api_key="s3cret") as client:
        for path in ("/v2/trace", "/v2/models/m/diagnosis"):
            assert client.get(path).status_code == 401


def test_an_engine_that_records_nothing_has_no_diagnosis() -> None:
    with engine_of(trace_requests=0) as engine, client_of(engine) as client:
        response = client.get("/v2/models/m/diagnosis")
        assert response.status_code == 400 and "trace_requests=0" in response.json()["error"]


def test_the_profile_flag_of_paddle_serving_writes_its_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLAGS_profile_server", "1")
    with engine_of() as engine, client_of(engine) as client:
        for _ in range(3):
            assert client.post(INFER, content=BODY).status_code == 200
    lines = capsys.readouterr().err.splitlines()
    profile = read_profile(lines)
    assert len(profile.lines) == 3 and not profile.problems
    seen = spans(to_chrome(lines))
    assert {span.name for span in seen} == {"op0", "op1", "op2"}
    assert abs(seen[0].start_us / 1e6 - time.time()) < 60
