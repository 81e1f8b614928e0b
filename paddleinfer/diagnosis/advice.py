"""What would make an engine faster, and by how much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paddleinfer.observed_load import ObservedLoad
from paddleinfer.settings import Settings

__all__ = ["Advice", "Situation", "advise"]

# A gain below this is within what two measurements of the same thing differ by.
_LEAST_GAIN = 1.1
# So much of a limit is as good as all of it.
_FULL = 0.8
# Of a shorter run, waking its thread and its caller's would be what further callers mostly add.
_LONG_RUN_US = 1000.0
# So many times the rows of a run are tried at once where nothing tells what they would take.
_MOST_TRIED = 8
# Full runs that should wait for each instance, so that none is ever idle.
_RUNS_AHEAD = 2


@dataclass(frozen=True)
class Advice:
    """One thing to do, with what it changes."""

    do: str
    change: dict[str, Any]
    """The same for programs: options of the engine by their names, ``requests`` that callers keep under way,
    the ``rows`` of each, or ``tensors``: "binary". Empty where it is none of these."""
    figure: str
    """What it changes: the name of one of ``Diagnosis.figures``."""
    now: float
    """That figure, as it is."""
    predicted: float | None
    """That figure, afterwards; None where it has to be tried."""
    gain: float | None
    """How many times better that is."""
    at_most: float | None
    """Where it has to be tried: the gain is no more than this; None where nothing bounds it."""
    sentence: str


@dataclass(frozen=True)
class Situation:
    """All that advice follows from."""

    load: ObservedLoad
    shares: Mapping[str, float]
    """Of communication, waiting and computation."""
    settings: Settings
    cores: int
    legacy: bool
    binary_us: Mapping[str, float]
    """Of stages around the engine: what they would take a request with binary tensors."""

    @property
    def instances(self) -> int:
        """How many there are."""
        return int(self.settings["instances"].value)

    @property
    def batch_limit(self) -> int:
        """Rows that the options let run together."""
        allowed = self.settings["allowed_batch_sizes"].value
        return int(allowed[-1] if allowed else self.settings["max_batch_size"].value)

    @property
    def most_rows(self) -> int:
        """That a run can have, and a request that runs in one: the queue has to take them."""
        return int(min(self.batch_limit, self.settings["max_queue_rows"].value))

    @property
    def in_server(self) -> bool:
        """Whether requests come through a server."""
        return "decode" in self.load.stage_us

    @property
    def on_cpu(self) -> bool:
        """Whether no run is on a GPU."""
        return "device" not in self.settings or self.settings["device"].value == "cpu"

    @property
    def merges(self) -> bool:
        """Whether requests may share a run."""
        return bool(self.settings["batchable"].value != "no")


def advise(group: str, situation: Situation) -> tuple[Advice, ...]:
    """For what is bound by `group`, the first to be followed first.

    First comes what changes requests or options, the largest gain first; then to leave the server; then to
    turn requests away; last what has to be tried.
    """
    found = [_aggregate(situation)]
    then = []
    # Also where the way to the engine is the smaller part: else these come and go as the shares change.
    if situation.in_server:
        found += [_binary(situation), _fuller_requests(situation)]
        then += [_in_process(situation)]
    if group != "communication":
        found += [_more_instances(situation), _larger_runs(situation)]
    if group == "waiting":
        then += [_shorter_queue(situation)]
    then += [_warm_up(situation)]
    if group != "communication":
        then += [_graph_passes(situation), _other_device(group, situation)]
    known = [one for one in found if one is not None]
    numbered = sorted((one for one in known if one.gain is not None), key=lambda one: -(one.gain or 0.0))
    further = [one for one in then if one is not None]
    ordered = [
        *numbered,
        *(one for one in further if one.gain is not None),
        *(one for one in (*known, *further) if one.gain is None),
    ]
    return tuple(ordered) or (_nothing(situation),)


# -- more out of the instances


def _aggregate(situation: Situation) -> Advice | None:
    """More rows in a request, and enough requests under way to keep every instance busy."""
    load, instances = situation.load, situation.instances
    # A large request keeps several busy with its parts.
    idle = max(load.at_once, load.busy_instances) < _FULL * instances
    more_callers = idle and load.stage_us.get("run", 0.0) >= _LONG_RUN_US
    callers = float(instances) if more_callers else max(1.0, load.at_once)
    keep = f"keep {instances} requests under way instead of {load.at_once:.1f}"
    change: dict[str, Any] = {"requests": instances} if more_callers else {}
    running = float(instances) if more_callers else load.spread
    # What larger requests cost a server grows with them, which _fuller_requests knows.
    larger = [] if situation.in_server else _larger_sizes(load.rows, situation.most_rows)
    rates = {}
    for rows in (load.rows, *larger):
        rate = _rate(situation, rows, _together(situation, rows, callers), running)
        if rate is not None:
            rates[rows] = rate
    if not rates:
        return _tried_rate(keep, change, instances / max(1.0, load.at_once), load) if change else None
    rows = min(rows for rows in rates if rates[rows] * _LEAST_GAIN >= max(rates.values()))
    what = [keep] if more_callers else []
    if rows > load.rows:
        what.append(f"send {rows:.0f} rows in a request instead of {load.rows:.1f}")
        change["rows"] = rows
    return _of_rate(" and ".join(what), change, rates[rows], load) if what else None


def _larger_sizes(rows: float, most: int) -> list[int]:
    """Powers of two above `rows`, and the most."""
    sizes = [2**power for power in range(most.bit_length()) if rows < 2**power < most]
    return [*sizes, most] if rows < most else sizes


def _together(situation: Situation, rows: float, callers: float) -> float:
    """Rows of a run, of requests of so many."""
    load = situation.load
    if rows <= load.rows:
        return load.run_rows
    waiting = rows * callers / situation.instances if situation.merges else rows
    return max(rows, min(waiting, situation.most_rows))


def _rate(situation: Situation, rows: float, together: float, running: float) -> float | None:
    """Rows per second with so many rows in a request and in a run, on so many instances; None: not known."""
    load = situation.load
    run_us = load.runs.run_us(together, running)
    run_now_us = load.runs.run_us(load.run_rows, load.busy_instances)
    if run_us is None or run_now_us is None:
        return None
    # What a request costs beside its run is paid once for all its rows, and is taken to overlap no further.
    then_us = load.idle_us + rows * run_us / together / running
    now_us = load.idle_us + load.rows * run_now_us / load.run_rows / load.spread
    return load.rows_per_s * (rows / then_us) / (load.rows / now_us)


def _more_instances(situation: Situation) -> Advice | None:
    load, instances = situation.load, situation.instances
    threads = situation.settings["cpu_threads"].value if "cpu_threads" in situation.settings else 1
    possible = situation.cores // threads
    if not situation.on_cpu or instances >= possible or load.at_once <= instances:
        return None
    do = f"instances={possible} instead of {instances}"
    return _tried_rate(do, {"instances": possible}, min(possible, load.at_once) / instances, load)


def _larger_runs(situation: Situation) -> Advice | None:
    """A higher limit, where there is always more than a run may take."""
    load, limit = situation.load, situation.batch_limit
    waiting = min(load.rows * load.at_once / situation.instances, situation.settings["max_queue_rows"].value)
    if not situation.merges or load.run_rows < _FULL * limit or waiting < 2 * limit:
        return None
    predicted = _rate(situation, load.rows, 2 * limit, load.spread)
    if predicted is not None:
        do = f"max_batch_size={2 * limit} instead of {limit}"
        return _of_rate(do, {"max_batch_size": 2 * limit}, predicted, load)
    times = min(2 ** int(math.log2(waiting / limit)), _MOST_TRIED)
    do = f"max_batch_size={times * limit} instead of {limit}"
    # A run of more rows takes no less time.
    return _tried_rate(do, {"max_batch_size": times * limit}, times, load)


def _of_rate(do: str, change: dict[str, Any], predicted: float | None, load: ObservedLoad) -> Advice | None:
    if predicted is None or predicted < _LEAST_GAIN * load.rows_per_s:
        return None
    gain = predicted / load.rows_per_s
    sentence = (
        f"{do}: {predicted:,.0f} rows per second instead of {load.rows_per_s:,.0f}, while any request is "
        f"under way, {gain:.1f} times as many"
    )
    return Advice(do, change, "rows_per_s", load.rows_per_s, predicted, gain, None, sentence)


def _tried_rate(do: str, change: dict[str, Any], at_most: float, load: ObservedLoad) -> Advice:
    """Of what has not run yet: more instances share caches and memory, larger runs take longer."""
    sentence = (
        f"{do}: at most {at_most:.1f} times as many rows per second as now, {load.rows_per_s:,.0f} while any "
        "request is under way"
    )
    return Advice(do, change, "rows_per_s", load.rows_per_s, None, None, at_most, sentence)


# -- the way to the engine


def _binary(situation: Situation) -> Advice | None:
    do = "send binary tensors instead of JSON"
    return _of_time(do, {"tensors": "binary"}, _binary_us(situation), situation.load)


def _binary_us(situation: Situation) -> float:
    """A request's time with binary tensors."""
    stage_us = situation.load.stage_us
    return sum(min(us, situation.binary_us.get(stage, us)) for stage, us in stage_us.items())


def _fuller_requests(situation: Situation) -> Advice | None:
    """What a request costs beside its rows is paid once for all of them."""
    load, rows = situation.load, situation.most_rows
    run_us = load.runs.run_us(rows, load.busy_instances)
    if run_us is None or load.rows >= rows:
        return None
    # JSON grows with the rows; what binary tensors would take is about what any document costs.
    growing_us = load.request_us - _binary_us(situation)
    inside_us = _inside_us(load)
    computing_us = sum(load.stage_us.get(stage, 0.0) for stage in ("gather", "run", "scatter"))
    # Such requests share no runs any more, so each waits for the others'.
    then_inside_us = max(inside_us - computing_us + run_us, load.at_once * run_us / situation.instances)
    around_us = load.request_us - inside_us + growing_us * (rows / load.rows - 1)
    request_us = around_us + then_inside_us
    now, predicted = load.caller_rows_per_s, rows / request_us * 1e6
    if predicted < _LEAST_GAIN * now:
        return None
    do = f"send {rows} rows in a request instead of {load.rows:.1f}"
    sentence = (
        f"{do}: a caller gets {predicted:,.0f} rows per second instead of {now:,.0f}, "
        f"{predicted / now:.1f} times as many"
    )
    return Advice(do, {"rows": rows}, "caller_rows_per_s", now, predicted, predicted / now, None, sentence)


def _in_process(situation: Situation) -> Advice | None:
    return _of_time("call the engine in process", {}, _inside_us(situation.load), situation.load)


def _inside_us(load: ObservedLoad) -> float:
    """A request's time without the stages around the engine."""
    around = ("receive", "decode", "encode", "send")
    return sum(us for stage, us in load.stage_us.items() if stage not in around)


def _of_time(do: str, change: dict[str, Any], predicted_us: float, load: ObservedLoad) -> Advice | None:
    if predicted_us <= 0 or load.request_us / predicted_us < _LEAST_GAIN:
        return None
    gain = load.request_us / predicted_us
    sentence = (
        f"{do}: a request takes {predicted_us:,.0f} us instead of {load.request_us:,.0f}, "
        f"{gain:.1f} times less"
    )
    return Advice(do, change, "request_us", load.request_us, predicted_us, gain, None, sentence)


# -- fewer requests


def _shorter_queue(situation: Situation) -> Advice | None:
    """By Little's law: what is let in waits for the rows before it."""
    load = situation.load
    rows = math.ceil(_RUNS_AHEAD * situation.instances * max(load.run_rows, load.rows))
    predicted_us = rows / load.rows_per_s * 1e6
    if rows >= situation.settings["max_queue_rows"].value or load.queue_us / predicted_us < _LEAST_GAIN:
        return None
    gain = load.queue_us / predicted_us
    do = f"max_queue_rows={rows}, or deadlines"
    sentence = (
        f"{do}: a request waits {predicted_us:,.0f} us in the queue instead of {load.queue_us:,.0f}, "
        f"{gain:.1f} times less; more than can be done is refused at once"
    )
    return Advice(do, {"max_queue_rows": rows}, "queue_us", load.queue_us, predicted_us, gain, None, sentence)


# -- what has to be tried


def _warm_up(situation: Situation) -> Advice | None:
    load = situation.load
    if not situation.merges or max(load.rows, load.runs.most_rows) >= situation.most_rows / 2:
        return None
    how = "start the server with --warmup" if situation.in_server else "call engine.warmup()"
    do = f"{how} and diagnose again"
    most = load.runs.most_rows
    larger = f"runs of more rows than {most:.0f}" if most else "larger runs"
    sentence = f"{do}: what {larger} would gain is not known"
    return Advice(do, {}, "rows_per_s", load.rows_per_s, None, None, None, sentence)


def _graph_passes(situation: Situation) -> Advice | None:
    if not situation.legacy or situation.settings["ir_optim"].value:
        return None
    left_us = situation.load.request_us - situation.load.stage_us.get("run", 0.0)
    why = "without it a legacy model runs without graph passes and oneDNN"
    return _to_try("ir_optim=True", {"ir_optim": True}, why, left_us, situation)


def _other_device(group: str, situation: Situation) -> Advice | None:
    if not situation.on_cpu:
        return None
    # What waits, waits for runs.
    left = 1 - situation.shares["computation"] - (situation.shares["waiting"] if group == "waiting" else 0)
    left_us = left * situation.load.request_us
    return _to_try("a GPU, or more cores", {}, "a run there has to be measured", left_us, situation)


def _to_try(do: str, change: dict[str, Any], why: str, left_us: float, situation: Situation) -> Advice:
    """`left_us`: of a request's time, what it cannot shorten."""
    request_us = situation.load.request_us
    at_most = request_us / left_us if left_us > 0 else None
    bound = "" if at_most is None else f", so it gains {at_most:,.1f} times at most"
    sentence = f"{do}: {why}; of a request's {request_us:,.0f} us at least {left_us:,.0f} stay{bound}"
    return Advice(do, change, "request_us", request_us, None, None, at_most, sentence)


def _nothing(situation: Situation) -> Advice:
    do = "look at the callers, who share the processor"
    sentence = f"{do}: nothing else that is known would gain a tenth"
    return Advice(do, {}, "request_us", situation.load.request_us, None, None, None, sentence)
