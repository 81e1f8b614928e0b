"""Options by the command line, the environment and a file, and those that are refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from http_commands import plan, refused
from zoo import Zoo

from paddleinfer import ConfigError, PadAxis
from paddleinfer.shim import cli


@pytest.fixture
def model(zoo: Zoo) -> Path:
    return zoo.directory("mlp", zoo.formats[0])


def options(*arguments: str | Path, environment: dict[str, str] | None = None) -> dict[str, Any]:
    (source,) = plan(*arguments, environment=environment).models.values()
    return source.config.flat()


def test_a_directory_is_served_under_its_name_with_the_defaults(model: Path) -> None:
    planned = plan(model)
    assert list(planned.models) == [model.name]
    assert (planned.server.host, planned.server.port) == ("0.0.0.0", 9393)
    flat = options(model)
    assert (flat["ir_optim"], flat["mem_optim"]) == (False, True)


def test_models_are_given_with_and_without_names(model: Path) -> None:
    assert list(plan("--model", f"a={model}", "--model", f"b={model}", model).models) == [
        model.name,
        "a",
        "b",
    ]


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--ir-optim"], "ir_optim", True),
        (["--ir_optim"], "ir_optim", True),
        (["--no-ir-optim"], "ir_optim", False),
        (["--mem_optim_off"], "mem_optim", False),
        (["--mem-optim-off"], "mem_optim", False),
        (["--no-mem-optim"], "mem_optim", False),
        (["--max-batch-size", "8"], "max_batch_size", 8),
        (["--max_batch_size=8"], "max_batch_size", 8),
        (["--instances", "auto"], "instances", "auto"),
        (["--instances", "3"], "instances", 3),
        (["--onednn", "off"], "onednn", False),
        (["--onednn", "auto"], "onednn", "auto"),
        (["--device", "gpu:0,gpu:1"], "device", ("gpu:0", "gpu:1")),
        (["--device", "cpu"], "device", "cpu"),
        (["--allowed-batch-sizes", "1,4,16"], "allowed_batch_sizes", (1, 4, 16)),
        (["--default-timeout", "0.5"], "default_timeout", 0.5),
        (["--default-timeout", "none"], "default_timeout", None),
        (["--policy", "eager"], "policy", "eager"),
        (
            ["--pad", "inputs=x:1 multiple=8", "--pad=inputs=y:2 sizes=4,6 max_waste=0.5"],
            "pad",
            (PadAxis({"x": 1}, multiple=8), PadAxis({"y": 2}, sizes=(4, 6), max_waste=0.5)),
        ),
    ],
)
def test_every_kind_of_option_is_a_flag(model: Path, flags: list[str], name: str, value: Any) -> None:
    assert options(model, *flags)[name] == value


def test_every_option_has_a_flag_a_variable_and_a_sentence() -> None:
    text = cli._parser().format_help()
    for flags in cli._groups().values():
        for flag in flags:
            assert flag.doc, flag.name
            assert f"PADDLEINFER_{flag.name.upper()})" in text.replace("\n" + 24 * " ", " "), flag.name


def test_the_command_line_is_stronger_than_the_environment_and_that_than_the_file(
    model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "server.toml"
    file.write_text(
        f'[server]\nport = 1\nhost = "::1"\n[engine]\nmax_batch_size = 2\ncpu_threads = 2\n'
        f'instances = 2\npolicy = "eager"\n'
        f'[models.a]\npath = "{model}"\ncpu_threads = 3\ninstances = 3\npolicy = "adaptive"\n'
    )
    environment = {"PADDLEINFER_INSTANCES": "4", "PADDLEINFER_POLICY": "eager", "PADDLEINFER_PORT": "7"}
    flat = options("--config", file, "--policy", "adaptive", environment=environment)
    assert (flat["max_batch_size"], flat["cpu_threads"], flat["instances"], flat["policy"]) == (
        2,
        3,
        4,
        "adaptive",
    )
    planned = plan("--config", file, environment=environment)
    assert (planned.server.port, planned.server.host) == (7, "::1")


def test_example_shapes_are_for_the_models_that_have_the_inputs(zoo: Zoo, tmp_path: Path) -> None:
    named = {name: zoo.directory(name, zoo.formats[0]) for name in ("mlp", "joined")}
    models = [part for name, path in named.items() for part in ("--model", f"{name}={path}")]

    def shapes(*arguments: str | Path) -> dict[str, Any]:
        planned = plan(*models, *arguments).models
        return {name: source.config.example_shapes for name, source in planned.items()}

    assert shapes() == {"mlp": {}, "joined": {}}
    assert shapes("--example-shape", "past=2,4") == {"mlp": {}, "joined": {"past": (2, 4)}}
    both = shapes("--example-shape", "x=20", "--example-shape=joined:past=2,4")
    assert both == {"mlp": {"x": (20,)}, "joined": {"x": (20,), "past": (2, 4)}}
    file = tmp_path / "server.toml"
    file.write_text("[engine.example_shapes]\npast = [2, 4]\nx = [5]")
    assert shapes("--config", file) == {"mlp": {"x": (5,)}, "joined": {"past": (2, 4), "x": (5,)}}
    with pytest.raises(ConfigError, match="example_shapes names 'q'"):
        shapes("--example-shape", "q=1")


def test_a_stronger_place_to_listen_on_replaces_a_weaker_one(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    for given, stronger, where in (
        ('uds = "s"', {"PADDLEINFER_PORT": "7"}, (None, 7)),
        ("port = 7", {"PADDLEINFER_UDS": "s"}, ("s", 7)),
    ):
        file.write_text(f"[server]\n{given}")
        server = plan(model, "--config", file, environment=stronger).server
        assert (server.uds, server.port) == where


def test_a_path_in_a_file_is_relative_to_it_and_lists_and_paddings_are_read(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "m").symlink_to(model)
    file = tmp_path / "server.toml"
    file.write_text(
        '[models.a]\npath = "m"\nallowed_batch_sizes = [1, 2]\n'
        '[[models.a.pad]]\ninputs = {x = 1}\nmultiple = 8\nmask = "m"\n'
    )
    flat = options("--config", file)
    assert flat["allowed_batch_sizes"] == (1, 2)
    assert (flat["pad"][0].multiple, flat["pad"][0].mask) == (8, "m")


def test_variables_that_kubernetes_sets_for_a_service_of_that_name_are_left_alone(model: Path) -> None:
    environment = {"PADDLEINFER_PORT": "tcp://10.0.0.1:9393", "PADDLEINFER_SERVICE_HOST": "10.0.0.1"}
    assert plan(model, environment=environment).server.port == 9393


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--ir-optim", "--ir_optim"], "one option"),
        (["--port", "1", "--port", "2"], "given twice"),
        (["--mem-optim", "--mem_optim_off"], "one option"),
        (["--por", "1"], "there is no option --por; did you mean --port?"),
        (["more"], "'more' is one argument too many"),
        (["--port", "high"], "--port must be an integer"),
        (["--port", "70000"], "65535"),
        (["--max_batch_size", "many"], "--max_batch_size must be an integer"),
        (["--max-batch-size", "0"], "max_batch_size"),
        (["--instances", "few"], "an integer or auto"),
        (["--policy", "lazy"], "adaptive"),
        (["--onednn", "maybe"], "true or false"),
        (["--allowed-batch-sizes", "1,x"], "a list with commas"),
        (["--tls-cert", __file__], "together"),
        (["--tls-cert", "/none", "--tls-key", "/none"], "not a file"),
        (["--api-key", "a b"], "api_key"),
        (["--api-key", "a", "--api-key-file", __file__], "not both"),
        (["--api-key-file", "/none"], "not a file"),
        (["--drain-timeout", "-1"], "drain_timeout"),
        (["--reload-interval", "0"], "reload_interval"),
        (["--max-body-bytes", "0"], "max_body_bytes"),
        (["--max-grpc-message-bytes", "0"], "max_grpc_message_bytes"),
        (["--max-inflight", "0"], "max_inflight"),
        (["--model", "a="], "NAME=DIR"),
        (["--model", "a/b=x"], "a model's name"),
        (["--config", "/none.toml"], "cannot read"),
        (["--policy", "fixed_delay"], "max_queue_delay_us"),
        (["--uds", "s", "--port", "1"], "port and uds both say where to listen"),
        (["--uds", "s", "--grpc-uds", "s"], "uds and grpc_uds cannot be one path"),
        (["--port", "7", "--grpc-port", "7"], "port and grpc_port cannot be one port"),
        (["--uds-mode", "rw"], "uds_mode must be permissions in octal"),
        (["--keep-alive-timeout", "0"], "keep_alive_timeout must be more than 0 seconds"),
        (["--read-timeout", "nan"], "read_timeout must be a finite number"),
        (["--pad", "inputs=x:1"], "PadAxis needs sizes, or a multiple"),
        (["--pad", "x:1"], "pad is made of NAME=VALUE"),
        (["--inline=yes"], "--inline"),
        (["--max-batch-size"], "--max-batch-size"),
        (["--preferred-batch-sizes", "4,2"], "must rise"),
        (["--policy", "eager", "--max-queue-delay-us", "5"], "max_queue_delay_us has no effect"),
        (["--trace", "/none/t.json"], "trace cannot be written to /none/t.json (No such file or directory)"),
        (["--trace", "/"], "trace must be a file, and / is a directory"),
        (["--trace", ""], "trace must be a text"),
        (["--trace", "/dev/null", "--trace-requests", "0"], "trace needs trace_requests above 0"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    model: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    fixed = [flag.replace("=x", f"={model}") for flag in flags]
    assert says in refused(capsys, model, *fixed)


def test_a_server_without_models_two_of_one_name_and_paths_without_models_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "name a model" in refused(capsys)
    assert "two models" in refused(capsys, "--model", f"a={model}", "--model", f"a={model}")
    assert str(tmp_path) in refused(capsys, tmp_path)
    assert "/none" in refused(capsys, "/none")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x", "not TOML"),
        ("port = 1", "at its top"),
        ("[other]", "at its top"),
        ("[server]\nprt = 1", "'prt'"),
        ("[engine]\nmax_batch = 1", "max_batch_size"),
        ("[models.a]\nmax_batch_size = 1", "path"),
        ("[models]\na = 1", "path"),
        ('[server]\nport = "high"', "port"),
        ("[engine]\npad = [{axis = 1}]", "pad in [engine] of "),
        ("[engine]\npad = [{axis = 1}]", "'axis'; the fields of PadAxis are inputs, "),
        ("[engine]\npad = 3", "must be a table of PadAxis' fields"),
        ("[[engine.pad]]\nmultiple = 4", "needs inputs"),
        ("[engine]\nmax_batch_size = [1]", "max_batch_size must be an integer"),
        ("[engine]\npolicy = {a = 1}", "policy must be one of"),
        ("[engine]\ndevice = [1, 2]", "device must be"),
        ("[engine]\ndefault_timeout = 1979-05-27", "default_timeout must be"),
        ("[server]\nport = [1]", "port must be"),
        ("[server]\naccess_log = 1", "access_log must be true or false"),
        ("[server]\nuds_mode = 660", "uds_mode must be a text"),
        ("[server]\ntrace = []", "trace must be a text"),
        ('[server]\nuds = "s"\nport = 1', "port and uds"),
        ("server = 3", "at its top"),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_a_sentence(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    assert says in refused(capsys, model, "--config", file)


def test_a_key_is_read_from_a_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "key"
    file.write_text("s3cret\nmore\n")
    assert plan(model, "--api-key-file", file).server.service_options().api_key == "s3cret"
    file.write_text("")
    assert "first line" in refused(capsys, model, "--api-key-file", file)


def test_a_key_file_that_cannot_be_read_is_said(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.touch()

    def denied(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    assert f"cannot read {file}: Permission denied" in refused(capsys, model, "--api-key-file", file)


def test_a_variable_that_stands_for_nothing_is_named(model: Path) -> None:
    with pytest.raises(ConfigError, match="PADDLEINFER_MAX_BATCH_SIZE"):
        plan(model, environment={"PADDLEINFER_MAX_BATCH_SIZE": "many"})


def test_what_is_not_installed_is_said(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "paddleinfer.shim.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "paddleinfer[http]" in refused(capsys, model)
