"""The command ``paddleinfer``: one sentence for each error, only JSON on stdout; and ``inspect``."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import said
from zoo import Zoo

import paddleinfer
from paddleinfer.cli.main import COMMANDS, main
from paddleinfer.config import RuntimeOptions
from paddleinfer.options.flags import flags_of
from paddleinfer.options.parser import check_writable

pytest.importorskip("paddle")
PATIENCE_S = 300.0


def start(*arguments: object) -> subprocess.Popen[str]:
    """Returns once the command is about to begin."""
    reader, writer = os.pipe()
    # A test run in the background has Ctrl-C ignored, and so would what it starts.
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"from paddleinfer.cli.main import main; os.close({writer}); sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=(writer,),
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as begins:
        assert begins.read() == b""
    return process


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n    {name}" in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main([name, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_every_option_of_the_engine_is_one_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--help"]) == 0
    out = capsys.readouterr().out
    for flag in flags_of(RuntimeOptions):
        assert f"--{flag.name.replace('_', '-')}" in out or f"--no-{flag.name.replace('_', '-')}" in out


def test_no_command_is_refused_with_the_list_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert "give a command: inspect, run, bench" in said(capsys, 2)
    assert "there is no command 'serve'; the commands are inspect, run, bench" in said(capsys, 2, "serve")
    assert "there is no command 'diagnos'; did you mean diagnose?" in said(capsys, 2, "diagnos")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["inspect", "DIR", "--no-laod"], "there is no option --no-laod; did you mean --no-load?"),
        (["bench", "DIR", "--xyz"], "there is no option --xyz; paddleinfer bench --help lists the options"),
        (["bench", "DIR", "--bogus"], "there is no option --bogus; paddleinfer bench --help lists"),
        (["inspect", "DIR", "more"], "'more' is one argument too many"),
        (["inspect", ""], "DIR: must be a model's directory, file or file stem, not empty"),
        (["inspect"], "the following arguments are required: DIR"),
        (["inspect", "DIR", "--instances", "many"], "--instances must be an integer or auto, not 'many'"),
        (["inspect", "DIR", "--instances", "0"], "instances must be an integer from 1 to 1024, not 0"),
        (["inspect", "DIR", "--ir-optim", "--ir-optim"], "--ir-optim is given twice"),
        (["run", "DIR", "--repeat", "0"], "--repeat: must be an integer of at least 1, not 0"),
        (["bench", "DIR", "--seconds", "nan"], "--seconds: must be a positive number, not nan"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert sentence in said(capsys, 2, *arguments)


@pytest.mark.parametrize("command", ["inspect", "run", "bench"])
def test_a_path_that_is_no_model_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    assert "does not exist" in said(capsys, 2, command, tmp_path / "none" / "model")
    assert "is empty; a model directory holds" in said(capsys, 2, command, tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    assert "holds no model, only notes.txt" in said(capsys, 2, command, tmp_path)
    assert "is not a program file" in said(capsys, 2, command, tmp_path / "notes.txt")


def test_inspect_tells_what_the_files_say_without_loading(
    capsys: pytest.CaptureFixture[str], zoo: Zoo
) -> None:
    directory = zoo.directory("conv", "legacy")
    assert main(["inspect", str(directory), "--no-load"]) == 0
    out = capsys.readouterr().out
    assert "pdmodel, a legacy program" in out
    assert "image  float32  -1x3x-1x-1" in out
    assert f"{(directory / 'inference.pdiparams').stat().st_size:,} bytes, " in out
    assert "batchable  unknown: as far as its operators tell, each row is computed by itself" in out
    assert "what would run" not in out


def test_inspect_names_the_paddle_that_wrote_a_legacy_program(
    capsys: pytest.CaptureFixture[str], zoo: Zoo
) -> None:
    import paddle

    assert main(["inspect", str(zoo.directory("mlp", "legacy")), "--no-load", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["paddle_version"] == paddle.__version__


@pytest.mark.paddle3
def test_inspect_says_that_a_json_program_does_not_name_its_paddle(
    capsys: pytest.CaptureFixture[str], zoo: Zoo
) -> None:
    assert main(["inspect", str(zoo.directory("mlp")), "--no-load", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["paddle_version"] is None
    assert "does not say which Paddle 3 wrote it" in document["paddle_version_note"]


@pytest.mark.paddle3
def test_inspect_names_the_known_faults_of_the_installed_paddle_without_loading(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import paddle

    nearest = functools.partial(paddle.nn.functional.interpolate, scale_factor=2.0, mode="nearest")
    paddleinfer.export(nearest, tmp_path / "model", inputs={"x": ("float32", (-1, 2, -1, -1))})
    arguments = ["inspect", str(tmp_path / "model"), "--no-load"]
    monkeypatch.setattr("importlib.metadata.version", {"paddlepaddle": "3.3.0"}.__getitem__)
    monkeypatch.setattr("importlib.metadata.PackageNotFoundError", KeyError)
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["installed_paddle"] == "paddlepaddle 3.3.0"
    (fault,) = document["known_faults"]
    assert (fault["name"], fault["option"]) == ("onednn-interp", "onednn")
    assert "cannot run nearest_interp on oneDNN" in fault["workaround"]
    assert main(arguments) == 0
    assert "known faults of paddlepaddle 3.3.0 that the model meets" in capsys.readouterr().out
    assert main([*arguments, "--onednn", "false"]) == 0
    assert "known faults" not in capsys.readouterr().out
    monkeypatch.setattr("importlib.metadata.version", {}.__getitem__)
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["installed_paddle"] is None and document["known_faults"] == []


def test_inspect_tells_what_would_run_with_the_options_given(
    capsys: pytest.CaptureFixture[str], zoo: Zoo
) -> None:
    directory = str(zoo.directory("mlp", "legacy"))
    assert main(["inspect", directory, "--instances", "1", "--warmup", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["effective_config"]["instances"] == {"value": 1, "source": "option"}
    assert document["batchable"]["value"] == "yes", "a warm-up has measured it"
    assert document["inputs"] == [{"name": "x", "alias": None, "dtype": "float32", "shape": [-1, 16]}]
    assert main(["inspect", directory, "--instances", "1"]) == 0
    out = capsys.readouterr().out
    assert "what would run\n  option " in out
    assert "\x1b" not in out, "what is printed has no colours"


def test_options_come_from_the_environment_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, zoo: Zoo
) -> None:
    monkeypatch.setenv("PADDLEINFER_INSTANCES", "nine")
    error = said(capsys, 2, "inspect", zoo.directory("mlp", "legacy"))
    assert "PADDLEINFER_INSTANCES must be an integer or auto, not 'nine'" in error


def test_stdout_holds_the_document_alone_though_paddle_prints(zoo: Zoo) -> None:
    directory = zoo.directory("conv", "legacy")
    arguments = ("--shape", "image=1x3x8x8", "--seconds", "0.2", "--instances", "1", "--json")
    out, err = start("bench", directory, *arguments).communicate(timeout=PATIENCE_S)
    assert json.loads(out)["results"] > 0, err


def test_ctrl_c_ends_with_one_sentence_and_130(zoo: Zoo) -> None:
    bench = start("bench", zoo.directory("mlp", "legacy"), "--seconds", "60", "--instances", "1")
    try:
        time.sleep(3)  # into the load, or into whatever comes before it on a slow machine
        bench.send_signal(signal.SIGINT)
        out, err = bench.communicate(timeout=PATIENCE_S)
    finally:
        bench.kill()
        bench.wait()
    # Without its command, where that has not even been read.
    assert err in ("paddleinfer bench: interrupted\n", "paddleinfer: interrupted\n")
    assert (bench.returncode, out) == (130, "")


def run_with_stdout(stdout: int, zoo: Zoo) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paddleinfer", "inspect", str(zoo.directory("mlp", "legacy")), "--no-load"],
        stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip


def test_a_reader_that_goes_away_ends_it_silently(zoo: Zoo) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run_with_stdout(writer, zoo)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_looking_whether_a_file_can_be_written_changes_nothing(tmp_path: Path) -> None:
    there, link, pipe = tmp_path / "there", tmp_path / "link", tmp_path / "pipe"
    there.write_text("kept")
    link.symlink_to(tmp_path / "later")
    os.mkfifo(pipe)
    reader, writer = os.pipe()
    for path in (there, link, pipe, tmp_path / "new", Path(f"/dev/fd/{writer}")):
        check_writable("--trace", path)
    os.close(reader)
    os.close(writer)
    assert there.read_text() == "kept" and link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe", "there"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence(zoo: Zoo) -> None:
    with open("/dev/full", "w") as full:
        done = run_with_stdout(full.fileno(), zoo)
    assert (done.returncode, done.stderr) == (2, "paddleinfer inspect: No space left on device\n")
