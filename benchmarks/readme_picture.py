"""Draws the README's picture from the figures in docs/figures.md.

``python -m benchmarks.readme_picture`` draws docs/figures.png again; it needs matplotlib.
"""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FIGURES", "PANELS", "PICTURE", "Panel", "bars", "draw", "drawn"]

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs/figures.md"
PICTURE = ROOT / "docs/figures.png"

_KEY = "Figures"
_OURS = "paddleinfer"
_COLOUR, _OTHERS_COLOUR = "#1668c4", "#b3b9c1"


@dataclass(frozen=True)
class Panel:
    """Bars of one column of a table. Bars whose label begins with paddleinfer are ours."""

    title: str
    heading: str
    """The heading of the section that has the table."""
    column: int
    """The column, counted from 0 after the rows' names."""
    rows: dict[str, str]
    """A row's name -> its label in the picture."""


PANELS = (
    Panel(
        "In process: 64 callers of a small MLP",
        "## Many callers of one row each",
        0,
        {
            "engine, asyncio, stock loop": "paddleinfer, asyncio",
            "engine, threads": "paddleinfer, threads",
            "`batched`, asyncio, as it comes / tuned": "batched, asyncio, tuned",
            "onnxruntime, threads": "onnxruntime, threads",
            "a 40-line batcher in Python, threads": "a 40-line batcher, threads",
            "one predictor behind a lock, threads": "a predictor behind a lock",
        },
    ),
    Panel(
        "Over HTTP: 32 connections, the same MLP",
        "## Over HTTP",
        1,
        {
            "paddleinfer-http, binary": "paddleinfer-http, binary",
            "mosec (HTTP in Rust), one / two model processes": "mosec (in Rust)",
            "paddleinfer-http, JSON": "paddleinfer-http, JSON",
            "Starlette with the 40-line batcher": "Starlette, 40-line batcher",
            "Ray Serve": "Ray Serve",
            "BentoML": "BentoML",
            "LitServe": "LitServe",
        },
    ),
)


def bars(panel: Panel, text: str) -> dict[str, int]:
    """Reads label -> requests per second.

    If a cell has several numbers, ours is the first, with the defaults, and others' is their best.

    Raises
    ------
    LookupError
        The page has no such section or row.
    """
    section = text.partition(f"\n{panel.heading}\n")[2].partition("\n## ")[0]
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        label = panel.rows.get(cells[0])
        if label is not None and label not in found:
            numbers = re.findall(r"\d[\d,]*", cells[panel.column + 1])
            values = [int(number.replace(",", "")) for number in numbers]
            found[label] = values[0] if label.startswith(_OURS) else max(values)
    missing = [label for label in panel.rows.values() if label not in found]
    if missing:
        raise LookupError(f"{panel.heading!r} of {FIGURES.name} has no row for {missing[0]!r}")
    return {label: found[label] for label in panel.rows.values()}


def drawn() -> list[dict[str, int]]:
    """Returns the bars of the existing picture, a dict for each panel."""
    from PIL import Image

    with Image.open(PICTURE) as image:
        found: list[dict[str, int]] = json.loads(image.info[_KEY])
    return found


def draw() -> None:
    """Draws the picture; the drawn figures are also stored in the file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    text = FIGURES.read_text()
    all_bars = [bars(panel, text) for panel in PANELS]
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(11, 3.4), layout="constrained")
    for axis, panel, one in zip(axes, PANELS, all_bars, strict=True):
        _draw_panel(axis, panel.title, one)
    figure.savefig(PICTURE, dpi=110, metadata={_KEY: json.dumps(all_bars)})
    pyplot.close(figure)


def _draw_panel(axis: Any, title: str, one: dict[str, int]) -> None:
    labels = [textwrap.fill(label, 30) for label in one]
    colours = [_COLOUR if label.startswith(_OURS) else _OTHERS_COLOUR for label in one]
    drawn_bars = axis.barh(labels, list(one.values()), color=colours)
    axis.bar_label(drawn_bars, [f"{value:,}" for value in one.values()], padding=4, fontsize=9)
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_xlabel("requests per second (more is better)", fontsize=9)
    axis.invert_yaxis()
    axis.margins(x=0.16)
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0, labelsize=9)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


if __name__ == "__main__":
    draw()
