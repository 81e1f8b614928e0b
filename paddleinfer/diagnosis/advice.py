"""Finds what would make an engine faster, and by how much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paddleinfer.backends.paddle.graph_passes import WORTH
from paddleinfer.diagnosis.workload import WorkloadSummary
from paddleinfer.models.spec import Batchable
from paddleinfer.resolved_options import ResolvedOptions

__all__ = ["Advice", "AdviceContext", "advise"]

# Two measurements of the same thing may differ by a gain below this.
_LEAST_GAIN = 1.1
# This share of a limit counts as all of it.
_FULL = 0.8
# Beside a shorter run further callers would mostly add the waking of its thread and of their own.
_LONG_RUN_US = 1000.0
# The largest factor by which to raise a run's rows at once if their run time cannot be predicted.
_MOST_TRIED = 8
# Full runs that should wait for each instance, so that none is ever idle.
_RUNS_AHEAD = 2


Change = dict[str, Any]
"""The setting that an advice would change -> its new value."""


@dataclass(frozen=True)
class Advice:
    """One action, and what it would change."""

    action: str
    change: Change
    """The action for programs: options of the engine by name, ``requests`` that callers keep under way,
    the ``rows`` of each, or ``tensors``: "binary". Empty if it is none of these."""
    figure: str
    """The figure that it changes, by its name in ``Diagnosis.figures``."""
    now: float
    """That figure's present value."""
    predicted: float | None
    """That figure's predicted value; None if it has to be tried."""
    gain: float | None
    """How many times better the predicted value is."""
    at_most: float | None
    """The largest possible gain, if it has to be tried; None where nothing bounds it."""
    sentence: str


@dataclass(frozen=True)
class AdviceContext:
    """The facts that advice is derived from."""

    load: WorkloadSummary
    shares: Mapping[str, float]
    """The shares of communication, waiting and computation."""
    resolved: ResolvedOptions
    cores: int
    legacy: bool
    binary_us: Mapping[str, float]
    """The microseconds of stages outside the engine, for a request with binary tensors."""

    @property
    def instances(self) -> int:
        """The number of instances."""
        return self.resolved.instances

    @property
    def most_rows(self) -> int:
        """Largest batch that both the batch limit and the queue limit allow."""
        return min(self.resolved.batch_limit, self.resolved.max_queue_rows)

    @property
    def in_server(self) -> bool:
        """Whether requests come through a server."""
        return "decode" in self.load.stage_us

    @property
    def merges(self) -> bool:
        """Whether requests may share a run."""
        return self.resolved.batchable is not Batchable.NO


def advise(group: str, context: AdviceContext) -> tuple[Advice, ...]:
    """Returns advice for an engine bound by `group`, in the order in which to follow it.

    Changes of requests or options come first, the largest gain first; then leaving the server; then refusing
    requests; then advice that has to be tried.
    """
    found = [_aggregate(context)]
    then = []
    # They are offered even if communication is the smaller part; else they would come and go with the shares.
    if context.in_server:
        found += [_binary(context), _fuller_requests(context)]
        then += [_in_process(context)]
    if group != "communication":
        found += [_more_instances(context), _larger_runs(context), _fewer_shapes(context)]
    if group == "waiting":
        then += [_shorter_queue(context)]
    then += [_warm_up(context)]
    if group != "communication":
        then += [_graph_passes(group, context), _other_device(group, context)]
    known = [one for one in found if one is not None]
    numbered = sorted((one for one in known if one.gain is not None), key=lambda one: -(one.gain or 0.0))
    further = [one for one in then if one is not None]
    ordered = [
        *numbered,
        *(one for one in further if one.gain is not None),
        *(one for one in (*known, *further) if one.gain is None),
    ]
    return tuple(ordered) or (_nothing(context),)


# -- more out of the instances


def _aggregate(context: AdviceContext) -> Advice | None:
    """Advises more rows in a request, and enough requests under way to keep every instance busy."""
    load, instances = context.load, context.instances
    # The parts of a large request keep several instances busy.
    idle = max(load.at_once, load.busy_instances) < _FULL * instances
    more_callers = idle and load.stage_us.get("run", 0.0) >= _LONG_RUN_US
    callers = float(instances) if more_callers else max(1.0, load.at_once)
    keep = f"keep {instances} requests under way instead of {_short(load.at_once)}"
    change: Change = {"requests": instances} if more_callers else {}
    running = float(instances) if more_callers else load.spread
    # In a server the cost of requests grows with their size, which _fuller_requests takes into account.
    larger = [] if context.in_server else _larger_sizes(load.rows, context.most_rows)
    rates = {}
    for rows in (load.rows, *larger):
        rate = _rate(context, rows, _together(context, rows, callers), running)
        if rate is not None:
            rates[rows] = rate
    if not rates:
        return _tried_rate(keep, change, instances / max(1.0, load.at_once), load) if change else None
    rows = min(rows for rows in rates if rates[rows] * _LEAST_GAIN >= max(rates.values()))
    what = [keep] if more_callers else []
    if rows > load.rows:
        what.append(f"send {rows:.0f} rows in a request instead of {_short(load.rows)}")
        change["rows"] = rows
    return _of_rate(" and ".join(what), change, rates[rows], load) if what else None


def _short(number: float) -> str:
    """Writes a number with one decimal place, unless that is 0."""
    return f"{number:.1f}".removesuffix(".0")


def _larger_sizes(rows: float, most: int) -> list[int]:
    """Returns powers of two above `rows`, and the largest size."""
    sizes = [2**power for power in range(most.bit_length()) if rows < 2**power < most]
    return [*sizes, most] if rows < most else sizes


def _together(context: AdviceContext, rows: float, callers: float) -> float:
    """Returns how many rows would run together if requests had this many."""
    load = context.load
    if rows <= load.rows:
        return load.run_rows
    waiting = rows * callers / context.instances if context.merges else rows
    return max(rows, min(waiting, context.most_rows))


def _rate(context: AdviceContext, rows: float, together: float, running: float) -> float | None:
    """Predicts rows per second from a request's rows, a run's rows and the instances; None if unknown."""
    load = context.load
    run_us = load.runs.run_us(together, running)
    run_now_us = load.runs.run_us(load.run_rows, load.busy_instances)
    if run_us is None or run_now_us is None:
        return None
    # A request's cost beside its run is paid once for all its rows, and is assumed to overlap no further.
    then_us = load.idle_us + rows * run_us / together / running
    now_us = load.idle_us + load.rows * run_now_us / load.run_rows / load.spread
    return load.rows_per_s * (rows / then_us) / (load.rows / now_us)


def _more_instances(context: AdviceContext) -> Advice | None:
    load, instances = context.load, context.instances
    possible = context.cores // context.resolved.cpu_threads
    if not context.resolved.on_cpu or instances >= possible or load.at_once <= instances:
        return None
    action = f"instances={possible} instead of {instances}"
    return _tried_rate(action, {"instances": possible}, min(possible, load.at_once) / instances, load)


def _larger_runs(context: AdviceContext) -> Advice | None:
    """Advises a higher limit if more rows always wait than a run may take."""
    load, limit = context.load, context.resolved.batch_limit
    waiting = min(load.rows * load.at_once / context.instances, context.resolved.max_queue_rows)
    if not context.merges or load.run_rows < _FULL * limit or waiting < 2 * limit:
        return None
    predicted = _rate(context, load.rows, 2 * limit, load.spread)
    if predicted is not None:
        action = f"max_batch_size={2 * limit} instead of {limit}"
        return _of_rate(action, {"max_batch_size": 2 * limit}, predicted, load)
    times = min(2 ** int(math.log2(waiting / limit)), _MOST_TRIED)
    action = f"max_batch_size={times * limit} instead of {limit}"
    # A run of more rows takes no less time.
    return _tried_rate(action, {"max_batch_size": times * limit}, times, load)


def _fewer_shapes(context: AdviceContext) -> Advice | None:
    """Advises fewer shapes, because only rows of one shape share a run."""
    load = context.load
    if not context.merges or not load.shapes_differ:
        return None
    waiting = min(load.rows * load.at_once / context.instances, context.most_rows)
    if waiting < _LEAST_GAIN * load.run_rows:
        return None
    what = "larger steps of pad" if context.resolved.pads else "pad"
    action = (
        f"{what}, or fewer shapes, for {load.run_count} runs had {load.shapes} and rows of different shapes "
        f"never share one: {_short(waiting)} rows in a run instead of {_short(load.run_rows)}"
    )
    predicted = _rate(context, load.rows, waiting, load.spread)
    if predicted is None:
        return _tried_rate(action, {}, waiting / load.run_rows, load)
    return _of_rate(action, {}, predicted, load)


def _of_rate(action: str, change: Change, predicted: float | None, load: WorkloadSummary) -> Advice | None:
    if predicted is None or predicted < _LEAST_GAIN * load.rows_per_s:
        return None
    gain = predicted / load.rows_per_s
    sentence = (
        f"{action}: {predicted:,.0f} rows per second instead of {load.rows_per_s:,.0f}, while any request is "
        f"under way, {gain:.1f} times as many"
    )
    return Advice(action, change, "rows_per_s", load.rows_per_s, predicted, gain, None, sentence)


def _tried_rate(action: str, change: Change, at_most: float, load: WorkloadSummary) -> Advice:
    """Makes advice that has to be tried: instances share caches and memory, and larger runs take longer."""
    sentence = (
        f"{action}: at most {at_most:.1f} times as many rows per second as now, {load.rows_per_s:,.0f} while "
        "any request is under way"
    )
    return Advice(action, change, "rows_per_s", load.rows_per_s, None, None, at_most, sentence)


# -- the way to the engine


def _binary(context: AdviceContext) -> Advice | None:
    action = "send binary tensors instead of JSON"
    return _of_time(action, {"tensors": "binary"}, _binary_us(context), context.load)


def _binary_us(context: AdviceContext) -> float:
    """Returns a request's time with binary tensors."""
    stage_us = context.load.stage_us
    return sum(min(us, context.binary_us.get(stage, us)) for stage, us in stage_us.items())


def _fuller_requests(context: AdviceContext) -> Advice | None:
    """Advises more rows in a request: its fixed cost is paid once for all of them."""
    load, rows = context.load, context.most_rows
    run_us = load.runs.run_us(rows, load.busy_instances)
    if run_us is None or load.rows >= rows:
        return None
    # JSON's cost grows with the rows; the cost of binary tensors is about that of any document.
    growing_us = load.request_us - _binary_us(context)
    inside_us = _inside_us(load)
    computing_us = sum(load.stage_us.get(stage, 0.0) for stage in ("gather", "run", "scatter"))
    # Such large requests no longer share runs, so each waits for the runs of the others.
    then_inside_us = max(inside_us - computing_us + run_us, load.at_once * run_us / context.instances)
    around_us = load.request_us - inside_us + growing_us * (rows / load.rows - 1)
    request_us = around_us + then_inside_us
    now, predicted = load.caller_rows_per_s, rows / request_us * 1e6
    if predicted < _LEAST_GAIN * now:
        return None
    action = f"send {rows} rows in a request instead of {_short(load.rows)}"
    sentence = (
        f"{action}: a caller gets {predicted:,.0f} rows per second instead of {now:,.0f}, "
        f"{predicted / now:.1f} times as many"
    )
    return Advice(
        action, {"rows": rows}, "caller_rows_per_s", now, predicted, predicted / now, None, sentence
    )


def _in_process(context: AdviceContext) -> Advice | None:
    return _of_time("call the engine in process", {}, _inside_us(context.load), context.load)


def _inside_us(load: WorkloadSummary) -> float:
    """Returns a request's time without the stages outside the engine."""
    around = ("receive", "decode", "encode", "send")
    return sum(us for stage, us in load.stage_us.items() if stage not in around)


def _of_time(action: str, change: Change, predicted_us: float, load: WorkloadSummary) -> Advice | None:
    if predicted_us <= 0 or load.request_us / predicted_us < _LEAST_GAIN:
        return None
    gain = load.request_us / predicted_us
    sentence = (
        f"{action}: a request takes {predicted_us:,.0f} us instead of {load.request_us:,.0f}, "
        f"{gain:.1f} times faster"
    )
    return Advice(action, change, "request_us", load.request_us, predicted_us, gain, None, sentence)


# -- fewer requests


def _shorter_queue(context: AdviceContext) -> Advice | None:
    """Advises a shorter queue. By Little's law an accepted request waits for the rows before it."""
    load = context.load
    rows = math.ceil(_RUNS_AHEAD * context.instances * max(load.run_rows, load.rows))
    predicted_us = rows / load.rows_per_s * 1e6
    if rows >= context.resolved.max_queue_rows or load.queue_us / predicted_us < _LEAST_GAIN:
        return None
    gain = load.queue_us / predicted_us
    action = f"max_queue_rows={rows}, or deadlines"
    sentence = (
        f"{action}: a request waits {predicted_us:,.0f} us in the queue instead of {load.queue_us:,.0f}, "
        f"{gain:.1f} times less; what cannot be done in time is refused at once"
    )
    return Advice(
        action, {"max_queue_rows": rows}, "queue_us", load.queue_us, predicted_us, gain, None, sentence
    )


# -- what has to be tried


def _warm_up(context: AdviceContext) -> Advice | None:
    load = context.load
    if not context.merges or max(load.rows, load.runs.most_rows) >= context.most_rows / 2:
        return None
    how = "start the server with --warmup" if context.in_server else "call engine.warmup()"
    action = f"{how} and diagnose again"
    most = load.runs.most_rows
    larger = f"runs of more rows than {most:.0f}" if most else "larger runs"
    sentence = f"{action}: what {larger} would gain is not known"
    return Advice(action, {}, "rows_per_s", load.rows_per_s, None, None, None, sentence)


def _graph_passes(group: str, context: AdviceContext) -> Advice | None:
    if not context.legacy or context.resolved.ir_optim:
        return None
    left_us = context.load.request_us - context.load.stage_us.get("run", 0.0)
    if group == "waiting":  # waiting requests wait for runs
        left_us -= context.shares["waiting"] * context.load.request_us
    why = "without it a legacy model runs without graph passes and oneDNN"
    if context.resolved.on_cpu:
        why += f", and runs were faster with it where that was measured, {WORTH}"
    return _to_try("ir_optim=True", {"ir_optim": True}, why, left_us, context)


def _other_device(group: str, context: AdviceContext) -> Advice | None:
    if not context.resolved.on_cpu:
        return None
    # Waiting requests wait for runs.
    left = 1 - context.shares["computation"] - (context.shares["waiting"] if group == "waiting" else 0)
    left_us = left * context.load.request_us
    return _to_try("a GPU, or more cores", {}, "a run there has to be measured", left_us, context)


def _to_try(action: str, change: Change, why: str, left_us: float, context: AdviceContext) -> Advice:
    """Makes advice that has to be tried; `left_us` is the part of a request's time that it cannot shorten."""
    request_us = context.load.request_us
    at_most = request_us / left_us if left_us > 0 else None
    bound = "" if at_most is None else f", so it would be {at_most:,.1f} times faster at most"
    sentence = (
        f"{action}: {why}; of a request's {request_us:,.0f} us at least {left_us:,.0f} would remain{bound}"
    )
    return Advice(action, change, "request_us", request_us, None, None, at_most, sentence)


def _nothing(context: AdviceContext) -> Advice:
    action = "look at the callers, who share the processor"
    sentence = f"{action}: nothing else that is known would gain a tenth"
    return Advice(action, {}, "request_us", context.load.request_us, None, None, None, sentence)
