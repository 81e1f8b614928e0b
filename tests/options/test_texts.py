"""Every option of an engine is a flag, a variable, an entry of a file, and in the documentation."""

from __future__ import annotations

import argparse
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from paddleinfer import ConfigError, EngineConfig, PadAxis
from paddleinfer.config import BatchingOptions, RuntimeOptions, option_names
from paddleinfer.options.flags import Flag, add_flags, engine_flags, flags_of, from_environment, given_flags
from paddleinfer.options.texts import alternatives, form_of, gather_texts
from paddleinfer.shim.options import ServerOptions
from paddleinfer.shim.settings_file import read_settings

ROOT = Path(__file__).resolve().parents[2]
GROUPS = (RuntimeOptions, BatchingOptions, EngineConfig)
HINTS = {name: hint for group in GROUPS for name, hint in typing.get_type_hints(group).items()}
FLAGS = {flag.name: flag for flags in engine_flags().values() for flag in flags}


Sample = tuple[list[str], str, Any]
"""A value as texts on a command line, as TOML, and as the engine gets it."""

PAD: Sample = (
    ["inputs=ids:1,mask:1 outputs=tokens:1 multiple=16 mask=mask fill=ids:0.5 max_waste=0.25"],
    "[{inputs = {ids = 1, mask = 1}, outputs = {tokens = 1}, multiple = 16, mask = 'mask', "
    "fill = {ids = 0.5}, max_waste = 0.25}]",
    (
        PadAxis(
            {"ids": 1, "mask": 1}, {"tokens": 1}, multiple=16, mask="mask", fill={"ids": 0.5}, max_waste=0.25
        ),
    ),
)
SIZES: Sample = (
    ["x=3,640,640", "y=4"],
    "{x = [3, 640, 640], y = [4]}",
    {"x": (3, 640, 640), "y": (4,)},
)
SCALARS: dict[Any, list[Sample]] = {
    bool: [(["on"], "true", True), (["off"], "false", False)],
    int: [(["3"], "3", 3)],
    float: [(["2.5"], "2.5", 2.5)],
    str: [(["gpu:0"], "'gpu:0'", "gpu:0")],
    type(None): [],
}


def samples(kind: Any) -> list[Sample]:
    """Some of this type."""
    if typing.get_origin(kind) is Literal:
        return [([choice], f"'{choice}'", choice) for choice in typing.get_args(kind)]
    if kind in SCALARS:
        return SCALARS[kind]
    if form_of(kind) is not None:
        return [PAD if PadAxis in typing.get_args(kind) else SIZES]
    if typing.get_args(kind)[0] is str:
        return [(["a,b"], "['a', 'b']", ("a", "b"))]
    return [(["2,4"], "[2, 4]", (2, 4))]


def sample(name: str) -> Sample:
    """One value of an option that is not its default."""
    default = EngineConfig().flat()[name]
    possible = [one for kind in alternatives(HINTS[name]) for one in samples(kind)]
    return next(one for one in possible if one[2] != default)


@pytest.mark.parametrize("name", option_names())
def test_every_option_is_a_flag(name: str) -> None:
    texts, _, wanted = sample(name)
    flag = FLAGS[name]
    parser = argparse.ArgumentParser()
    add_flags(parser, "options", [flag])
    spelled = f"--{flag.spelled.replace('_', '-')}"
    if flag.is_switch:
        arguments = [spelled if wanted else f"--no-{flag.name.replace('_', '-')}"]
    else:
        arguments = [part for text in texts for part in (spelled, text)]
    assert given_flags(parser.parse_args(arguments), [flag]) == {name: wanted}


@pytest.mark.parametrize("name", option_names())
def test_every_option_is_a_variable(name: str) -> None:
    texts, _, wanted = sample(name)
    assert from_environment({f"PADDLEINFER_{name.upper()}": "; ".join(texts)}, [FLAGS[name]]) == {
        name: wanted
    }


@pytest.mark.parametrize("place", ["engine", "models.m"])
def test_every_option_can_stand_in_a_file_for_one_model_and_for_all(tmp_path: Path, place: str) -> None:
    file = tmp_path / "server.toml"
    lines = [f"{name} = {sample(name)[1]}" for name in option_names()]
    path = ['path = "m"'] if place == "models.m" else []
    file.write_text("\n".join([f"[{place}]", *path, *lines]))
    settings = read_settings(file)
    given = settings.engine if place == "engine" else settings.models["m"][0].options
    assert given == {name: sample(name)[2] for name in option_names()}


def test_every_option_is_in_the_documentation() -> None:
    first_cells = re.findall(r"^\| (.*?) \|", (ROOT / "docs/options.md").read_text(), re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert set(option_names()) <= named
    flags = re.findall(r"^\| (`--.*?) \|", (ROOT / "docs/server.md").read_text(), re.MULTILINE)
    listed = {name.replace("-", "_") for cell in flags for name in re.findall(r"`--([\w-]+)`", cell)}
    assert {flag.name for flag in flags_of(ServerOptions)} <= listed


# -- the help


def help_of(*flags: Flag) -> str:
    parser = argparse.ArgumentParser(formatter_class=lambda prog: argparse.HelpFormatter(prog, width=1000))
    add_flags(parser, "of the engine", flags)
    return parser.format_help()


@pytest.mark.parametrize(
    ("options", "name", "default"),
    [
        (RuntimeOptions, "cpu_threads", "1"),
        (ServerOptions, "drain_delay", "0"),
        (ServerOptions, "keep_alive_timeout", "75"),
        (ServerOptions, "uds", "none"),
        (RuntimeOptions, "mem_optim", "on"),
        (RuntimeOptions, "ir_optim", "off"),
        (RuntimeOptions, "onednn", "auto"),
        (BatchingOptions, "pad", "none"),
        (BatchingOptions, "max_queue_delay_us", "none"),
        (EngineConfig, "default_timeout", "none"),
    ],
)
def test_the_help_tells_defaults_as_they_are_given(options: type[Any], name: str, default: str) -> None:
    (flag,) = [flag for flag in flags_of(options) if flag.name == name]
    assert f"(default: {default}; PADDLEINFER_{name.upper()})" in help_of(flag)


@pytest.mark.parametrize("name", ["inline", "ir_optim", "mem_optim"])
def test_each_spelling_of_a_switch_has_a_text_of_its_own(name: str) -> None:
    flag = FLAGS[name]
    dashed = name.replace("_", "-")
    on, off = " ".join(help_of(flag).partition("of the engine:\n")[2].split()).split(f"--no-{dashed}", 1)
    assert on.startswith(f"--{dashed}") and flag.doc in on
    assert off.endswith(f" Turns --{dashed} off.") and flag.doc not in off


# -- several texts of one option


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "needs inputs"),
        ("ids:1", "'ids:1' is not"),
        ("inputs=ids:1 axis=2", "'axis'; the fields of PadAxis are inputs, outputs"),
        ("inputs=ids:1 inputs=b:1", "twice"),
        ("inputs=ids", "inputs of pad must be NAME:VALUE"),
        ("inputs=ids:x multiple=4", "inputs of pad must be NAME:VALUE"),
        ("inputs=ids:0 multiple=4", "axes from 1 up"),
        ("inputs=ids:1 multiple=many", "multiple of pad must be an integer, not 'many'"),
        ("inputs=ids:1 sizes=4,x", "sizes of pad must be a list with commas"),
        ("inputs=ids:1", "needs sizes, or a multiple"),
    ],
)
def test_what_is_no_padding_is_refused_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        FLAGS["pad"].read([text], "--pad")


def test_paddings_add_up_and_names_may_have_colons() -> None:
    first, second = "inputs=a:1 sizes=16,32", "inputs=b:c:2 multiple=8 lengths=n"
    axes = FLAGS["pad"].read([first, second], "--pad")
    assert axes == (PadAxis({"a": 1}, sizes=(16, 32)), PadAxis({"b:c": 2}, multiple=8, lengths="n"))


SIZES_HINT = Mapping[str, tuple[int, ...]]


def test_sizes_of_several_inputs_add_up_and_one_input_has_them_once() -> None:
    assert gather_texts(["x=3,4", "a=b=5"], SIZES_HINT, "--sizes") == {"x": (3, 4), "a=b": (5,)}
    with pytest.raises(ConfigError, match="--sizes is given twice for 'x'"):
        gather_texts(["x=3", "x=4"], SIZES_HINT, "--sizes")


@pytest.mark.parametrize("text", ["", "x", "=3", "x=a", "x=3;4"])
def test_what_is_no_sizes_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--sizes must be INPUT=SIZES, such as x=3,640,640, not "):
        gather_texts([text], SIZES_HINT, "--sizes")


def test_a_variable_of_several_texts_that_is_empty_gives_nothing() -> None:
    assert from_environment({"PADDLEINFER_PAD": " ; "}, [FLAGS["pad"]]) == {}
