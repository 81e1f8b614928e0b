"""Describes an engine: its model, its statistics, its options in force, traces and diagnoses."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from paddleinfer.backends.processors import usable_cores
from paddleinfer.config import EngineConfig
from paddleinfer.diagnosis.diagnosis import Diagnosis, diagnose
from paddleinfer.engine.generation import Generation
from paddleinfer.engine.generations import Generations
from paddleinfer.engine.scaling import ScalingSignals, ScalingWindow
from paddleinfer.errors import ConfigError
from paddleinfer.models.reader import ModelSpec, TensorSpec
from paddleinfer.sentences import shown
from paddleinfer.tracing.timeline import Activity
from paddleinfer.tracing.trace import Trace, Tracing

__all__ = ["EngineIntrospection"]


class EngineIntrospection:
    """The part of an engine that callers inspect."""

    _generations: Generations
    _config: EngineConfig
    _tracing: Tracing
    _scaling: ScalingWindow

    @property
    def _generation(self) -> Generation:
        """The generation in service."""
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
    def memory_bytes(self) -> int:
        """The bytes that the weights of all instances take, by the files' sizes and what is in force.

        Weights that instances share count once, and oneDNN's copies once for each instance. What runs take
        while they last is not in there. A function has 0.
        """
        return self._generation.memory_bytes

    @property
    def closed(self) -> bool:
        """Whether close() was called, or the engine belongs to the process that this one was forked from."""
        core = self._generation.core
        return core.closed or core.forked

    def stats(self) -> dict[str, Any]:
        """Returns counters since the engine began, and what is queued and running now, in nanoseconds.

        ``generation`` is the number of the model in service: 1, and one more after each reload. All other
        values cover all generations together.

        ``requests`` and ``rows`` count accepted requests, each of which ends as one of ``results``,
        ``errors``, ``cancelled``, ``expired``, ``shed`` and ``closed``; ``refused`` requests were never
        accepted. ``executions`` counts runs of the model, ``executed_rows`` their rows, and ``batch_rows``
        how many runs had how many rows; the few runs that find out whether rows may share one are left out.
        ``queue_ns`` is the sum over requests, ``result_ns`` (arrival to result) over those with a result,
        ``gather_ns``, ``run_ns`` and ``scatter_ns`` over runs. ``queue_ns_counts`` and ``result_ns_counts``
        say how many requests took how long in the first two: up to each bound in nanoseconds, and longer than
        the bound before it; the last bound is infinite.

        Only ``internal_runs`` counts the runs that the engine makes for itself, to warm up or to check.
        ``verified_requests`` counts requests whose rows in a shared run were compared with what they give
        alone, ``verification_failures`` the comparisons that found a difference.

        ``offered_work_ns`` is the time that one instance would take for all requests that came, refused ones
        too, in runs of the best size that leaves their deadlines time; ``predicted_drain_ns`` is how long
        what is queued now is predicted to take.
        """
        present = self._generation
        present.check_process()
        return {"generation": present.number, **self._generations.statistics.stats()}

    def scaling_signals(self) -> ScalingSignals:
        """Returns what an autoscaler should know of the last half minute, such as the replicas needed.

        It is of the time since the last call if that is longer.
        """
        instances = max(1, self._generation.resolved.instances)
        return self._scaling.signals(self.stats(), time.monotonic(), instances=instances)

    def trace(self, max_requests: int = 100_000) -> Trace:
        """Records what the engine does while the ``with`` block runs, also over a reload.

        Parameters
        ----------
        max_requests
            How many of the last requests, and of the last runs, are kept, at about 200 bytes each.

        Raises
        ------
        ConfigError
            `max_requests` is out of range.
        """
        return Trace(self._tracing, self._generation.label, max_requests)

    def recent_activity(self) -> Activity:
        """Returns the last ``trace_requests`` requests and runs, even after close()."""
        requests, runs = self._tracing.recent()
        ended, _ = self._tracing.ring.recorded()
        return Activity(self._generation.label, requests, runs, max(0, ended - len(requests)))

    def diagnose(
        self,
        outer_us: Mapping[str, Sequence[float]] | None = None,
        binary_us: Mapping[str, float] | None = None,
    ) -> Diagnosis:
        """Tells where the last ``trace_requests`` requests spent their time, and what would help how much.

        Parameters
        ----------
        outer_us
            The stages of the same requests outside the engine: "receive", "decode", "encode" or "send" ->
            microseconds of each request.
        binary_us
            For requests in JSON: what the same stages would take with binary tensors, on average.

        Raises
        ------
        ConfigError
            ``trace_requests`` is 0, so nothing is recorded.
        """
        if self._config.trace_requests == 0:
            raise ConfigError("trace_requests=0 records nothing; diagnose() needs it to be above 0")
        generation = self._generation
        requests, runs = self._tracing.recent()
        legacy = generation.spec.format.is_legacy and generation.resolved.on_paddle
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
        """Returns the options in force: option -> {"value", "source", and in some cases a "note"}.

        They are those of the model in service.

        ``source`` is "default", "option", "auto" (the engine decided, and the note says why), "paddle" (its
        own default), "model" (its file says so), "measured" (runs have shown it), "environment", or "tuned"
        (the file of ``tuning_file`` says so).
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
