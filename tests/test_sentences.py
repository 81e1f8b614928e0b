"""Values from outside are quoted in short, and with little work, however large they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from engine_helpers import engine_of, rows

import paddleinfer
from paddleinfer import Engine, EngineConfig
from paddleinfer.config import option_names
from paddleinfer.sentences import MOST_CHARACTERS, listed, shortened, shown
from paddleinfer.simulation import LatencyTable, Policy, RequestKind

LONG = 1 << 20


class Counted:
    """Counts how often it is written."""

    written = 0

    def __repr__(self) -> str:
        Counted.written += 1
        return "counted"

    def __lt__(self, other: object) -> bool:
        raise AssertionError("nothing needs sorting")

    __hash__ = object.__hash__


def nested(depth: int, width: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] * width
    return value


@pytest.mark.parametrize("value", ["name", 7, -0.5, None, True, b"ab", [1, 2], {"a": 1}, ("x",), "\n"])
def test_what_is_short_is_shown_as_repr_has_it(value: object) -> None:
    assert shown(value) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        "x" * LONG,
        "\U000e0001" * LONG,
        b"\0" * LONG,
        list(range(LONG)),
        dict.fromkeys(map(str, range(LONG))),
        nested(900, 1),
        nested(9, 9),
        [{"k" * LONG: "v" * LONG}] * 9,
        1 << LONG,
        -(1 << LONG),
    ],
    ids=["text", "escapes", "bytes", "list", "dict", "deep", "wide", "texts inside", "integer", "negative"],
)
def test_what_is_long_or_deep_is_shown_in_short(value: object) -> None:
    assert len(shown(value)) <= 410


@pytest.mark.parametrize("value", [[Counted()] * 1000, {Counted(): Counted() for _ in range(1000)}])
def test_little_of_what_is_long_is_written(value: object) -> None:
    Counted.written = 0
    assert shown(value)
    assert 0 < Counted.written <= 20


def test_of_many_names_the_first_are_listed() -> None:
    assert listed([]) == "none"
    assert listed(["a", "b"]) == "a, b"
    many = listed(str(number) for number in range(LONG))
    assert many.startswith("0, 1, ") and many.endswith(", 49, ...")


def test_a_sentence_is_cut_where_it_is_too_long() -> None:
    assert shortened("x" * MOST_CHARACTERS) == "x" * MOST_CHARACTERS
    assert shortened("x" * LONG) == "x" * (MOST_CHARACTERS - 3) + "..."


HOSTILE: list[Any] = [
    "\x1b\u00e9" * LONG,
    1 << LONG,
    list(range(LONG)),
    {"k" * LONG: "v" * LONG},
    nested(900, 1),
]
FILES = {"params", "onnx_cache", "verify_inputs", "tuning_file"}  # may be any text
KINDS = ["text", "integer", "list", "dict", "nested"]


def sentence_from(call: Callable[[], object]) -> str:
    with pytest.raises(paddleinfer.PaddleInferError) as raised:
        call()
    return str(raised.value)


@pytest.mark.parametrize("value", HOSTILE, ids=KINDS)
@pytest.mark.parametrize("option", sorted(option_names().keys() - FILES))
def test_an_option_that_is_refused_is_quoted_in_short(option: str, value: Any) -> None:
    assert len(sentence_from(lambda: EngineConfig.from_options({option: value}))) <= MOST_CHARACTERS


@pytest.mark.parametrize("value", HOSTILE, ids=KINDS)
def test_what_a_call_is_given_is_quoted_in_short(value: Any) -> None:
    with engine_of() as engine:
        calls: list[Callable[[], object]] = [
            lambda: engine.infer({"x": rows()}, timeout=value),
            lambda: engine.infer({"x": rows()}, priority=value),
            lambda: engine.infer({"x": rows()}, outputs=value),
            lambda: engine.infer({"x": value}),
            lambda: engine.reload(value),
            lambda: engine.reload(timeout=value),
            lambda: engine.trace(value).__enter__(),
            lambda: Engine.from_callable(value, {"x": ("float32", (-1, 3))}, ["y"]),
            lambda: Engine.from_callable(lambda x: x, {"x": (value, (-1, 3))}, ["y"]),
            lambda: Engine.from_callable(lambda x: x, {"x": ("float32", value)}, ["y"]),
        ]
        for call in calls:
            assert len(sentence_from(call)) <= MOST_CHARACTERS


def test_a_long_name_that_is_no_option_is_compared_by_its_beginning() -> None:
    """To look for a like one takes quadratic time."""
    sentence = sentence_from(lambda: EngineConfig.from_options({"max_batch_sizes" + "x" * LONG: 1}))
    assert sentence.startswith("there is no option") and len(sentence) <= MOST_CHARACTERS


def test_a_long_path_is_quoted_in_short() -> None:
    assert len(sentence_from(lambda: Engine("/" + "x" * LONG))) <= MOST_CHARACTERS


@pytest.mark.parametrize(
    "text", ["x" * LONG, "\x1b" * LONG, "\x1b" * MOST_CHARACTERS], ids=["long", "escaped", "both"]
)
def test_what_a_model_says_of_its_failure_is_cut(text: str) -> None:
    def failing(inputs: Any) -> Any:
        raise RuntimeError(text)

    with engine_of(failing) as engine:
        sentence = sentence_from(lambda: engine.infer({"x": rows()}))
    assert 1000 < len(sentence) <= MOST_CHARACTERS and sentence.endswith("...")


@pytest.mark.parametrize("value", HOSTILE, ids=KINDS)
def test_what_a_simulation_is_given_is_quoted_in_short(value: Any) -> None:
    below: Any = -(1 << LONG)
    calls: list[Callable[[], object]] = [
        lambda: RequestKind(rows=below),
        lambda: RequestKind(deadline_ms=below),
        lambda: RequestKind(priority=value),
        lambda: RequestKind(weight=below),
        lambda: LatencyTable.linear(1, below),
        lambda: LatencyTable.points({1: (below, below)}),
        lambda: Policy(value),
    ]
    for call in calls:
        assert 20 < len(sentence_from(call)) <= MOST_CHARACTERS
