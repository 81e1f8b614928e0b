"""The load of a search: callers, a rate, or recorded requests that come again."""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddleinfer import ConfigError, Engine, InvalidInput
from paddleinfer.models.spec import TensorSpec
from paddleinfer.tuning.load import Load, Recording, read_recording

SPAN = {"ph": "X", "name": "request", "ts": 1, "dur": 1}
WANTED = (TensorSpec("x", None, "float32", (-1, 2)),)


def arrays(rows: int) -> dict[str, Any]:
    return {"x": np.arange(2 * rows, dtype="float32").reshape(rows, 2)}


def submitted(asked: list[Any]) -> Any:
    def submit(inputs: Any) -> Future[Any]:
        asked.append(inputs["x"])
        future: Future[Any] = Future()
        future.set_result(None)
        return future

    return submit


def test_callers_ask_for_rows_in_turn() -> None:
    asked: list[Any] = []
    load = Load(callers=1, rows=2).with_inputs(arrays(6), WANTED)
    tally, rows = load.drive(0, 0.0, lambda inputs: asked.append(inputs["x"]), submitted([]))
    assert (str(load), load.rows_at_once, rows, len(tally.latencies_ms)) == ("1 caller, 2 rows each", 2, 2, 1)
    assert asked[0].tolist() == [[0, 1], [2, 3]]


def test_without_a_load_there_are_eight_callers() -> None:
    assert str(Load()) == "8 callers, 1 row each" and Load().rows_at_once == 8


def test_a_rate_does_not_wait_for_answers() -> None:
    asked: list[Any] = []
    load = Load(rate_per_s=2000.0).with_inputs(arrays(3), WANTED)
    tally, rows = load.drive(0, 0.05, lambda inputs: pytest.fail("nobody waits"), submitted(asked))
    assert tally.sent == len(asked) > 0 and rows == 1 and load.rows_at_once is None
    assert str(load) == "2,000 requests a second, 1 row each"


def test_recorded_requests_come_again_with_their_rows() -> None:
    asked: list[Any] = []
    load = Load(recording=Recording("r.json", (0.0, 0.0, 0.0, 9.0), (1, 3, 1, 2)))
    load = load.with_inputs(arrays(4), WANTED)
    assert load.sizes == (1, 2, 3) and str(load) == "4 requests of r.json"
    tally, mean = load.drive(0, 5.0, lambda inputs: None, submitted(asked))
    assert [len(rows) for rows in asked] == [1, 3, 1] and mean == pytest.approx(5 / 3)
    assert tally.sent == 3


def test_each_round_has_the_next_part_of_a_recording() -> None:
    recording = Recording("r.json", (0.0, 0.25, 1.5, 1.75), (1, 2, 3, 4))
    parts = [recording.part(number, 1.0) for number in range(3)]
    assert parts == [[(0.0, 1), (0.25, 2)], [(0.5, 3), (0.75, 4)], parts[0]]


def test_a_part_without_requests_is_passed_over() -> None:
    recording = Recording("r.json", (0.0, 3.5, 3.9), (1, 2, 3))
    assert [len(recording.part(number, 1.0)) for number in range(4)] == [1, 2, 2, 2]
    assert recording.part(1, 4.0) == [(0.0, 1), (3.5, 2), (3.9, 3)]


def test_the_trace_of_an_engine_is_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    with Engine.from_callable(lambda feeds: feeds["x"], {"x": ("float32", (-1, 2))}, ["y"]) as engine:
        with engine.trace() as trace:
            for rows in (1, 3, 2):
                engine.infer({"x": np.ones((rows, 2), "float32")})
        trace.save(path)
    recording = read_recording(path)
    assert recording.rows == (1, 3, 2) and recording.offsets_s[0] == 0 and recording.seconds > 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is no trace"),
        ("[" * 100_000, "is no trace"),
        ("{}", "is no trace"),
        ("[]", "has 0 requests with rows; record some"),
        (
            json.dumps([{"ph": "X", "name": "request", "ts": 1, "dur": 1, "args": {"rows": 0}}]),
            "has 0 requests",
        ),
    ],
)
def test_a_file_without_requests_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "trace.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=sentence) as caught:
        read_recording(path)
    assert str(path) in str(caught.value)
    with pytest.raises(InvalidInput, match=r"cannot read .*none"):
        read_recording(tmp_path / "none")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"callers": 0}, "callers must be an integer from 1 to 1000"),
        ({"rate_per_s": -1.0}, "rate_per_s must be above 0 and below 1e9 requests"),
        ({"rows": 0}, "rows must be an integer from 1 to 1048576"),
        ({"callers": 1, "rate_per_s": 2.0}, "callers and rate_per_s both say what the load is"),
    ],
)
def test_a_load_that_is_none_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Load(**fields)
