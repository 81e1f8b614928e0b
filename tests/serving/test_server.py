"""Paddle Serving's Server and its command line: each value is in force and shown, or refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from engine_helpers import PATIENCE_S, eventually
from http_processes import started
from serving_models import HOUSE, price_of

from paddleinfer.backends.processors import usable_cores
from paddleinfer.errors import ConfigError, ModelLoadError
from paddleinfer.serving import Server, process_info, serve


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def engine_line(server: Server, theirs: str, ours: str) -> Any:
    (became,) = server.effective_config()[theirs]["engine"].values()
    return became[ours]["value"]


def test_the_documented_calls_make_a_server_whose_values_are_in_force(
    server: Server, fit_a_line: Path
) -> None:
    server.set_max_concurrency(7)
    server.set_num_threads(1)
    server.set_memory_optimize(True)
    server.set_ir_optimize(True)
    server.load_model_config(str(fit_a_line))
    server.prepare_server(workdir="work_dir1", port=9292, device="cpu")
    shown = server.effective_config()
    assert shown["port"] == {"value": 9292, "server": {"port": 9292}}
    assert shown["max_concurrency"] == {"value": 7, "server": {"max_inflight": 7}}
    assert engine_line(server, "num_threads", "instances") == 1
    assert engine_line(server, "memory_optimize", "mem_optim") is True
    assert engine_line(server, "ir_optimize", "ir_optim") is True
    assert engine_line(server, "device", "device") == "cpu"
    assert server.get_fetch_list() == ["price"]
    assert not Path("work_dir1").exists()


def test_the_defaults_are_paddle_servings(server: Server, fit_a_line: Path) -> None:
    server.load_model_config(fit_a_line)
    server.prepare_server()
    assert server.effective_config()["port"]["value"] == 9292
    assert engine_line(server, "memory_optimize", "mem_optim") is False
    assert engine_line(server, "ir_optimize", "ir_optim") is False
    assert engine_line(server, "batch_infer_size", "max_batch_size") == 32
    assert engine_line(server, "precision", "precision") == "float32"
    assert "num_threads" not in server.effective_config()  # as many as there are cores for


@pytest.mark.parametrize(
    ("call", "theirs", "ours", "value"),
    [
        (lambda s: s.set_runtime_thread_num(3), "runtime_thread_num", "instances", 3),
        (lambda s: s.set_runtime_thread_num([2]), "runtime_thread_num", "instances", 2),
        (lambda s: s.set_num_threads(1000), "num_threads", "instances", usable_cores()),
        (lambda s: s.set_batch_infer_size([5]), "batch_infer_size", "max_batch_size", 5),
        (lambda s: s.set_cpu_math_thread_num(2), "cpu_math_thread_num", "cpu_threads", 2),
        (lambda s: s.set_request_cache_size(1 << 20), "request_cache_size", "cache_bytes", 1 << 20),
        (lambda s: s.use_mkl(True), "mkl", "onednn", True),
        (lambda s: s.use_mkl(False), "mkl", "onednn", False),
        (lambda s: s.set_gpuid("-1"), "gpuid", "device", "cpu"),
        (lambda s: s.set_gpuid(""), "gpuid", "device", "cpu"),
    ],
)
def test_a_value_is_in_force_in_the_engine(
    server: Server, fit_a_line: Path, call: Any, theirs: str, ours: str, value: Any
) -> None:
    call(server)
    server.load_model_config(fit_a_line)
    server.prepare_server()
    assert engine_line(server, theirs, ours) == value


@pytest.mark.parametrize(
    ("call", "theirs", "ours"),
    [
        (lambda s: s.set_port(0), "port", {"port": 0}),
        (lambda s: s.set_host("127.0.0.1"), "host", {"host": "127.0.0.1"}),
        (lambda s: s.set_max_concurrency(0), "max_concurrency", {"max_inflight": None}),
        (
            lambda s: s.set_max_body_size(1 << 20),
            "max_body_size",
            {"max_body_bytes": 1 << 20, "max_json_bytes": 1 << 20},
        ),
        (lambda s: s.set_reload_interval(2), "reload_interval", {"reload_interval": 2}),
        (lambda s: s.set_http_status("real"), "http_status", {"http_status": "real"}),
        (lambda s: s.set_enable_prometheus(True), "enable_prometheus", {}),
    ],
)
def test_a_value_is_in_force_in_the_server(
    server: Server, fit_a_line: Path, call: Any, theirs: str, ours: Any
) -> None:
    call(server)
    server.load_model_config(fit_a_line)
    server.prepare_server()
    assert server.effective_config()[theirs]["server"] == ours


def test_models_have_their_own_values_by_their_place(
    server: Server, fit_a_line: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(fit_a_line, tmp_path / "other"))
    server.set_batch_infer_size([4, 8])
    server.set_runtime_thread_num([1, 2])
    server.load_model_config([str(fit_a_line), str(other)])
    server.prepare_server()
    became = server.effective_config()
    sizes = {
        name: lines["max_batch_size"]["value"] for name, lines in became["batch_infer_size"]["engine"].items()
    }
    assert sizes == {fit_a_line.name: 4, "other": 8}
    assert became["batch_infer_size"]["value"] == [4, 8]
    server.load_model_config({"a": str(fit_a_line), "b": str(other), "c": str(other)})
    with pytest.raises(ConfigError, match="has 2 values, and there are 3 models"):
        server.prepare_server()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.set_memory_optimize(1), "set_memory_optimize must be True or False"),
        (lambda s: s.set_ir_optimize("yes"), "set_ir_optimize must be True or False"),
        (lambda s: s.set_num_threads(0), "threads must be an integer from 1"),
        (lambda s: s.set_port(70_000), "port must be an integer"),
        (lambda s: s.set_max_concurrency(-1), "concurrency must be an integer from 0"),
        (lambda s: s.set_device("npu"), 'device must be "cpu" or "gpu"'),
        (lambda s: s.set_runtime_thread_num([]), "runtime_thread_num must be an integer, or a list"),
        (lambda s: s.set_batch_infer_size(0), "batch_infer_size must be an integer from 1"),
        (lambda s: s.set_enable_prometheus(False), "/metrics cannot be turned off"),
        (lambda s: s.set_request_cache_size(-1), "request_cache_size must be an integer from 0"),
        (lambda s: s.load_model_config([]), "needs a model's directory"),
        (lambda s: s.load_model_config(["a/m", "b/m"]), "two directories have one name"),
        (lambda s: s.prepare_server(), "name a model by load_model_config"),
        (lambda s: s.prepare_server(use_encryption_model=True), "use_encryption_model of prepare_server"),
        (lambda s: s.prepare_server(cube_conf="cube"), "cube_conf of prepare_server"),
        (lambda s: s.run_server(), "call prepare_server before run_server"),
        (lambda s: s.effective_config(), "call prepare_server before"),
        (lambda s: s.get_fetch_list(), "call prepare_server before"),
        (lambda s: s.set_lite(), "set_lite is not offered"),
        (
            lambda s: s.set_op_sequence({"a": 1}),
            "set_op_sequence takes what OpSeqMaker.get_op_sequence gives",
        ),
        (lambda s: s.set_use_calib(True), "set_use_calib.* is not offered"),
        (lambda s: s.set_trt_use_static(True), "set_trt_use_static.* is not offered"),
        (lambda s: s.use_encryption_model(flag=True), "use_encryption_model.* is not offered"),
    ],
)
def test_a_value_that_cannot_be_in_force_is_refused(server: Server, call: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        call(server)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.set_precision("fp8"), "precision must be one of"),
        (lambda s: s.set_precision("fp16"), "fp16 needs use_trt=True"),
        (lambda s: s.set_trt(), "use_trt=True needs a GPU"),
        (lambda s: s.set_gpu_memory_mb(100), "gpu_memory_mb is for a GPU"),
        (lambda s: s.set_gpuid("one"), "gpuid must be numbers of GPUs"),
        (lambda s: s.set_reload_interval(0), "reload_interval must be more than 0"),
        (lambda s: s.set_http_status("404"), "http_status must be one of"),
    ],
)
def test_values_that_contradict_each_other_are_refused_when_the_server_is_prepared(
    server: Server, fit_a_line: Path, call: Any, words: str
) -> None:
    call(server)
    server.load_model_config(fit_a_line)
    with pytest.raises(ConfigError, match=words):
        server.prepare_server()


def test_what_is_off_may_be_said_of_what_is_not_offered(server: Server) -> None:
    server.set_use_calib(False)
    server.set_product_name(None)
    server.use_encryption_model(flag=False)
    with pytest.raises(AttributeError, match="set_nothing"):
        server.set_nothing()


def test_a_directory_without_a_model_is_refused(server: Server, tmp_path: Path) -> None:
    server.load_model_config(tmp_path)
    with pytest.raises(ModelLoadError):
        server.prepare_server()


# The command line


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    try:
        code = serve.main(arguments)
    except SystemExit as end:  # argparse's own
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a model: --model DIR"),
        (["--model", "/nowhere"], "/nowhere"),
        (["--model", "a", "b", "--name", "uci"], "--name is of one model"),
        (["--model", "a", "--use_lite"], "--use_lite: set_lite"),
        (["--model", "a", "--op", "GeneralDetectionOp"], "--op is not offered: each model"),
        (["--model", "a", "--prometheus_port", "19393"], "--prometheus_port: .*metrics are at /metrics"),
        (["--model", "a", "--trt_use_static"], "--trt_use_static: "),
        (["--model", "a", "--gpu_multi_stream"], "--gpu_multi_stream: "),
        (["--model", "a", "--use_encryption_model"], "--use_encryption_model: "),
        (["--model", "a", "--dist_nranks", "2"], "--dist_nranks: "),
        (["--model", "a", "--request_cache_size", "-1"], "request_cache_size"),
        (["--model", "a", "--device", "cpu", "--gpu_ids", "0"], "contradict each other"),
        (["--model", "a", "--thread", "0"], "threads must be an integer from 1"),
        (["--model", "a", "--thread", "many"], "--thread"),
        (["--model", "a", "--tread", "4"], "--tread"),
        (["restart"], "restart"),
    ],
)
def test_a_flag_that_cannot_be_in_force_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert re.search(words, refused(capsys, *arguments))


def test_check_says_what_is_installed_and_reads_the_models(
    capsys: pytest.CaptureFixture[str], fit_a_line: Path
) -> None:
    assert serve.main(["check", "--model", str(fit_a_line)]) == 0
    out = capsys.readouterr().out
    assert "paddle " in out and "x -> price" in out


def test_a_server_says_what_each_flag_became_answers_and_is_stopped(fit_a_line: Path, tmp_path: Path) -> None:
    home = {"SERVING_HOME": str(tmp_path)}
    command = ["-m", "paddleinfer.serving.serve"]
    flags = [
        "--request_cache_size",
        "1000000",
        "--thread",
        "10",
        "--ir_optim",
        "--mem_optim_off",
        "--batch_infer_size",
        "8",
        "--workdir",
        "w",
    ]
    where = ["--port", "0", "--host", "127.0.0.1", "--name", "uci", "--model", fit_a_line]
    with started(*command, *where, *flags, environment=home) as server:
        assert "--ir_optim (on): uci: ir_optim=True" in server.lines
        assert "--mem_optim_off (on): uci: mem_optim=False" in server.lines
        assert "--batch_infer_size (8): uci: max_batch_size=8" in server.lines
        assert f"--thread (10): uci: instances={min(10, usable_cores())}" in server.lines
        assert "--request_cache_size (1000000): uci: cache_bytes=1000000" in server.lines
        assert "--workdir (w): not used, nothing is written" in server.lines
        document = {"feed": [{"x": HOUSE}], "fetch": ["price"]}
        answer = httpx.post(f"{server.url}/uci/prediction", json=document, timeout=PATIENCE_S).json()
        np.testing.assert_allclose(
            answer["result"]["price"], price_of(fit_a_line, np.array([HOUSE])), rtol=1e-4
        )
        stopping = subprocess.run(
            [sys.executable, *command, "stop"],
            env={**os.environ, **home}, cwd="/", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert stopping.returncode == 0 and f"process {server.process.pid}" in stopping.stdout
        assert server.end()[0] == 0
    assert not (tmp_path / "ProcessInfo.json").exists()


def test_without_a_server_stop_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVING_HOME", str(tmp_path))
    assert "no server was started" in refused(capsys, "stop")


@pytest.mark.parametrize(
    "text",
    ["", "{", "3", "[3]", '[{"pid": "1"}]', '[{"pid": -1, "port": 1, "start_time": 1}]', "\0"],
)
def test_a_damaged_note_of_servers_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("SERVING_HOME", str(tmp_path))
    (tmp_path / "ProcessInfo.json").write_text(text)
    assert process_info.stop(signal.SIGINT) == []


def test_a_later_process_of_the_same_number_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVING_HOME", str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        note = [{"pid": child.pid, "port": 9393, "start_time": 1}]
        (tmp_path / "ProcessInfo.json").write_text(json.dumps(note))
        assert process_info.stop(signal.SIGKILL) == []
        assert child.poll() is None
        note[0]["start_time"] = process_info._start_time(child.pid) or 0
        (tmp_path / "ProcessInfo.json").write_text(json.dumps(note))
        assert process_info.stop(signal.SIGKILL) == [(child.pid, 9393)]
        assert eventually(lambda: child.poll() is not None)
    finally:
        child.kill()
        child.communicate()


def test_servers_that_are_gone_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_HOME", str(tmp_path))
    (tmp_path / "ProcessInfo.json").write_text('[{"pid": 1, "port": 1, "start_time": -5}]')
    process_info.remember(9393)
    (own,) = json.loads((tmp_path / "ProcessInfo.json").read_text())
    assert own["pid"] == os.getpid()
    process_info.forget()
    assert not (tmp_path / "ProcessInfo.json").exists()
