"""Draws bench_transport's picture: a panel for each case, a bar for each variant, a piece for each stage."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Section
from benchmarks.transport.rounds import STAGES, WHOLE

_COLOURS = ("#8c6bb1", "#2f7ebc", "#e08214")
_GREY = "#57606a"


def draw(path: Path, sections: Mapping[str, Section], title: str) -> None:
    """Draws medians; each panel has a scale of its own."""
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    heights = [0.6 + 0.28 * len(section.rows) for section in sections.values()]
    figure, panels = pyplot.subplots(
        len(sections), 1, figsize=(8.0, sum(heights)), height_ratios=heights, layout="constrained"
    )
    for panel, (name, section) in zip(panels, sections.items(), strict=True):
        variants = [row[0] for row in section.rows]
        unit = _bars(panel, section, variants)
        panel.set_title(f"{name}, {unit}", loc="left", fontsize=11)
        panel.invert_yaxis()
        panel.grid(axis="x", color="#e3e6ea")
        panel.set_axisbelow(True)
        panel.tick_params(length=0, labelcolor=_GREY)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.spines["bottom"].set_color("#d0d7de")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=10, ncols=len(STAGES), loc="outside lower left")
    figure.suptitle(title, x=0.012, ha="left", fontsize=12.5, fontweight="bold")
    figure.savefig(path, dpi=100, format="png", pil_kwargs={"optimize": True})
    pyplot.close(figure)


def _bars(panel: Any, section: Section, variants: Sequence[str]) -> str:
    wholes = [statistics.median(section.raw[f"{variant}, {WHOLE}, us"]) for variant in variants]
    unit, us = ("milliseconds", 1000.0) if max(wholes) >= 2000 else ("microseconds", 1.0)
    left = [0.0] * len(variants)
    for stage, colour in zip(STAGES, _COLOURS, strict=True):
        widths = [statistics.median(section.raw[f"{variant}, {stage}, us"]) / us for variant in variants]
        panel.barh(variants, widths, left=left, color=colour, label=stage, height=0.68)
        left = [before + width for before, width in zip(left, widths, strict=True)]
    for place, (end, whole) in enumerate(zip(left, wholes, strict=True)):
        text = f"{whole / us:,.3g}"
        panel.annotate(
            text,
            (end, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=_GREY,
        )
    panel.set_xlim(0, 1.12 * max(left))
    return unit
