"""The options in force for one load of a model, and who decided each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal

from paddleinfer.config import EngineConfig
from paddleinfer.models.spec import Batchable

__all__ = ["Decision", "Note", "ResolvedOptions", "Source"]

Note = str | Callable[[], str]
"""A sentence on an option; a function where the sentence says what has been measured so far."""
Source = Literal["default", "option", "auto", "paddle", "model", "measured", "environment", "tuned"]
"""See ``Engine.effective_config``."""


@dataclass(frozen=True)
class Decision:
    """The value of one option, who decided it, and why."""

    value: Any
    source: Source
    note: Note = ""

    def as_dict(self) -> dict[str, Any]:
        """Returns a line of the report as plain data."""
        line = {
            "value": self.value.value if isinstance(self.value, Enum) else self.value,
            "source": self.source,
        }
        note = self.note() if callable(self.note) else self.note
        return {**line, "note": note} if note else line


class ResolvedOptions:
    """The options in force. They begin as the caller gave them; code that decides otherwise says so, and why.

    Parameters
    ----------
    config
        What the caller gave.
    """

    def __init__(self, config: EngineConfig) -> None:
        defaults = EngineConfig().flat()
        self._decisions: dict[str, Decision] = {
            name: Decision(value, "default" if value == defaults[name] else "option")
            for name, value in config.flat().items()
        }
        self._tuned = {name for name, origin in config.origins.items() if origin == "tuned"}
        for name in self._tuned:
            self.decide(name, self._decisions[name].value, "tuned")

    def decide(self, name: str, value: Any, source: Source, note: Note = "") -> None:
        """Puts `value` in force from now on; what a tuning file gave is "tuned" where it says "option"."""
        if name not in self._decisions:
            raise KeyError(name)
        if source == "option" and name in self._tuned:
            source = "tuned"
        self._decisions[name] = Decision(value, source, note)

    def note(self, name: str, note: Note) -> None:
        """Adds a sentence about the value in force, which stays."""
        self._decisions[name] = replace(self._decisions[name], note=note)

    def add_note(self, name: str, sentence: str) -> None:
        """Adds a sentence to those about the value in force."""
        before = self._decisions[name].note
        assert isinstance(before, str)
        self.note(name, f"{before}; {sentence}" if before else sentence)

    def name_paddle(self, version: str) -> None:
        """Has the report name the installed Paddle."""
        self._decisions = {"paddle": Decision(version, "paddle"), **self._decisions}

    def source(self, name: str) -> Source:
        """Returns who decided this option."""
        return self._decisions[name].source

    def report(self) -> dict[str, dict[str, Any]]:
        """See ``Engine.effective_config``."""
        return {name: decision.as_dict() for name, decision in self._decisions.items()}

    @property
    def instances(self) -> int:
        """Predictors that may run at the same time."""
        return int(self._decisions["instances"].value)

    @property
    def batchable(self) -> Batchable:
        """Whether requests may share a run."""
        return Batchable(self._decisions["batchable"].value)

    @property
    def batch_limit(self) -> int:
        """Rows that run together at most."""
        allowed = self._decisions["allowed_batch_sizes"].value
        return int(allowed[-1] if allowed else self._decisions["max_batch_size"].value)

    @property
    def max_queue_rows(self) -> int:
        """Rows that may wait at once."""
        return int(self._decisions["max_queue_rows"].value)

    @property
    def cpu_threads(self) -> int:
        """Threads of Paddle's math library inside one instance."""
        return int(self._decisions["cpu_threads"].value)

    @property
    def on_paddle(self) -> bool:
        """Whether Paddle runs the model."""
        return bool(self._decisions["backend"].value == "paddle")

    @property
    def ir_optim(self) -> bool:
        """Whether Paddle runs its graph passes."""
        return bool(self._decisions["ir_optim"].value)

    @property
    def onednn(self) -> bool:
        """Whether Paddle runs oneDNN's kernels."""
        return self._decisions["onednn"].value is True

    @property
    def shares_weights(self) -> bool:
        """Whether instances share one copy of the weights; asked for, until the model is loaded."""
        return bool(self._decisions["share_weights"].value)

    @property
    def inline(self) -> bool:
        """Whether a caller's thread may run the model."""
        return bool(self._decisions["inline"].value)

    @property
    def on_cpu(self) -> bool:
        """Whether no run is on a GPU."""
        return bool(self._decisions["device"].value == "cpu")

    @property
    def pads(self) -> bool:
        """Whether axes are padded."""
        return bool(self._decisions["pad"].value)
