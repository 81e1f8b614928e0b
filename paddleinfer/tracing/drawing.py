"""Draws a timeline: tracks are rows, slices are bars, and counters are lines on top."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from paddleinfer.errors import ConfigError
from paddleinfer.stages import STAGE_COLOURS
from paddleinfer.tracing.document import counters_of, names_of
from paddleinfer.tracing.events import Span, events_of, identity, number, slack_us, spans
from paddleinfer.whole_files import replacing

__all__ = ["columns", "draw"]

_GREY = "#57606a"
_OTHERS = "#afb8c1"
# Colours of slices that are not stages of ours.
_COLOURS = (
    "#1f6feb", "#e8833a", "#2da44e", "#8250df", "#d4a72c", "#cf222e",
    "#0e8a8a", "#bf3989", "#6e7781", "#7cb342", "#4d3fb0", "#a0522d",
)  # fmt: skip
_MOST_TRACKS = 60
_LEAST = 1e-6
"""The least share of a column, so that a slice without length is seen where nothing else is."""
_PALEST = 0.35
_Track = tuple[int | str, int | str]


def draw(document: Any, path: str | os.PathLike[str]) -> None:
    """Writes a PNG. Raises ConfigError if matplotlib is missing, and ValueError if there is no slice."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError('matplotlib must be installed to draw: pip install "paddleinfer[demo]"')
    slices, counters = spans(document), counters_of(document)
    if not slices:
        raise ValueError("the trace must have a slice, of ph X or of B and E, and has none to draw")
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    by_track: dict[_Track, list[Span]] = defaultdict(list)
    for span in slices:
        by_track[span.pid, span.tid].append(span)
    names = _track_names(document, list(by_track))
    tracks = _in_order(document, list(by_track))[:_MOST_TRACKS]
    since_us = min([slices[0].start_us, *(event["ts"] for event in counters)])
    height = 0.42 * len(tracks) + 0.35
    heights = [1.1, height] if counters else [height]
    figure, grid = pyplot.subplots(
        len(heights),
        1,
        figsize=(11.0, sum(heights) + 1.5),
        sharex=True,
        squeeze=False,
        height_ratios=heights,
        layout="constrained",
    )
    rows = grid[-1][0]
    rows.set_xlim(0, max(max(span.end_us for span in slices) - since_us, 0.001) / 1e3)
    rows.set_yticks(range(len(tracks)), [names[track] for track in tracks])
    rows.set_ylim(len(tracks) - 0.4, -0.6)
    left_out = len(by_track) - len(tracks)
    rows.set_xlabel(
        "ms since the first event" + (f"; {left_out} more tracks are not shown" if left_out else ""),
        color=_GREY,
    )
    if counters:
        _lines(grid[0][0], counters, since_us)
    figure.draw_without_rendering()  # from here on the picture's width is known
    handles = _bars(rows, [by_track[track] for track in tracks], since_us)
    for axis in grid[:, 0]:
        axis.grid(axis="x", color="#e3e6ea")
        axis.set_axisbelow(True)
        axis.tick_params(length=0, labelcolor=_GREY, labelsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color("#d0d7de")
    # Names come from a file, and may have characters without a glyph.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
        with replacing(path) as file:
            figure.savefig(file, dpi=100, format="png", pil_kwargs={"optimize": True})
    pyplot.close(figure)


def _in_order(document: Any, tracks: Sequence[_Track]) -> list[_Track]:
    """Sorts processes by their begin, and the tracks of each by its metadata."""
    places = {}
    for event in events_of(document):
        if isinstance(event, dict) and event.get("ph") == "M" and event.get("name") == "thread_sort_index":
            track = identity(event.get("pid", 0)), identity(event.get("tid", 0))
            args = event.get("args")
            places[track] = number(args.get("sort_index")) if isinstance(args, dict) else None
    pids = list(dict.fromkeys(pid for pid, _ in tracks))
    return sorted(tracks, key=lambda track: (pids.index(track[0]), places.get(track) or 0))


def _track_names(document: Any, tracks: Sequence[_Track]) -> dict[_Track, str]:
    threads, processes = names_of(document)
    several = len({pid for pid, _ in tracks}) > 1
    names = {}
    for pid, tid in tracks:
        thread = threads.get((pid, tid), f"thread {tid}")
        names[pid, tid] = _label(f"{processes.get(pid, pid)}: {thread}" if several else thread)
    return names


def columns(
    spans: Iterable[Span], from_us: float, to_us: float, count: int
) -> list[tuple[str, float] | None]:
    """Divides a time into `count` equal parts. Returns for each the name that takes most of it, and the share
    (above 0, up to 1) that any span covers; None for a part without spans.
    """
    width_us = (to_us - from_us) / count
    times_us: list[dict[str, float]] = [{} for _ in range(count)]
    for span in spans:
        begin, end = (span.start_us - from_us) / width_us, (span.end_us - from_us) / width_us
        first = max(0, min(math.floor(begin), count - 1))
        for place in range(first, min(math.ceil(end), count) if end > first else first + 1):
            inside = min(end, place + 1) - max(begin, place)
            times_us[place][span.name] = times_us[place].get(span.name, 0.0) + max(inside, _LEAST)
    return [
        (max(times, key=lambda name: times[name]), min(math.fsum(times.values()), 1.0)) if times else None
        for times in times_us
    ]


def _bars(axis: Any, rows: Sequence[Sequence[Span]], since_us: float) -> list[Any]:
    """Draws each name in its colour, paler if nothing goes on for a part of the time; a slice inside another
    one is thinner. Returns what the legend shows.
    """
    rectangle = importlib.import_module("matplotlib.patches").Rectangle
    total_us: dict[str, float] = defaultdict(float)
    bars: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for row, of_row in enumerate(rows):
        around: list[float] = []
        for span in of_row:
            around = [end for end in around if end > span.start_us + slack_us(span.start_us)]
            bars[min(len(around), 4), row].append(span)
            around.append(span.end_us)
            total_us[span.name] += span.duration_us
    names = sorted(total_us, key=lambda name: -total_us[name])
    unknown = [name for name in names if name not in STAGE_COLOURS]
    colours = {**STAGE_COLOURS, **dict(zip(unknown, _COLOURS, strict=False))}
    to_ms = axis.get_xlim()[1]
    pixels = max(1, round(axis.get_window_extent().width))
    for (depth, row), slices in sorted(bars.items()):
        height = 0.8 * 0.72**depth
        seen = columns(slices, since_us, since_us + to_ms * 1e3, pixels)
        extents, shades = [], []
        first = 0
        for shade, alike in itertools.groupby(map(_shade, seen)):
            last = first + len(list(alike))
            if shade is not None:
                name, opacity = shade
                extents.append((first * to_ms / pixels, (last - first) * to_ms / pixels))
                shades.append(f"{colours.get(name, _OTHERS)}{opacity:02x}")
            first = last
        axis.broken_barh(
            extents, (row - height / 2, height), facecolors=shades, linewidth=0, antialiased=False
        )
    shown = {_label(name) if name in colours else " others": colours.get(name, _OTHERS) for name in names}
    return [rectangle((0, 0), 1, 1, color=colour, label=label) for label, colour in shown.items()]


def _shade(column: tuple[str, float] | None) -> tuple[str, int] | None:
    """Returns the name and the opacity, up to 255, in steps, so that neighbours are drawn as one."""
    if column is None:
        return None
    name, share = column
    return name, round(max(_PALEST, math.ceil(share * 8 - 0.1) / 8) * 255)


def _lines(axis: Any, counters: Sequence[dict[str, Any]], since_us: float) -> None:
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for event in counters:
        for key, value in event["args"].items():
            label = event["name"] if key in ("value", event["name"]) else f"{event['name']}: {key}"
            points[_label(label)].append(((event["ts"] - since_us) / 1e3, value))
    for place, (label, line) in enumerate(points.items()):
        times, values = zip(*line, strict=True)
        colour = _COLOURS[place % len(_COLOURS)]
        axis.step(times, values, where="post", lw=1.5, color=colour, label=label)
    axis.set_ylim(bottom=min(0, *(value for line in points.values() for _, value in line), 0))
    axis.legend(loc="upper right", frameon=False, fontsize=8, ncols=4)


def _label(name: str) -> str:
    """Escapes a label: matplotlib hides one that begins with _, and reads $ as mathematics."""
    shown = name if len(name) <= 40 else name[:39] + "…"
    shown = shown if shown.isprintable() else ascii(shown)[1:-1]
    return " " + shown.replace("$", r"\$")
