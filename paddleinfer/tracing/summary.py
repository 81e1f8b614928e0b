"""Sums up a timeline's time by stage."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from paddleinfer.tracing.events import Span, slack_us

__all__ = ["StageRow", "as_json", "summarise", "table"]

_COLUMNS = ("stage", "count", "mean ms", "p50 ms", "p99 ms", "total ms", "share")


@dataclass(frozen=True)
class StageRow:
    """The slices of one name; those that hold others have a separate row."""

    stage: str
    count: int
    mean_us: float
    p50_us: float
    p99_us: float
    total_us: float
    share: float | None
    """The share of the time in all slices that hold no others, with the same `within` if there is one; None
    for slices that hold others."""
    within: str | None = None
    """The outermost slice around these, if stages of one name lie in several kinds of slices: an engine's
    trace has the same run in each request and once more in the batch."""

    @property
    def is_parent(self) -> bool:
        """Whether its slices hold others, whose time it includes."""
        return self.share is None


def summarise(spans: Iterable[Span]) -> list[StageRow]:
    """Returns a row for each stage, the longest total first; then rows for slices that hold others, likewise.

    A slice inside another one of its track is part of that one, and no time counts twice: a request that
    holds its stages adds nothing to their sum. A slice without length holds nothing, and makes no other
    slice a parent.
    """
    ordered = sorted(spans, key=lambda span: (span.start_us, -span.end_us))
    outermost = _outermost(ordered)
    around: dict[str, set[str | None]] = defaultdict(set)
    for place, span in enumerate(ordered):
        if place not in outermost.parents:
            around[span.name].add(outermost.around.get(place))
    # Otherwise the stages of a request and those of its batch would be added up.
    apart = any(len(names - {None}) > 1 for names in around.values())
    times_us: dict[tuple[bool, str, str | None], list[float]] = defaultdict(list)
    for place, span in enumerate(ordered):
        parent = place in outermost.parents
        within = outermost.around.get(place) if apart and not parent else None
        times_us[parent, span.name, within].append(span.duration_us)
    whole_us: dict[str | None, float] = defaultdict(float)
    for (parent, _, within), times in times_us.items():
        whole_us[within] += 0.0 if parent else math.fsum(times)
    rows = [
        _row(name, times, None if parent else whole_us[within], within)
        for (parent, name, within), times in times_us.items()
    ]
    return sorted(
        rows,
        key=lambda row: (
            row.is_parent,
            -whole_us[row.within],
            row.within or "",
            -row.total_us,
            row.stage,
        ),
    )


def table(rows: Sequence[StageRow]) -> str:
    """Returns columns of plain text, under lines that say in which slices they lie and which hold others."""
    cells = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
    lines = [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in cells
    ]
    apart = any(row.within is not None for row in rows)
    titles = [_title(row, apart) for row in rows]
    for place in range(len(rows) - 1, -1, -1):
        if titles[place] and (place == 0 or titles[place] != titles[place - 1]):
            lines.insert(1 + place, titles[place])
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _title(row: StageRow, apart: bool) -> str:
    if row.is_parent:
        return "slices that hold others:"
    if row.within is None:
        return "in no other slice:" if apart else ""
    return f"in {_shown(row.within)}:"


def as_json(rows: Sequence[StageRow]) -> str:
    """Returns the same figures; a share is from 0 to 1."""
    document = {
        "stages": [asdict(row) for row in rows if not row.is_parent],
        "parents": [
            {name: value for name, value in asdict(row).items() if name not in ("share", "within")}
            for row in rows
            if row.is_parent
        ],
    }
    return json.dumps(document, indent=1) + "\n"


class _Outermost(NamedTuple):
    parents: set[int]
    """The places of slices that hold another one."""
    around: dict[int, str]
    """Place -> the name of the outermost slice that holds it."""


def _outermost(ordered: Sequence[Span]) -> _Outermost:
    found = _Outermost(set(), {})
    around: dict[tuple[int | str, int | str], list[int]] = defaultdict(list)
    for place, span in enumerate(ordered):
        if span.duration_us <= 0:
            continue
        # In an invalid trace slices may overlap in part: then neither holds the other.
        track = around[span.pid, span.tid]
        track[:] = [at for at in track if ordered[at].end_us > span.start_us + slack_us(span.start_us)]
        holding = [at for at in track if ordered[at].end_us >= span.end_us - slack_us(span.end_us)]
        if holding:
            found.parents.update(holding)
            found.around[place] = ordered[holding[0]].name
        track.append(place)
    return found


def _row(name: str, times_us: list[float], whole_us: float | None, within: str | None) -> StageRow:
    times_us.sort()
    total_us = math.fsum(times_us)
    share = None if whole_us is None else total_us / whole_us if whole_us else 0.0
    mean_us = total_us / len(times_us)
    p50_us, p99_us = _quantile(times_us, 0.5), _quantile(times_us, 0.99)
    return StageRow(name, len(times_us), mean_us, p50_us, p99_us, total_us, share, within)


def _quantile(ordered: Sequence[float], part: float) -> float:
    """Interpolates between the two nearest values, as NumPy does."""
    place = (len(ordered) - 1) * part
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _cells(row: StageRow) -> tuple[str, ...]:
    times_us = (row.mean_us, row.p50_us, row.p99_us, row.total_us)
    name = _shown(row.stage)
    share = "" if row.share is None else f"{row.share:.1%}"
    return (name, f"{row.count:,}", *(f"{time_us / 1e3:,.3f}" for time_us in times_us), share)


def _shown(name: str) -> str:
    """Escapes a name from a file, which a terminal might obey."""
    return name if name.isprintable() else ascii(name)[1:-1]
