"""The load under which settings are measured: callers who wait, requests at a rate, or recorded ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer.config import is_int
from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.models.spec import TensorSpec
from paddleinfer.sentences import shown
from paddleinfer.tracing.events import spans
from paddleinfer.tracing.files import read_text
from paddleinfer.traffic.at_rate import submit_at_rate, submit_at_times
from paddleinfer.traffic.callers import Callers, call_from_threads
from paddleinfer.traffic.load_inputs import LoadInputs, inputs_in_turn
from paddleinfer.traffic.tally import Tally

__all__ = ["Load", "Recording", "read_recording"]

Array = npt.NDArray[Any]

_CALLERS = 8
_MOST_ROWS = 1 << 20  # of a request
# Requests that a recording must have; fewer say nothing of a load.
_FEWEST_RECORDED = 2


@dataclass(frozen=True)
class Recording:
    """When requests came, and with how many rows."""

    name: str
    offsets_s: tuple[float, ...]
    """Seconds from the first; never falling."""
    rows: tuple[int, ...]

    @property
    def seconds(self) -> float:
        """How long it lasts, until its last request."""
        return self.offsets_s[-1]

    def part(self, number: int, seconds: float) -> list[tuple[float, int]]:
        """Returns a part of so many seconds: (offset from its start, rows) of its requests.

        Parts follow each other by their numbers, and after the last comes the first. One without requests is
        passed over.
        """
        parts = int(self.seconds // seconds) + 1
        for place in range(number, number + parts):
            begin = place % parts * seconds
            found = [
                (offset - begin, rows)
                for offset, rows in zip(self.offsets_s, self.rows, strict=True)
                if begin <= offset < begin + seconds
            ]
            if found:
                return found
        raise AssertionError("the first part has the first request")


def read_recording(path: Path) -> Recording:
    """Reads the requests of a trace that ``--trace`` or ``Trace.save`` wrote.

    Raises
    ------
    InvalidInput
        It cannot be read, or has no requests.
    """
    try:
        found = [span for span in spans(json.loads(read_text(path))) if span.name == "request"]
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is no trace: {error}") from error
    usable: list[tuple[float, int]] = []
    for span in found:
        rows = span.args.get("rows")
        if isinstance(rows, int) and is_int(rows) and rows >= 1:
            usable.append((span.start_us, rows))
    if len(usable) < _FEWEST_RECORDED or usable[-1][0] <= usable[0][0]:
        raise InvalidInput(
            f"{path} has {len(usable)} requests with rows; record some with paddleinfer bench --trace, with "
            "paddleinfer-http --trace, or with Engine.trace"
        )
    first_us = usable[0][0]
    return Recording(
        path.name,
        tuple((start_us - first_us) / 1e6 for start_us, _ in usable),
        tuple(rows for _, rows in usable),
    )


@dataclass(frozen=True)
class Load:
    """What is asked of an engine while it is measured; one of the three, or by default callers.

    Raises
    ------
    ConfigError
        A field is out of range, or two of them are given.
    """

    callers: int | None = None
    """Threads that wait for each answer."""
    rate_per_s: float | None = None
    """Requests a second, whether answered or not."""
    recording: Recording | None = None
    """Requests that come as they were recorded."""
    rows: int = 1
    """The rows of each request; a recording has its own."""
    in_turn: Mapping[int, LoadInputs] = field(default_factory=dict, repr=False)
    """Rows -> the inputs of requests with so many."""

    def __post_init__(self) -> None:
        given = [name for name in ("callers", "rate_per_s", "recording") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f"{given[0]} and {given[1]} both say what the load is; give one of them")
        if self.callers is not None and not (is_int(self.callers) and 1 <= self.callers <= 1000):
            raise ConfigError(f"callers must be an integer from 1 to 1000, not {shown(self.callers)}")
        rate = self.rate_per_s
        if rate is not None and (
            isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < 1e9
        ):
            raise ConfigError(f"rate_per_s must be above 0 and below 1e9 requests, not {shown(rate)}")
        if not is_int(self.rows) or not 1 <= self.rows <= _MOST_ROWS:
            raise ConfigError(f"rows must be an integer from 1 to {_MOST_ROWS}, not {shown(self.rows)}")
        if not given:
            object.__setattr__(self, "callers", _CALLERS)

    def __str__(self) -> str:
        if self.recording is not None:
            return f"{len(self.recording.offsets_s):,} requests of {self.recording.name}"
        each = "1 row each" if self.rows == 1 else f"{self.rows} rows each"
        if self.rate_per_s is not None:
            return f"{self.rate_per_s:,g} requests a second, {each}"
        return f"{'1 caller' if self.callers == 1 else f'{self.callers} callers'}, {each}"

    @property
    def rows_at_once(self) -> int | None:
        """The most rows that can wait at once; None if nothing limits them."""
        return None if self.callers is None else self.callers * self.rows

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of rows that requests have."""
        return (self.rows,) if self.recording is None else tuple(sorted(set(self.recording.rows)))

    def with_inputs(self, arrays: Mapping[str, Array], wanted: Sequence[TensorSpec]) -> Load:
        """Returns the load with arrays whose rows requests take in turn.

        Raises
        ------
        ConfigError, InvalidInput
            The arrays do not fit the model or each other.
        """
        in_turn = {rows: inputs_in_turn(arrays, wanted, rows) for rows in self.sizes}
        return Load(self.callers, self.rate_per_s, self.recording, self.rows, in_turn)

    def drive(
        self,
        number: int,
        seconds: float,
        infer: Callable[[Mapping[str, Array]], object],
        submit: Callable[[Mapping[str, Array]], Any],
    ) -> tuple[Tally, float]:
        """Drives one round of the load; returns its tally, and the mean rows of a request.

        Parameters
        ----------
        number
            The round's; of a recording each has another part.
        seconds
            How long requests are made.
        infer, submit
            How to ask.
        """
        if self.recording is not None:
            part = self.recording.part(number, seconds)
            asked = [self.in_turn[rows] for _, rows in part]
            tally = submit_at_times(
                [offset for offset, _ in part], seconds, lambda n: submit(asked[n].of_request(n))
            )
            return tally, float(np.mean([rows for _, rows in part]))
        (inputs,) = self.in_turn.values()
        if self.rate_per_s is not None:
            tally = submit_at_rate(self.rate_per_s, seconds, lambda n: submit(inputs.of_request(n)))
            return tally, inputs.rows
        assert self.callers is not None
        callers = Callers(self.callers, seconds, fewest=self.callers)
        return call_from_threads(callers, lambda n: infer(inputs.of_request(n))), inputs.rows
