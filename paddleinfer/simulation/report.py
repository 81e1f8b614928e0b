"""Reports policies side by side over a range of loads, as a table, a picture and JSON."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddleinfer.simulation.simulation import SimulationResult
from paddleinfer.whole_files import replacing

__all__ = ["Point", "as_json", "draw", "empty_table", "table"]

_COLUMNS = "load policy goodput late refused dropped mean\nms p99\nms rows\na_run busy"
_GREY = "#57606a"
# Colour, marker, width and marker size of the policies. Eager and delaying ones often do the same, so each is
# wider than the one drawn over it, and all are seen.
_STYLES = (
    ("#1f6feb", "o", 3.2, 8.0),
    ("#24292f", "D", 1.5, 5.0),
    ("#b5500f", "", 3.4, 0.0),
    ("#e8833a", "", 5.6, 0.0),
    ("#f6b27a", "", 7.8, 0.0),
    ("#fbdcc0", "", 10.0, 0.0),
)


@dataclass(frozen=True)
class Point:
    """The results of one load, one for each policy."""

    load: float
    """The offered load, in units of the capacity."""
    attainable_per_s: float | None
    """A bound of the goodput, in requests a second; None if callers wait for answers."""
    results: list[SimulationResult]


def empty_table(columns: str, names: str, caption: str) -> Any:
    """Makes a table of numbers for rich to print, without rows.

    Parameters
    ----------
    columns
        Their heads, with a blank between two and "_" for a blank in one.
    names
        The head of the one column of text.
    caption
        What stands below.
    """
    result = importlib.import_module("rich.table").Table(
        box=importlib.import_module("rich.box").SIMPLE_HEAD, padding=0, show_edge=False, caption=caption
    )
    for column in columns.split(" "):
        justify = "left" if column == names else "right"
        result.add_column(column.replace("_", " "), justify=justify, no_wrap=True)
    return result


def table(points: Sequence[Point], rows_per_s: float) -> Any:
    """Makes a table for rich to print."""
    result = empty_table(
        _COLUMNS, "policy", "goodput: in time, of the capacity; late to dropped: of what was offered"
    )
    for point in points:
        for it in point.results:
            first = it is point.results[0]
            shares = (it.late, it.refused, it.shed + it.expired)
            result.add_row(
                f"{point.load:g}" if first else "",
                str(it.policy),
                f"{it.goodput_per_s / rows_per_s:.1%}",
                *(f"{count / it.offered:.1%}" if count else "" for count in shares),
                *("" if math.isnan(time_ms) else f"{time_ms:.1f}" for time_ms in (it.mean_ms, it.p99_ms)),
                f"{it.mean_batch_rows:.1f}",
                f"{it.utilisation:.0%}",
                style="bold" if first else None,
                end_section=it is point.results[-1],
            )
    return result


def draw(path: Path, title: str, points: Sequence[Point], rows_per_s: float, deadline_ms: float) -> None:
    """Draws goodput and the 99th percentile of the latency against the load."""
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(8.0, 7.2), sharex=True, layout="constrained")
    loads = [point.load for point in points]
    for place, policy in reversed([*enumerate(it.policy for it in points[0].results)]):
        results = [point.results[place] for point in points]
        colour, marker, width, size = _STYLES[place % len(_STYLES)]
        style = {"color": colour, "marker": marker, "lw": width, "ms": size, "mec": "white", "mew": 0.8}
        style["solid_capstyle"] = style["solid_joinstyle"] = "round"
        upper.plot(loads, [it.goodput_per_s / rows_per_s for it in results], label=str(policy), **style)
        lower.plot(loads, [it.p99_ms for it in results], **style)
    dashed = {"color": _GREY, "lw": 1.3, "ls": (0, (4, 3)), "zorder": 1}
    bounds = [(point.attainable_per_s or 0.0) / rows_per_s for point in points]
    if any(bounds):
        upper.plot(loads, bounds, label="no policy can do more", **dashed)
    lower.axhline(deadline_ms, label="the deadline", **dashed)
    upper.set_title("Goodput: requests done in time, of the capacity", loc="left", fontsize=11.5)
    upper.yaxis.set_major_formatter(importlib.import_module("matplotlib.ticker").PercentFormatter(1))
    upper.set_ylim(bottom=0)
    lower.set_title(
        "99th percentile of the latency, in ms, of the requests that were done", loc="left", fontsize=11.5
    )
    lower.set_ylim(bottom=0)
    lower.set_xlabel("offered load, in units of the capacity", fontsize=11, color=_GREY)
    for axis in (upper, lower):
        axis.grid(color="#e3e6ea")
        axis.set_axisbelow(True)
        axis.tick_params(length=0, labelcolor=_GREY)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color("#d0d7de")
    handles, labels = upper.get_legend_handles_labels()
    policies = len(points[0].results)
    handles[:policies], labels[:policies] = handles[policies - 1 :: -1], labels[policies - 1 :: -1]
    upper.legend(handles, labels, frameon=False, fontsize=10, loc="best")
    lower.legend(frameon=False, fontsize=10, loc="best")
    figure.suptitle(title, x=0.012, ha="left", fontsize=12.5, fontweight="bold")
    with replacing(path) as file:
        figure.savefig(file, dpi=100, format="png", pil_kwargs={"optimize": True})
    pyplot.close(figure)


def as_json(options: Mapping[str, Any], points: Sequence[Point], rows_per_s: float) -> str:
    """Returns all figures and their settings as JSON."""
    document = {
        "options": {
            name: str(value) if isinstance(value, Path) else value for name, value in options.items()
        },
        "capacity_rows_per_s": rows_per_s,
        "points": [
            {
                "load": point.load,
                "attainable_per_s": point.attainable_per_s,
                "results": [it.as_dict() for it in point.results],
            }
            for point in points
        ],
    }
    return json.dumps(document, indent=1) + "\n"
