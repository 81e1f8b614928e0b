"""`python -m paddleinfer.simulation` in a terminal."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from paddleinfer.simulation import POLICIES, main

INSTALLED = pytest.mark.skipif(
    any(importlib.util.find_spec(module) is None for module in ("matplotlib", "rich")),
    reason='needs pip install "paddleinfer[demo]"',
)


@INSTALLED
@pytest.mark.parametrize("arrivals", ["poisson", "bursty", "closed"])
def test_the_command_prints_a_table_and_draws_a_picture(
    arrivals: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, figures = tmp_path / "picture.png", tmp_path / "figures.json"
    options = ["--load", "0.5", "2", "--requests", "400", "--arrivals", arrivals]
    assert main([*options, "--out", str(picture), "--json", str(figures)]) == 0
    printed = capsys.readouterr().out
    assert all(printed.count(str(policy)) >= 2 for policy in POLICIES) and "1,720 rows a second" in printed
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    points = json.loads(figures.read_text())["points"]
    assert [point["load"] for point in points] == [0.5, 2]
    assert all(len(point["results"]) == len(POLICIES) for point in points)
    assert all(result["offered"] == 400 for point in points for result in point["results"])


@INSTALLED
@pytest.mark.parametrize(
    "arguments",
    [
        ["--load", "-1"],
        ["--load", "much"],
        ["--deadline-ms", "nan"],
        ["--deadline-ms", "5"],
        ["--instances", "1.5"],
        ["--requests", "0"],
        ["--arrivals", "regular"],
        ["--out", "no/such/folder.png", "--load", "1", "--requests", "10"],
        ["--nonsense"],
    ],
)
def test_the_command_refuses_wrong_values_in_one_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_command_names_the_packages_it_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main([])
    assert 'matplotlib and rich must be installed: pip install "paddleinfer[demo]"' in capsys.readouterr().err
