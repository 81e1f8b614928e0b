"""Draws the picture of ``paddleinfer tune --png``: rows a second and latency of each setting."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from paddleinfer.cli.bench_chart import check_picture
from paddleinfer.tuning.report import Figure, TuningReport
from paddleinfer.whole_files import replacing

__all__ = ["check_picture", "draw"]

_GREY, _BLUE, _ORANGE = "#57606a", "#1f6feb", "#e8833a"


def draw(path: Path, report: TuningReport) -> None:
    """Draws a bar for each setting that was measured; the one that won has another colour."""
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    measured = [result for result in report.results if result.rounds][::-1]
    names = [result.setting for result in measured]
    colours = [_ORANGE if name == report.setting else _BLUE for name in names]
    height = 1.6 + 0.42 * len(measured)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10.0, height), sharey=True, layout="constrained")
    for axis, title, values in (
        (left, "Rows a second", [result.rows_per_s for result in measured]),
        (right, "Median latency in ms", [result.p50_ms for result in measured]),
    ):
        _bars(axis, title, names, [value for value in values if value is not None], colours)
    figure.suptitle(
        f"{Path(report.path).name}: {report.goal}, {report.load}", x=0.012, ha="left", fontweight="bold"
    )
    with replacing(path) as file:
        figure.savefig(file, dpi=100, format="png")
    pyplot.close(figure)


def _bars(axis: Any, title: str, names: list[str], values: list[Figure], colours: list[str]) -> None:
    medians = [value.median for value in values]
    spreads = [
        [value.median - value.least for value in values],
        [value.most - value.median for value in values],
    ]
    axis.barh(names, medians, color=colours, xerr=spreads, ecolor=_GREY, capsize=2)
    axis.set_title(title, loc="left", fontsize=11.5)
    axis.grid(axis="x", color="#e3e6ea")
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelcolor=_GREY)
    axis.spines[["top", "right"]].set_visible(False)
