"""Draws the demo's pictures: digits with their predicted labels, and a bar for each variant."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddleinfer.demo.load import Images, Labels, Outcome

__all__ = ["callers_text", "draw_digits", "draw_throughput"]


def draw_digits(path: Path, images: Images, labels: Labels, predicted: Labels) -> None:
    """Draws mistakes first, in red with the right label, then the first of the rest."""
    pyplot = _pyplot()
    wrong = predicted != labels
    shown = np.argsort(~wrong, kind="stable")[:40]
    figure, axes = pyplot.subplots(5, 8, figsize=(8, 6))
    for axis, index in zip(axes.flat, shown, strict=True):
        axis.imshow(images[index, 0], cmap="gray_r", interpolation="nearest")
        right = f" (is {labels[index]})" if wrong[index] else ""
        axis.set_title(f"{predicted[index]}{right}", fontsize=10, color="red" if wrong[index] else "black")
        axis.axis("off")
    figure.suptitle(f"Held-out digits and their predicted labels: {wrong.sum()} of {len(labels)} wrong")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def draw_throughput(path: Path, outcomes: Sequence[Outcome], callers: int) -> None:
    """Draws a bar for each variant, with its requests per second."""
    pyplot = _pyplot()
    figure, axis = pyplot.subplots(figsize=(9, 4.2), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
    rates = [outcome.requests_per_second for outcome in outcomes]
    colours = ["#9aa5b1" if outcome.variant.engine is None else "#1f6feb" for outcome in outcomes]
    places = range(len(outcomes))
    bars = axis.barh(places, rates, color=colours, height=0.62)
    axis.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=6, fontsize=13, fontweight="bold")
    names = [
        outcome.variant.name + (f"\n({outcome.variant.note})" if outcome.variant.note else "")
        for outcome in outcomes
    ]
    axis.set_yticks(places, names, fontsize=12)
    axis.invert_yaxis()
    axis.margins(x=0.14, y=0.03)
    # The values are written on the bars.
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.spines["left"].set_color("#57606a")
    axis.set_xlabel("requests per second: longer is better", fontsize=11, color="#57606a", loc="left")
    title = f"Handwritten digits: {callers_text(callers)}, one image per request"
    figure.suptitle(title, x=0.02, ha="left", fontsize=14, fontweight="bold")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _pyplot() -> Any:
    importlib.import_module("matplotlib").use("Agg")
    return importlib.import_module("matplotlib.pyplot")


def callers_text(count: int) -> str:
    """Says in words how many there are."""
    return "1 caller" if count == 1 else f"{count:,} callers at once"
