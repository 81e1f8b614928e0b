"""Paddle Serving's ``WebService`` around one model: its documented example, its arguments, its ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from engine_helpers import PATIENCE_S
from serving_models import HOUSE, price_of
from starlette.testclient import TestClient

from paddleinfer.backends.processors import usable_cores
from paddleinfer.errors import ConfigError, ServiceError
from paddleinfer.serving import OpGraphMaker, OpMaker, OpSeqMaker, Server, WebService
from paddleinfer.serving.web_service import Op


class UciService(WebService):
    """The documented example."""

    def preprocess(self, feed: Any = (), fetch: Any = ()) -> Any:
        is_batch = True
        new_data = np.zeros((len(feed), 1, 13)).astype("float32")
        for i, ins in enumerate(feed):
            nums = np.array(ins["x"]).reshape(1, 1, 13)
            new_data[i] = nums
        feed = {"x": new_data}
        return feed, fetch, is_batch


def started(model: Path, kind: type[WebService] = UciService, **options: Any) -> WebService:
    service = kind(name="uci")
    service.load_model_config(str(model))
    service.prepare_server(workdir="workdir", **options)
    service.run_rpc_service()
    return service


@pytest.fixture(scope="module")
def uci(fit_a_line: Path) -> Iterator[WebService]:
    service = started(fit_a_line)
    yield service
    service.close()


@pytest.fixture
def client(uci: WebService) -> Iterator[TestClient]:
    with TestClient(uci.get_app_instance(), raise_server_exceptions=False) as asking:
        yield asking


def test_the_documented_example_gives_the_documented_answer(client: TestClient, fit_a_line: Path) -> None:
    data = {"feed": [{"x": HOUSE}, {"x": [0.0] * 13}], "fetch": ["price"]}
    answer = client.post("/uci/prediction", json=data)
    assert answer.status_code == 200 and list(answer.json()) == ["result"]
    expected = price_of(fit_a_line, np.array([HOUSE, [0.0] * 13]))
    np.testing.assert_allclose(answer.json()["result"]["price"], expected, rtol=1e-5)


def test_without_functions_of_its_own_the_rows_follow_one_another(fit_a_line: Path) -> None:
    service = started(fit_a_line, WebService)
    try:
        result = service.get_prediction({"feed": [{"x": HOUSE}] * 3, "fetch": ["price"]})["result"]
    finally:
        service.close()
    np.testing.assert_allclose(result["price"], [price_of(fit_a_line, np.array([HOUSE]))[0]] * 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"{", 400, "not JSON"),
        (b'{"feed": [{"x": [1]}]}', 400, '"fetch" must be a list'),
        (b'{"feed": [], "fetch": ["price"]}', 400, '"feed" must be a list of objects'),
        (b'{"key": ["x"], "value": ["1"]}', 400, '"fetch" must be'),
        (b'{"feed": [{"x": [1]}], "fetch": ["price"]}', 200, "cannot reshape"),
        (b'{"feed": [{"x": [1,2,3,4,5,6,7,8,9,0,1,2,3]}], "fetch": ["cost"]}', 200, "no output 'cost'"),
        (b'{"feed": [{"y": [1]}], "fetch": ["price"]}', 500, "failed in handle (KeyError)"),
    ],
)
def test_a_request_without_a_result_has_the_documented_status(
    client: TestClient, body: bytes, status: int, sentence: str
) -> None:
    answer = client.post("/uci/prediction", content=body)
    assert answer.status_code == status
    assert list(answer.json()) == ["result"] and sentence in answer.json()["result"]
    assert client.post("/uci/prediction", json={"feed": [{"x": HOUSE}], "fetch": ["price"]}).is_success


def test_what_is_no_request_is_answered_with_a_sentence(fit_a_line: Path) -> None:
    service = WebService("uci")
    service.load_model_config(str(fit_a_line))
    service.prepare_server(port=0)
    service.run_debugger_service()
    for wrong in (3, None, [HOUSE]):
        found = service.get_prediction(wrong)  # type: ignore[arg-type]
        assert found["result"].startswith('a request is a dict with "feed" and "fetch", not ')
    service.close()


def test_postprocess_gets_the_clients_feed_and_makes_the_result(fit_a_line: Path) -> None:
    class Naming(UciService):
        def postprocess(self, feed: Any = (), fetch: Any = (), fetch_map: Any = None) -> Any:
            return {"names": [one["name"] for one in feed], "fetch": fetch, "rows": len(fetch_map["price"])}

    service = started(fit_a_line, Naming)
    try:
        document = {"feed": [{"x": HOUSE, "name": "a"}, {"x": HOUSE, "name": "b"}], "fetch": ["price"]}
        expected = {"result": {"names": ["a", "b"], "fetch": ["price"], "rows": 2}}
        assert service.get_prediction(document) == expected
        with pytest.raises(ServiceError, match="KeyError"):
            service.get_prediction({"feed": [{"x": HOUSE}], "fetch": ["price"]})
    finally:
        service.close()


def test_64_threads_get_the_answers_of_one(uci: WebService, fit_a_line: Path) -> None:
    houses = np.random.default_rng(1).normal(size=(256, 13)).astype("float32")

    def price(house: Any) -> float:
        document = {"feed": [{"x": house.tolist()}], "fetch": ["price"]}
        return float(uci.get_prediction(document)["result"]["price"][0][0])

    alone = [price(house) for house in houses]
    with ThreadPoolExecutor(64) as threads:
        together = list(threads.map(price, houses))
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(alone, price_of(fit_a_line, houses)[:, 0], rtol=1e-4, atol=1e-6)


# Arguments


@pytest.mark.parametrize(
    ("given", "name", "option", "value"),
    [
        ({}, "mem_optim", "mem_optim", True),
        ({}, "ir_optim", "ir_optim", False),
        ({}, "thread_num", "instances", min(4, usable_cores())),
        ({"mem_optim": False}, "mem_optim", "mem_optim", False),
        ({"ir_optim": True}, "ir_optim", "ir_optim", True),
        ({"thread_num": 1}, "thread_num", "instances", 1),
        ({"runtime_thread_num": 3}, "runtime_thread_num", "instances", 3),
        ({"batch_infer_size": 5}, "batch_infer_size", "max_batch_size", 5),
        ({"precision": "fp32"}, "precision", "precision", "float32"),
        ({"gpuid": "-1"}, "gpuid", "device", "cpu"),
    ],
)
def test_an_argument_is_in_force(
    fit_a_line: Path, given: dict[str, Any], name: str, option: str, value: Any
) -> None:
    service = started(fit_a_line, **given)
    try:
        shown = service.effective_config()
    finally:
        service.close()
    (became,) = shown[name]["engine"].values()
    assert became[option]["value"] == value
    assert shown["port"] == {"value": 9393, "server": {"port": 9393}}
    assert shown["workdir"] == {"value": "workdir", "note": "nothing is written"}
    assert not Path("workdir").exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"use_calib": True}, "set_use_calib"),
        ({"use_lite": True}, "set_lite"),
        ({"use_xpu": True}, "set_xpu"),
        ({"gpu_multi_stream": True}, "set_gpu_multi_stream"),
        ({"precision": "fp4"}, "precision must be one of"),
        ({"use_trt": True, "precision": "fp16"}, "needs a GPU"),
        ({"mem_optim": 1}, "flag of set_memory_optimize"),
        ({"port": 70000}, "port"),
        ({"device": "tpu"}, 'device must be "cpu" or "gpu"'),
        ({"device": "gpu"}, "device gpu:0"),
    ],
)
def test_an_argument_that_cannot_be_in_force_is_refused(
    fit_a_line: Path, given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        started(fit_a_line, **given)


def test_a_gpu_is_asked_for_in_each_of_the_documented_ways(fit_a_line: Path) -> None:
    service = WebService("uci")
    service.load_model_config([str(fit_a_line)])
    service.set_gpus("0,1")
    service.prepare_server("workdir")
    with pytest.raises(ConfigError, match="device gpu:0, gpu:1"):  # which are not there
        service.run_rpc_service()
    service.set_gpus("-1")
    service.prepare_server("workdir")
    with pytest.raises(ConfigError, match="device gpu:0"):
        service.run_debugger_service(gpu=True)
    service.prepare_server("workdir")
    service.run_debugger_service()
    assert service.get_prediction({"feed": [{"x": HOUSE}], "fetch": ["price"]})["result"]["price"]
    service.close()


def test_what_is_called_too_soon_says_what_comes_before(fit_a_line: Path) -> None:
    service = WebService()
    for call, sentence in (
        (lambda: service.prepare_server("workdir"), "load_model_config before prepare_server"),
        (service.run_rpc_service, "prepare_server before run_rpc_service"),
        (service.run_web_service, "run_rpc_service first"),
        (service.get_app_instance, "run_rpc_service first"),
        (service.effective_config, "run_rpc_service first"),
        (service.run_service, "prepare_pipeline_config before run_service"),
        (lambda: service.pipeline, "prepare_pipeline_config first"),
        (lambda: service.load_model_config(["a", "b"]), "one model, and 2 are given"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            call()


# As a process


SCRIPT = """
import sys
{imports}

class UciService(WebService):
    def get_pipeline_response(self, read_op):
        return UciOp(name="uci", input_ops=[read_op])

service = UciService(name="uci")
{start}
"""
PIPELINE = """
service.prepare_pipeline_config(yml_dict=uci_conf(sys.argv[1]))
sys.exit(service.run_service())
"""
ONE_MODEL = """
service.load_model_config(sys.argv[1])
service.prepare_server(workdir="workdir", port=0, device="cpu")
service.run_rpc_service()
sys.exit(service.run_web_service())
"""
IMPORTS = "from serving_pipelines import UciOp, uci_conf\nfrom paddleinfer.serving import WebService"


@pytest.mark.parametrize(
    ("start", "document"),
    [
        (PIPELINE, {"key": ["x"], "value": [",".join(map(str, HOUSE))]}),
        (ONE_MODEL, {"feed": [{"x": HOUSE}], "fetch": ["price"]}),
    ],
    ids=["pipeline", "one model"],
)
def test_it_serves_until_it_is_stopped(
    fit_a_line: Path, tmp_path: Path, start: str, document: dict[str, Any]
) -> None:
    script = SCRIPT.format(imports=IMPORTS, start=start)
    support = str(Path(__file__).resolve().parents[1] / "support")
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {support!r})\n{script}", str(fit_a_line)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = ""
        while "paddleinfer-http serves on" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        assert "uci: a web service at /uci/prediction, handle" in said
        url = said.split()[-1]
        answer = httpx.post(f"{url}/uci/prediction", content=json.dumps(document), timeout=PATIENCE_S)
        command = [sys.executable, "-m", "paddleinfer.serving.serve", "stop"]
        stopped = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    found = answer.json()
    value = found["result"]["price"] if "result" in found else json.loads(found["value"][0])
    np.testing.assert_allclose(value, price_of(fit_a_line, np.array([HOUSE])), rtol=1e-5)
    assert process.returncode == 0, errors
    assert f"process {process.pid}" in stopped.stdout
    assert not list(tmp_path.iterdir())


FORKED = """
import os, warnings
from paddleinfer.errors import EngineClosed
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads and fork
child = os.fork()
if child == 0:
    try:
        serve()
    except EngineClosed as error:
        assert "create the engine after the fork" in str(error), error
        os._exit(0)
    os._exit(3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("start", [PIPELINE, ONE_MODEL], ids=["pipeline", "one model"])
def test_a_forked_child_does_not_serve_what_it_cannot_answer(
    fit_a_line: Path, tmp_path: Path, start: str
) -> None:
    loads, _, serves = start.strip().rpartition("\n")
    call = serves.removeprefix("sys.exit(").removesuffix(")")
    script = SCRIPT.format(imports=IMPORTS, start=f"{loads}\nserve = lambda: {call}\n{FORKED}")
    support = str(Path(__file__).resolve().parents[1] / "support")
    code = f"import sys; sys.path.insert(0, {support!r})\n{script}"
    command = [sys.executable, "-c", code, str(fit_a_line)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


# Graphs of the C++ server


def test_the_documented_sequence_of_operators_is_what_a_server_does(fit_a_line: Path) -> None:
    op_maker = OpMaker()
    read_op = op_maker.create("GeneralReaderOp")
    general_infer_op = op_maker.create("GeneralInferOp")
    general_response_op = op_maker.create("GeneralResponseOp", inputs=[general_infer_op])
    for maker in (OpSeqMaker(), OpGraphMaker()):
        for op in (read_op, general_infer_op, general_response_op):
            maker.add_op(op)
        server = Server()
        if isinstance(maker, OpGraphMaker):
            server.set_op_graph(maker.get_op_graph())
        else:
            server.set_op_sequence(maker.get_op_sequence())
        server.set_num_threads(4)
        server.load_model_config(str(fit_a_line))
        server.prepare_server(workdir="work_dir1", port=9292, device="cpu")
        assert server.get_fetch_list() == ["price"]
        server.close()
    assert read_op.name == "GeneralReaderOp_0" and op_maker.create("GeneralReaderOp").name.endswith("_1")


def test_operators_that_are_not_offered_say_why(fit_a_line: Path) -> None:
    op_maker = OpMaker()
    read, infer, response = (
        op_maker.create(name) for name in ("GeneralReaderOp", "GeneralInferOp", "GeneralResponseOp")
    )

    def sequence(*ops: Any) -> Any:
        maker = OpSeqMaker()
        for op in ops:
            maker.add_op(op)
        return maker.get_op_sequence()

    def two_models() -> None:
        server = Server()
        server.set_op_sequence(sequence(read, infer, response))
        server.load_model_config({"a": str(fit_a_line), "b": str(fit_a_line)})
        server.prepare_server()

    for call, sentence in (
        (lambda: op_maker.create("GeneralDetectionOp"), "GeneralDetectionOp is not offered: a pipeline"),
        (lambda: op_maker.create("GeneralDistKVOp"), "no store of parameters"),
        (lambda: op_maker.create("NoOp"), "there is no operator 'NoOp'; there are GeneralReaderOp"),
        (lambda: op_maker.create("GeneralInferOp", inputs=["a"]), "inputs must be operators"),  # type: ignore[list-item]
        (lambda: op_maker.create("GeneralInferOp", addresses=["a:1"]), "addresses of GeneralInferOp"),
        (lambda: sequence(read, op_maker.create("GeneralInferOp", inputs=[response])), "comes after"),
        (lambda: sequence(3), "takes an operator that OpMaker.create gave"),
        (
            lambda: Server().set_op_sequence(sequence(read, response)),
            "must be GeneralReaderOp",
        ),
        (lambda: Server().set_op_sequence(sequence(read, infer, infer, response)), "several models"),
        (two_models, "has 1 of GeneralInferOp, and load_model_config names 2 models"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            call()


def test_names_stand_where_paddle_serving_has_them() -> None:
    from paddleinfer.serving import pipeline

    assert Op is pipeline.Op
    assert {"Op", "RequestOp", "ResponseOp", "PipelineServer", "LocalServiceHandler"} <= set(dir(pipeline))
