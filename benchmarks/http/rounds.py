"""Runs the rounds of bench_http: every server once a round, at every number of connections.

Ours and the bare application run side by side, and each load on ours has its counterpart seconds later; an
idle one does nothing. Every other server runs alone.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from benchmarks.baselines import Process
from benchmarks.harness import Effort
from benchmarks.http import variants
from benchmarks.http.envs import Unavailable
from benchmarks.http.load import Array, Ask, GrpcAsk, Load, answer_to, get, grpc_answer_to
from benchmarks.http.server import Server
from benchmarks.http.variants import BASELINES, CEILING_GRPC, OURS_BINARY, OURS_GRPC, OURS_JSON, VARIANTS
from benchmarks.models import MODELS

CONNECTIONS = (1, 32, 128)
_WARM_UP_CONNECTIONS = 32


@dataclass(frozen=True)
class Lengths:
    """Rounds, and whole seconds, because wrk takes no others."""

    rounds: int
    warm_up: int
    seconds: int

    @classmethod
    def of(cls, effort: Effort) -> Lengths:
        """Returns fewer and longer loads than elsewhere, because a server takes seconds to start."""
        return cls(
            (effort.rounds + 1) // 2, max(1, round(2 * effort.seconds)), max(1, round(4 * effort.seconds))
        )


@dataclass
class Measured:
    """Everything measured on one model, round by round."""

    in_force: Mapping[str, str]
    """Our engine's options."""
    loads: dict[str, dict[int, list[Load]]] = field(default_factory=dict)
    """Variant -> connections -> the load of each round."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Variant -> why it was left out."""


@dataclass(frozen=True)
class Running:
    """A variant and its running server."""

    server: Server
    ask: Ask | GrpcAsk


class Stage:
    """One model: its right answer, and servers for it."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._row: Array = MODELS[model].feed(1)["x"]
        with contextlib.closing(Process(model, 1)) as plain:
            (self._expected,) = plain.outputs
        self.asks = {
            variant: variants.ask_ours(self._row, binary=variant == OURS_BINARY)
            for variant in variants.CEILING_OF
        }
        with self._start(variants.OURS, self.asks[OURS_JSON], {}) as server:
            self.in_force = _in_force(server)
        # The variables that the engine sets for itself before Paddle is loaded.
        self._environment = {"MKL_DEBUG_CPU_TYPE": "5"} if self.in_force.get("mkl_amd") == "True" else {}

    @contextlib.contextmanager
    def ours(self) -> Iterator[dict[str, Running]]:
        """Starts our server, and the bare ones that return its answers."""
        with contextlib.ExitStack() as stack:
            probe = self.asks[OURS_JSON]
            server = stack.enter_context(self._start(variants.OURS, probe, {}))
            running = {variant: Running(server, ask) for variant, ask in self.asks.items()}
            grpc_ask = variants.ask_ours_grpc(self._row)
            running[OURS_GRPC] = Running(server, grpc_ask)
            self.check(running)
            answers = {variant: answer_to(server.url, ask) for variant, ask in self.asks.items()}
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            place, grpc_place = folder / "answers.json", folder / "answer"
            place.write_text(variants.ceiling_answers(answers))
            asks = {
                variants.CEILING_OF[variant]: variants.ask_ceiling(ask, variant)
                for variant, ask in self.asks.items()
            }
            probe = next(iter(asks.values()))
            bare = stack.enter_context(self._start(variants.CEILING, probe, {"BENCH_ANSWERS": str(place)}))
            running |= {variant: Running(bare, ask) for variant, ask in asks.items()}
            grpc_place.write_bytes(grpc_answer_to(server.grpc_port, grpc_ask))
            bare_grpc = self._start(variants.GRPC_CEILING, grpc_ask, {"BENCH_ANSWER": str(grpc_place)})
            running[CEILING_GRPC] = Running(stack.enter_context(bare_grpc), grpc_ask)
            self.check(running)
            yield running
            self.check(running)

    @contextlib.contextmanager
    def baseline(self, variant: str) -> Iterator[dict[str, Running]]:
        """Starts one of the other servers."""
        ask = variants.ask_baseline(variant, self._row)
        with self._start(BASELINES[variant], ask, self._environment) as server:
            running = {variant: Running(server, ask)}
            self.check(running)
            yield running
            self.check(running)

    def check(self, running: Mapping[str, Running]) -> None:
        """Raises Unavailable unless every variant gives the model's answer."""
        for one in running.values():
            one.server.check(one.ask, self._expected)

    def _start(self, start: variants.Start, probe: Ask | GrpcAsk, environment: Mapping[str, str]) -> Any:
        return contextlib.closing(Server(self._model, start, probe, environment))


def measure(
    model: str, lengths: Lengths, say: Callable[[str], None], baselines: Collection[str] = tuple(BASELINES)
) -> Measured:
    """Measures all rounds of ours and of these. A variant whose server fails in any of them is left out."""
    stage = Stage(model)
    served = [variant for variant in VARIANTS if variant not in BASELINES or variant in baselines]
    measured = Measured(stage.in_force, {variant: {count: [] for count in CONNECTIONS} for variant in served})
    groups: list[str | None] = [None, *baselines]
    for turn in range(lengths.rounds):
        first = turn % len(groups)
        for variant in groups[first:] + groups[:first]:
            if variant in measured.left_out:
                continue
            say(f"round {turn + 1} of {lengths.rounds}: {variant or 'ours and the bare application'}")
            try:
                with stage.ours() if variant is None else stage.baseline(variant) as running:
                    _round(measured, running, lengths, turn)
            except Unavailable as error:
                if variant is None:
                    raise SystemExit(f"our own server failed: {error}") from error
                measured.left_out[variant] = str(error)
                del measured.loads[variant]
                say(f"{variant} is left out: {error}")
    return measured


def _round(measured: Measured, running: Mapping[str, Running], lengths: Lengths, turn: int) -> None:
    for one in running.values():
        one.server.load(one.ask, _WARM_UP_CONNECTIONS, lengths.warm_up)
    names = list(running)
    first = turn % len(names)
    for connections in CONNECTIONS:
        for variant in names[first:] + names[:first]:
            one = running[variant]
            measured.loads[variant][connections].append(
                one.server.load(one.ask, connections, lengths.seconds)
            )


def _in_force(server: Server) -> dict[str, str]:
    parameters = orjson.loads(get(server.url + "/v2/models/m/config"))["parameters"]
    return {name: value["string_value"] for name, value in parameters.items()}
