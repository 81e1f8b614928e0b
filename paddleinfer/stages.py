"""The stages that a request goes through: their order, what each counts as, and its colour."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["STAGES", "STAGE_COLOURS", "Stage", "engine_stages"]

Stage = tuple[str, int, int]
"""Its name, its begin and its end, in nanoseconds of ``time.monotonic_ns``."""


class _Kind(NamedTuple):
    """How the time in a stage is shown."""

    group: str
    """"communication", "waiting" or "computation" in an engine's diagnosis; "" where that leaves it out."""
    colour: str


STAGES: Final = {
    "http request": _Kind("", "#83877f"),
    "receive": _Kind("communication", "#f7db6c"),
    "decode": _Kind("communication", "#1393b1"),
    "service request": _Kind("", "#bd75d0"),
    "wait": _Kind("", "#bc6a51"),
    "preprocess": _Kind("", "#a264d8"),
    "handle": _Kind("", "#ef31ab"),
    "postprocess": _Kind("", "#cc2cff"),
    "infer": _Kind("", "#c4ab23"),
    "request": _Kind("", "#a0a2b5"),
    "submit": _Kind("communication", "#3ad4fe"),
    "queue": _Kind("waiting", "#e2c63d"),
    "hold": _Kind("waiting", "#dd733b"),
    "gather": _Kind("computation", "#00baed"),
    "run": _Kind("computation", "#68a871"),
    "scatter": _Kind("computation", "#3e9ff2"),
    "deliver": _Kind("communication", "#7df4af"),
    "encode": _Kind("communication", "#fbaa82"),
    "send": _Kind("communication", "#b4e5ec"),
    "batch": _Kind("", "#abc3be"),
}
"""Each by its name, in the order in which a request goes through them.

No two colours look alike, not to colour-blind eyes either, and dark text can be read on each, on a page
that is light or dark.
"""

STAGE_COLOURS: Final = {name: kind.colour for name, kind in STAGES.items()}
"""For a picture, and for a server's page."""


def engine_stages(
    called_ns: int,
    arrival_ns: int,
    started_ns: int,
    gather_end_ns: int,
    run_end_ns: int,
    scatter_end_ns: int,
    hold_ns: int,
) -> list[Stage]:
    """Returns the stages of a request that ran, in order, from the call to its outputs."""
    held_from = started_ns - hold_ns
    # If the request ran in parts, or its batch failed before, the model's time begins with the first run.
    gathered = max(gather_end_ns, started_ns)
    return [
        ("submit", called_ns, arrival_ns),
        ("queue", arrival_ns, held_from),
        ("hold", held_from, started_ns),
        ("gather", started_ns, gathered),
        ("run", gathered, run_end_ns),
        ("scatter", run_end_ns, scatter_end_ns),
    ]
