"""``paddleinfer simulate`` with several replicas behind a router."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

from paddleinfer.cli.main import main
from paddleinfer.simulation import ROUTERS

LOAD = ["simulate", "--run-ms", "1=9.3", "--run-ms", "32=18.6", "--deadline-ms", "50", "--requests", "2000"]
FLEET = [*LOAD, "--rate", "5000", "--replicas", "4"]
INSTALLED = pytest.mark.skipif(importlib.util.find_spec("rich") is None, reason="needs paddleinfer[demo]")


def figures(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_all_routers_are_compared_unless_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    compared = figures(FLEET, capsys)["results"]
    assert [result["router"] for result in compared] == list(ROUTERS)
    assert all(result["requests"]["offered"] == 2_000 for result in compared)
    [alone] = figures([*FLEET, "--router", "random"], capsys)["results"]
    assert alone == next(result for result in compared if result["router"] == "random")


@INSTALLED
def test_the_table_has_a_line_for_each_router(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FLEET, "--stale-ms", "2", "--network-ms", "0.5", "--slow-share", "0.25"]) == 0
    printed = capsys.readouterr().out
    assert all(router.replace("_", " ") in printed for router in ROUTERS)
    assert "1,720 rows a second for each replica" in printed


@pytest.mark.parametrize("metric", ["utilisation", "rows_per_s", "replicas_needed"])
def test_replicas_are_scaled_by_a_metric(metric: str, capsys: pytest.CaptureFixture[str]) -> None:
    scaling = ["--autoscale", metric, "--interval-s", "0.1", "--start-s", "0.05", "--hold-s", "0.2"]
    arguments = [*LOAD, "--rate", "5000", "--replicas", "1", "--router", "least_delay", "--wave-s", "1"]
    [result] = figures([*arguments, *scaling, "--max-replicas", "6"], capsys)["results"]
    assert 1 < result["most_replicas"] <= 6 and result["scaled"][0] == [0.0, 1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*LOAD, "--rate", "5", "--router", "random"], "--router is for --replicas, which is not given"),
        ([*LOAD, "--rate", "5", "--start-s", "5"], "--start-s is for --replicas, which is not given"),
        ([*FLEET, "--target", "5"], "--target is for --autoscale, which is not given"),
        ([*FLEET, "--router", "best"], "argument --router: invalid choice: 'best'"),
        ([*FLEET, "--replicas", "0"], "must be an integer of at least 1, not 0"),
        ([*FLEET, "--slow-share", "2"], "slow_share must be from 0 to 1"),
        (
            [*FLEET, "--autoscale", "utilisation", "--min-replicas", "3", "--max-replicas", "2"],
            "most no less than least, not 3 and 2",
        ),
        ([*LOAD, "--rate", "5", "--bursty", "--wave-s", "2"], "give either --bursty or --wave-s, not both"),
        ([*LOAD, "--callers", "5", "--wave-s", "2"], "--wave-s is for --rate, and --callers is given"),
    ],
)
def test_wrong_values_are_refused_in_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: Any = main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    printed = capsys.readouterr()
    assert code == 2 and said in printed.err and printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1
