"""A picture of a timeline: tracks as rows, slices as bars, counters as lines on top."""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from paddleinfer.errors import ConfigError
from paddleinfer.stage_colours import STAGE_COLOURS
from paddleinfer.trace_document import counters_of, names_of
from paddleinfer.trace_events import Span, events_of, identity, number, slack_us, spans

__all__ = ["draw"]

_GREY = "#57606a"
_OTHERS = "#afb8c1"
# Of slices that are no stages of ours.
_COLOURS = (
    "#1f6feb", "#e8833a", "#2da44e", "#8250df", "#d4a72c", "#cf222e",
    "#0e8a8a", "#bf3989", "#6e7781", "#7cb342", "#4d3fb0", "#a0522d",
)  # fmt: skip
_MOST_TRACKS = 60
_Track = tuple[int | str, int | str]


def draw(document: Any, path: str | os.PathLike[str]) -> None:
    """Write a PNG; a ConfigError says that matplotlib is missing, a ValueError that there is no slice."""
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
    _bars(rows, [by_track[track] for track in tracks], since_us)
    rows.set_yticks(range(len(tracks)), [names[track] for track in tracks])
    rows.set_ylim(len(tracks) - 0.4, -0.6)
    left_out = len(by_track) - len(tracks)
    rows.set_xlabel(
        "ms since the first event" + (f"; {left_out} more tracks are not shown" if left_out else ""),
        color=_GREY,
    )
    if counters:
        _lines(grid[0][0], counters, since_us)
    for axis in grid[:, 0]:
        axis.grid(axis="x", color="#e3e6ea")
        axis.set_axisbelow(True)
        axis.tick_params(length=0, labelcolor=_GREY, labelsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color("#d0d7de")
    # Names come out of a file, and may have signs for which there is no glyph.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        handles, labels = rows.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
        figure.savefig(path, dpi=100, format="png", pil_kwargs={"optimize": True})
    pyplot.close(figure)


def _in_order(document: Any, tracks: Sequence[_Track]) -> list[_Track]:
    """Processes as they begin, and the tracks of each as its metadata says."""
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


def _bars(axis: Any, rows: Sequence[Sequence[Span]], since_us: float) -> None:
    """Each name in its colour; what lies in another slice is thinner than that one."""
    total_us: dict[str, float] = defaultdict(float)
    bars: dict[tuple[str, int, int], list[tuple[float, float]]] = defaultdict(list)
    for row, of_row in enumerate(rows):
        around: list[float] = []
        for span in of_row:
            around = [end for end in around if end > span.start_us + slack_us(span.start_us)]
            at_ms = ((span.start_us - since_us) / 1e3, span.duration_us / 1e3)
            bars[span.name, row, min(len(around), 4)].append(at_ms)
            around.append(span.end_us)
            total_us[span.name] += span.duration_us
    names = sorted(total_us, key=lambda name: -total_us[name])
    unknown = [name for name in names if name not in STAGE_COLOURS]
    colours = {**STAGE_COLOURS, **dict(zip(unknown, _COLOURS, strict=False))}
    labelled = set()
    for (name, row, depth), extents in sorted(bars.items(), key=lambda it: (it[0][2], names.index(it[0][0]))):
        shown = _label(name) if name in colours else " others"
        height = 0.8 * 0.72**depth
        colour = colours.get(name, _OTHERS)
        axis.broken_barh(
            extents,
            (row - height / 2, height),
            facecolor=colour,
            edgecolor="white" if len(extents) < 200 else colour,
            linewidth=0.4,
            label=None if shown in labelled else shown,
        )
        labelled.add(shown)


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
    """As it is: matplotlib hides what begins with _ and takes $ for mathematics."""
    shown = name if len(name) <= 40 else name[:39] + "…"
    shown = shown if shown.isprintable() else ascii(shown)[1:-1]
    return " " + shown.replace("$", r"\$")
