"""What a runtime of ONNX models offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from paddleinfer import _ext
from paddleinfer.resolved_options import ResolvedOptions

__all__ = ["Driver", "LoadedFile", "NamedTensor", "Runtime"]

Driver = Literal["native", "python"]


@dataclass(frozen=True)
class NamedTensor:
    """An input or output of a loaded .onnx file."""

    name: str
    """One of its names."""
    dtype: str | None
    """Empty if no array has it; None if the driver does not say."""


class LoadedFile(Protocol):
    """A .onnx file that a runtime has loaded, for all instances of an engine."""

    @property
    def inputs(self) -> Sequence[NamedTensor]:
        """Its inputs, in its order."""

    @property
    def outputs(self) -> Sequence[str]:
        """The names of its outputs, in its order."""

    def place_of(self, name: str) -> int:
        """Returns where the input with this name is among its inputs; negative where there is none."""

    def backends(self, places: Sequence[tuple[str, int]]) -> _ext.BackendFactory:
        """Returns what makes the instances.

        Parameters
        ----------
        places
            For each input of the engine its name, and where it is among the file's; negative for one that
            the file does not have.
        """


class Runtime(Protocol):
    """A runtime of ONNX models, as it is installed here."""

    @property
    def name(self) -> str:
        """How sentences call it."""

    @property
    def version(self) -> str:
        """The installed version."""

    @property
    def python_call(self) -> str:
        """What the driver "python" calls."""

    @property
    def weight_copies(self) -> int:
        """How often it has the weights in memory."""

    def native_problem(self) -> str:
        """Opens its C interface, and says why that cannot be used; empty if it can."""

    def load(self, path: Path, driver: Driver, resolved: ResolvedOptions) -> LoadedFile:
        """Loads a file for the instances and threads that the options name, and notes how they compute.

        Raises
        ------
        RuntimeError
            It cannot.
        """

    def told(self, failure: str) -> str:
        """Returns the text of a failure as a sentence."""
