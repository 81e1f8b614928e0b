"""What an engine says of itself: its model, its statistics, its options in force, traces and diagnoses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paddleinfer.backends.processors import usable_cores
from paddleinfer.config import EngineConfig
from paddleinfer.diagnosis.diagnosis import Diagnosis, diagnose
from paddleinfer.engine.generation import Generation
from paddleinfer.engine.generations import Generations
from paddleinfer.errors import ConfigError
from paddleinfer.models.reader import ModelSpec, TensorSpec
from paddleinfer.sentences import shown
from paddleinfer.tracing.timeline import Activity
from paddleinfer.tracing.trace import Trace, Tracing

__all__ = ["EngineIntrospection"]


class EngineIntrospection:
    """The side of an engine that callers look at."""

    _generations: Generations
    _config: EngineConfig
    _tracing: Tracing

    @property
    def _generation(self) -> Generation:
        """The one in service."""
        return self._generations.present

    @property
    def model(self) -> ModelSpec:
        """The model as its files describe it."""
        return self._generation.spec

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs, in order."""
        return self._generation.spec.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs, in order."""
        return self._generation.spec.outputs

    @property
    def generation(self) -> int:
        """The number of the model in service: 1, and one more after each reload."""
        return self._generation.number

    @property
    def closed(self) -> bool:
        """Whether close() was called, or the engine belongs to a process that this one was forked from."""
        core = self._generation.core
        return core.closed or core.forked

    def stats(self) -> dict[str, Any]:
        """Counters since the engine began, and what is queued and running now. Durations in nanoseconds.

        ``generation`` is the number of the model in service: 1, and one more after each reload. All else is
        of all generations together.

        ``requests`` and ``rows`` count what was accepted; it ends as ``results``, ``errors``, ``cancelled``,
        ``expired``, ``shed`` or ``closed``; ``refused`` never was. ``executions`` counts runs of the model,
        ``executed_rows`` their rows, ``batch_rows`` how many runs had how many rows; the few runs that find
        out whether rows may share one are left out. ``queue_ns`` is the sum over requests, ``result_ns``
        (arrival to result) over those with a result, ``gather_ns``, ``run_ns`` and ``scatter_ns`` over runs.
        ``queue_ns_counts`` and ``result_ns_counts`` say how many of the former two took how long: up to each
        bound in nanoseconds, and longer than the bound before it; the last bound is infinite.

        What the engine runs for itself, to warm up or to check, is no traffic: ``internal_runs`` counts such
        runs, and nothing else does. ``verified_requests`` counts requests whose rows in a shared run were
        compared with what they give alone, ``verification_failures`` the comparisons that found a difference.
        """
        present = self._generation
        present.check_process()
        return {"generation": present.number, **self._generations.statistics.stats()}

    def trace(self, max_requests: int = 100_000) -> Trace:
        """Records what the engine does while the ``with`` block runs, also over a reload.

        Parameters
        ----------
        max_requests
            How many requests, and runs, are kept: the last ones. About 200 bytes each.

        Raises
        ------
        ConfigError
            `max_requests` is out of range.
        """
        return Trace(self._tracing, self._generation.label, max_requests)

    def recent_activity(self) -> Activity:
        """The last ``trace_requests`` requests and runs, for ``timeline.chrome_trace``; also when closed."""
        requests, runs = self._tracing.recent()
        ended, _ = self._tracing.ring.recorded()
        return Activity(self._generation.label, requests, runs, max(0, ended - len(requests)))

    def diagnose(
        self,
        outer_us: Mapping[str, Sequence[float]] | None = None,
        binary_us: Mapping[str, float] | None = None,
    ) -> Diagnosis:
        """Where the time of the last ``trace_requests`` requests went, what would help, and by how much.

        Parameters
        ----------
        outer_us
            What happened to the same requests around the engine: "receive", "decode", "encode" or "send" ->
            microseconds of each request.
        binary_us
            Of requests in JSON: what the same stages would take with binary tensors, on average.

        Raises
        ------
        ConfigError
            ``trace_requests`` is 0, so nothing is known.
        """
        if self._config.trace_requests == 0:
            raise ConfigError("trace_requests=0 records nothing; diagnose() needs it to be above 0")
        generation = self._generation
        requests, runs = self._tracing.recent()
        legacy = generation.spec.format.is_legacy
        return diagnose(
            requests,
            runs,
            outer_us or {},
            generation.resolved,
            usable_cores(),
            legacy,
            binary_us or {},
            generation.warmed,
        )

    def effective_config(self) -> dict[str, dict[str, Any]]:
        """What is in force: option -> {"value", "source", and a "note" where there is something to know}.

        After a reload it is of the model then in service.

        ``source`` is "default", "option", "auto" (decided here, the note says why), "paddle" (its own
        default), "model" (its file says so), "measured" (found out by running it) or "environment".
        """
        generation = self._generation
        generation.core.poll_updates()
        return generation.resolved.report()

    def __repr__(self) -> str:
        generation = self._generation
        spec, core = generation.spec, generation.core
        state = "forked" if core.forked else "closed" if core.closed else "open"
        inputs = ", ".join(tensor.name for tensor in spec.inputs)
        outputs = ", ".join(tensor.name for tensor in spec.outputs)
        instances = generation.resolved.instances
        return f"<Engine {shown(str(spec.path))}: {inputs} -> {outputs}, instances={instances}, {state}>"
