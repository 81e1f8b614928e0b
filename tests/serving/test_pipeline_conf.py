"""A pipeline's configuration and graph: each key acts or says why not, and what is wrong is refused."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import double, engine_of
from serving_models import HOUSE
from serving_pipelines import RowOp, UciOp, UciService, asked, pipeline_of, uci_conf

from paddleinfer import Engine
from paddleinfer.backends.processors import usable_cores
from paddleinfer.errors import ConfigError, ModelLoadError
from paddleinfer.serving import Op, RequestOp, WebService
from paddleinfer.serving.pipeline import LocalServiceHandler
from paddleinfer.serving.pipeline.keys import DAG, LOCAL, OP, TOP, TRACER

HOUSE_TEXT = ",".join(map(str, HOUSE))


def prepared(conf: Mapping[str, Any]) -> WebService:
    service = UciService(name="uci")
    service.prepare_pipeline_config(yml_dict=conf)
    return service


def local(model: Path, **values: Any) -> dict[str, Any]:
    return {"http_port": 0, "op": {"uci": {"local_service_conf": {"model_config": str(model), **values}}}}


def engine_line(service: WebService, key: str, option: str) -> Any:
    return service.effective_config()[key]["engine"][option]["value"]


# What becomes of keys


@pytest.mark.parametrize(
    ("given", "key", "option", "value"),
    [
        ({"mem_optim": False}, "mem_optim", "mem_optim", False),
        ({"ir_optim": True}, "ir_optim", "ir_optim", True),
        ({"thread_num": 2}, "thread_num", "cpu_threads", 2),
        ({"use_mkldnn": True}, "use_mkldnn", "onednn", True),
        ({"use_mkldnn": False}, "use_mkldnn", "onednn", False),
        (
            {"use_mkldnn": True, "mkldnn_cache_capacity": 9},
            "mkldnn_cache_capacity",
            "max_onednn_shapes",
            9,
        ),
        ({"precision": "FP32"}, "precision", "precision", "float32"),
        ({"device_type": 0, "devices": "0,1"}, "device_type", "device", "cpu"),
        ({"devices": ""}, "devices", "device", "cpu"),
    ],
)
def test_a_key_of_the_model_is_in_force(
    fit_a_line: Path, given: dict[str, Any], key: str, option: str, value: Any
) -> None:
    service = prepared(local(fit_a_line, **given))
    try:
        assert engine_line(service, f"op.uci.local_service_conf.{key}", option) == value
        assert asked(service.pipeline, x=HOUSE_TEXT).err_no == 0
    finally:
        service.close()


@pytest.mark.parametrize(
    ("given", "key", "option", "value"),
    [
        ({"concurrency": 1}, "concurrency", "instances", 1),
        ({"concurrency": 1000}, "concurrency", "instances", usable_cores()),
        ({"batch_size": 5}, "batch_size", "max_batch_size", 5),
        ({"batch_size": 1, "auto_batching_timeout": -1}, "batch_size", "batchable", "no"),
        (
            {"batch_size": 4, "auto_batching_timeout": 3},
            "auto_batching_timeout",
            "max_queue_delay_us",
            3000,
        ),
    ],
)
def test_a_key_of_an_op_is_in_force(
    fit_a_line: Path, given: dict[str, Any], key: str, option: str, value: Any
) -> None:
    conf = uci_conf(fit_a_line)
    conf["op"]["uci"].update(given)
    service = prepared(conf)
    try:
        assert engine_line(service, f"op.uci.{key}", option) == value
        assert asked(service.pipeline, x=HOUSE_TEXT).err_no == 0
    finally:
        service.close()


def test_keys_that_are_not_given_leave_the_engine_its_defaults(fit_a_line: Path) -> None:
    service = prepared(local(fit_a_line))
    try:
        (engine,) = service.pipeline.engines.values()
        with Engine(fit_a_line) as plain:
            expected = plain.effective_config()
        assert {name: line["value"] for name, line in engine.effective_config().items()} == {
            name: line["value"] for name, line in expected.items()
        }
    finally:
        service.close()


def test_an_ops_names_may_be_a_tuple() -> None:
    op = RowOp("op", [RequestOp()], fetch_list=("y",))
    with pipeline_of(op, {"op": engine_of(double)}) as server:
        assert asked(server, x="1").value == ["2.0"]


def test_an_ops_arguments_have_precedence_over_the_configuration(fit_a_line: Path) -> None:
    handler = LocalServiceHandler(str(fit_a_line), mem_optim=False, fetch_list=["price"])
    op = UciOp("uci", [RequestOp()], batch_size=7, local_service_handler=handler)
    with pipeline_of(op, uci={"batch_size": 9, "concurrency": 1}) as server:
        shown = server.effective_config()
        assert shown["op.uci.batch_size"]["value"] == 7
        assert shown["op.uci.local_service_conf.mem_optim"]["engine"]["mem_optim"]["value"] is False
        assert asked(server, x=HOUSE_TEXT).err_no == 0


EVERY_TOP_KEY = {
    "rpc_port": 0,
    "http_port": 0,
    "worker_num": 3,
    "build_dag_each_worker": True,
    "grpc_gateway_port": 3,
}
EVERY_DAG_KEY = {
    "is_thread_op": False,
    "retry": 2,
    "client_type": "brpc",
    "use_profile": False,
    "channel_size": 10,
    "channel_recv_frist_arrive": False,
    "enable_prometheus": True,
    "prometheus_port": 19393,
}
EVERY_OP_KEY = {
    "concurrency": 1,
    "timeout": 3000,
    "retry": 1,
    "batch_size": 2,
    "auto_batching_timeout": 2,
    "client_type": "local_predictor",
    "fetch_list": ["price"],
    "use_encryption_model": False,
    "encryption_key": "",
    "client_config": "unused",
    "server_endpoints": [],
}
EVERY_LOCAL_KEY = {
    "client_type": "local_predictor",
    "workdir": "",
    "thread_num": 1,
    "device_type": -1,
    "devices": "",
    "mem_optim": True,
    "ir_optim": False,
    "precision": "fp32",
    "use_calib": False,
    "use_mkldnn": True,
    "mkldnn_cache_capacity": 3,
    "mkldnn_op_list": [],
    "mkldnn_bf16_op_list": [],
    "min_subgraph_size": 3,
    "fetch_list": ["price"],
}


def test_every_key_is_taken_and_acts_or_says_why_it_does_nothing(fit_a_line: Path) -> None:
    everything = {
        **EVERY_TOP_KEY,
        "dag": {**EVERY_DAG_KEY, "tracer": {"interval_s": 10}},
        "op": {
            "uci": {
                **EVERY_OP_KEY,
                "local_service_conf": {**EVERY_LOCAL_KEY, "model_config": str(fit_a_line)},
            }
        },
    }
    for keys, values, further in (
        (TOP, EVERY_TOP_KEY, {"dag", "op"}),
        (DAG, EVERY_DAG_KEY, {"tracer"}),
        (TRACER, {"interval_s": 10}, set()),
        (OP, EVERY_OP_KEY, {"local_service_conf"}),
        (LOCAL, EVERY_LOCAL_KEY, {"model_config"}),
    ):
        assert set(keys) == set(values) | further
    service = prepared(everything)
    try:
        shown = service.effective_config()
        assert asked(service.pipeline, x=HOUSE_TEXT).err_no == 0
    finally:
        service.close()
    below = "op.uci.local_service_conf"
    paths = [*EVERY_TOP_KEY, *(f"dag.{key}" for key in EVERY_DAG_KEY), "dag.tracer.interval_s"]
    paths += [f"op.uci.{key}" for key in EVERY_OP_KEY] + [f"{below}.{key}" for key in EVERY_LOCAL_KEY]
    assert set(shown) == {*paths, f"{below}.model_config"}
    for path, entry in shown.items():
        assert set(entry) & {"engine", "server", "pipeline", "note"}, path


def test_with_the_port_of_rpc_alone_http_has_a_free_one(fit_a_line: Path) -> None:
    conf = local(fit_a_line)
    conf["rpc_port"] = conf.pop("http_port")
    service = prepared(conf)
    try:
        assert service.effective_config()["rpc_port"] == {"value": 0, "server": {"grpc_port": 0}}
        assert "http_port" not in service.effective_config()
    finally:
        service.close()


# What is refused


@pytest.mark.parametrize(
    ("conf", "sentence"),
    [
        ({"http_port": 0, "http_prt": 1}, "'http_prt' is no key .*: did you mean http_port"),
        ({"http_port": 0, "wokers": 1}, "'wokers' is no key"),
        ({"http_port": 0, "dag": {"is_thread": 1}}, "'dag.is_thread' .*did you mean is_thread_op"),
        ({"http_port": 0, "op": {"uci": {"concurency": 1}}}, "'op.uci.concurency' .*concurrency"),
        (
            {"http_port": 0, "op": {"uci": {"local_service_conf": {"model": "a"}}}},
            "'op.uci.local_service_conf.model' .*model_config",
        ),
        ({"http_port": "80"}, "http_port must be an integer, not '80'"),
        ({"http_port": 65536}, "http_port must be at most 65535"),
        ({"http_port": True}, "http_port must be an integer"),
        ({"http_port": 0, "worker_num": 0}, "worker_num must be an integer from 1 up"),
        ({}, "needs http_port, rpc_port, or both"),
        ([], "the configuration must be a mapping"),
        ({"http_port": 0, "op": []}, "op must be a mapping"),
        ({"http_port": 0, "op": {3: {}}}, "names below op must be texts"),
        ({"http_port": 0, "dag": {"tracer": 3}}, "dag.tracer must be a mapping"),
        ({"http_port": 0, "dag": {"retry": 0}}, "dag.retry must be an integer from 1 up"),
        ({"http_port": 0, "dag": {"channel_recv_frist_arrive": True}}, "every input of an Op is waited for"),
        ({"http_port": 0, "op": {"uci": {"client_type": "pipeline_grpc"}}}, "must be one of 'brpc', 'grpc'"),
        ({"http_port": 0, "op": {"uci": {"use_encryption_model": True}}}, "encrypted models are not read"),
        ({"http_port": 0, "op": {"other": {}}}, "no Op 'other', which is configured; its Ops are uci"),
        ({"http_port": 0, "op": {"uci": {"server_endpoints": ["a:1"]}}}, "needs client_config"),
        ({"http_port": 0, "op": {"uci": {"server_endpoints": [1]}}}, "must be a list of texts, not \\[1\\]"),
        ({"http_port": 0, "op": {"uci": {"timeout": 10**400}}}, "op.uci.timeout must be at most"),
        ({"http_port": 0, "op": {"uci": {"local_service_conf": {"thread_num": 1}}}}, "has no model_config"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said(conf: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prepared(conf)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"device_type": 3}, "op.uci: device_type 3 is not offered"),
        ({"device_type": 7}, "at most 6"),
        ({"device_type": 1}, "device_type 1 needs devices"),
        ({"devices": "a"}, "devices must be numbers of GPUs"),
        ({"devices": 0}, "must be a text, not 0"),
        ({"precision": "fp4"}, "precision must be one of fp32"),
        ({"precision": "fp16"}, "fp16 needs use_trt=True"),
        ({"precision": "bf16"}, "bf16 needs use_mkldnn: True"),
        ({"mkldnn_cache_capacity": 3}, "needs use_mkldnn=True"),
        ({"use_calib": True}, "offline, by PaddleSlim"),
        ({"mkldnn_op_list": ["conv2d"]}, "every operator that it has a kernel for"),
        ({"min_subgraph_size": 5}, "must be one of 3"),
        ({"fetch_list": ["cost"]}, "op.uci: fetch_list has cost, and the model gives price"),
        ({"fetch_list": "price"}, "must be a list of texts, not 'price'"),
        ({"fetch_list": [["price"]]}, "must be a list of texts"),
    ],
)
def test_what_cannot_be_in_force_is_refused(fit_a_line: Path, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prepared(local(fit_a_line, **values))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"batch_size": 8, "auto_batching_timeout": -1}, "wait for 8 of them however long they take"),
        ({"batch_size": 8, "auto_batching_timeout": 0}, "wait for 8 of them"),
        ({"batch_size": 0}, "batch_size must be an integer from 1 up"),
    ],
)
def test_a_batch_that_a_request_would_wait_for_without_end_is_refused(
    fit_a_line: Path, values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prepared(uci_conf(fit_a_line, **values))


def test_a_model_that_is_not_there_is_said_and_ends_what_was_begun(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="nowhere"):
        prepared(local(tmp_path / "nowhere"))


def test_a_given_engine_has_options_of_its_own() -> None:
    op = Op("op", [RequestOp()])
    for conf, sentence in (
        ({"batch_size": 4}, "op.op has batch_size, and its engine is given"),
        ({"local_service_conf": {"ir_optim": True}}, "local_service_conf.ir_optim"),
    ):
        with pytest.raises(ConfigError, match=sentence), pipeline_of(op, {"op": engine_of()}, op=conf):
            raise AssertionError("it was prepared")
    with pytest.raises(ConfigError, match="no Op 'other'"), pipeline_of(op, {"other": engine_of()}):
        raise AssertionError("it was prepared")


# The file


def test_a_file_is_read_as_yaml(fit_a_line: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text(
        f"""
#worker_num, the maximum concurrency
worker_num: 1
http_port: 0
dag:
    is_thread_op: False
    tracer:
        interval_s: 10
op:
    uci:
        concurrency: 1
        local_service_conf:
            model_config: {fit_a_line}
            device_type: 0
            devices: "" # "0,1"
            client_type: local_predictor
            fetch_list: ["price"]
            precision: "fp32"
            ir_optim: True
            workdir:
"""
    )
    service = UciService("uci")
    service.prepare_pipeline_config(file)
    try:
        assert engine_line(service, "op.uci.local_service_conf.ir_optim", "ir_optim") is True
        assert "op.uci.local_service_conf.workdir" not in service.effective_config()
        assert asked(service.pipeline, x=HOUSE_TEXT).err_no == 0
    finally:
        service.close()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a: [", "is not YAML: while parsing"),
        (b"\xff\xfe\xff", "is not YAML"),
        (b"!!python/object/apply:os.system ['true']", "is not YAML: could not determine a constructor"),
        (b"", "the configuration must be a mapping, not None"),
    ],
)
def test_a_file_that_is_no_configuration_is_said(tmp_path: Path, content: bytes, sentence: str) -> None:
    file = tmp_path / "config.yml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        UciService("uci").prepare_pipeline_config(file)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        UciService("uci").prepare_pipeline_config(tmp_path / "none.yml")
    for given in ({}, {"yml_file": file, "yml_dict": {}}):
        with pytest.raises(ConfigError, match="one of yml_file and yml_dict"):
            UciService("uci").prepare_pipeline_config(**given)


def test_what_is_reported_is_of_the_last_preparation_alone(fit_a_line: Path) -> None:
    server = prepared(local(fit_a_line, ir_optim=True)).pipeline
    with Engine(fit_a_line) as engine:
        server.prepare_server(yml_dict={"http_port": 0}, engines={"uci": engine})
        assert [key for key in server.effective_config() if key.startswith("op.")] == []
        assert asked(server, x=HOUSE_TEXT).err_no == 0
        server.close()


def test_without_pyyaml_a_dict_works_and_a_file_says_what_to_install(
    fit_a_line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    file = tmp_path / "config.yml"
    file.write_text("http_port: 0")
    with pytest.raises(ConfigError, match=r"pip install 'paddleinfer\[serving\]'"):
        UciService("uci").prepare_pipeline_config(file)
    service = prepared(local(fit_a_line))
    assert asked(service.pipeline, x=HOUSE_TEXT).err_no == 0
    service.close()
