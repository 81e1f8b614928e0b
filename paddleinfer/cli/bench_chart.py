"""Draws the picture of ``paddleinfer bench --png``: latency and throughput over time."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import numpy as np

from paddleinfer.errors import ConfigError
from paddleinfer.options.parser import check_writable
from paddleinfer.traffic.tally import Tally
from paddleinfer.whole_files import replacing

__all__ = ["check_picture", "draw"]

_GREY = "#57606a"
_PERCENTILES = ((99, "#b5500f"), (90, "#e8833a"), (50, "#1f6feb"))
_MOST_PARTS = 40
_SHORTEST_PART_S = 0.1


def check_picture(path: Path) -> None:
    """Checks before the load that the picture can be drawn, so that the load is not in vain.

    Raises
    ------
    ConfigError
        The picture could not be drawn or written.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError('--png needs matplotlib; install it with pip install "paddleinfer[demo]"')
    if path.suffix != ".png":
        raise ConfigError(f"--png must end in .png, which {path} does not")
    check_writable("--png", path)


def draw(path: Path, title: str, tally: Tally, rows: int) -> None:
    """Draws the latency's percentiles and the rows per second for each part of the time."""
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    count = int(np.clip(tally.seconds / _SHORTEST_PART_S, 1, _MOST_PARTS))
    part_s = tally.seconds / count
    part_of = np.minimum((np.array(tally.ended_s) / part_s).astype(int), count - 1)
    latencies_ms = np.array(tally.latencies_ms)
    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(8.0, 6.0), sharex=True, layout="constrained")
    parts = np.unique(part_of)
    middles_s = (parts + 0.5) * part_s
    for percentile, colour in _PERCENTILES:
        line_ms = [np.percentile(latencies_ms[part_of == part], percentile) for part in parts]
        upper.plot(middles_s, line_ms, color=colour, marker="o", ms=4, label=f"p{percentile}")
    upper.set_title("Latency in ms, of the requests that ended then", loc="left", fontsize=11.5)
    upper.legend(frameon=False, ncols=3)
    rates = np.bincount(part_of, minlength=count) * rows / part_s
    lower.bar(np.arange(count) * part_s, rates, part_s * 0.92, align="edge", color="#1f6feb")
    lower.set_title("Rows a second", loc="left", fontsize=11.5)
    lower.set_xlabel("seconds from the start of the load", color=_GREY)
    for axis in (upper, lower):
        axis.set_ylim(bottom=0)
        axis.grid(color="#e3e6ea")
        axis.set_axisbelow(True)
        axis.tick_params(length=0, labelcolor=_GREY)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.012, ha="left", fontsize=12.5, fontweight="bold")
    with replacing(path) as file:
        figure.savefig(file, dpi=100, format="png")
    pyplot.close(figure)
