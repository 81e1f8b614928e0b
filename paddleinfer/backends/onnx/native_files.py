"""What the C interfaces of the runtimes have in common: how they are opened, and what a loaded file says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from paddleinfer.backends.onnx.runtimes import NamedTensor
from paddleinfer.sentences import printable

__all__ = ["NativeFile", "opened"]


class _Library(Protocol):
    @property
    def problem(self) -> str: ...


class _Model(Protocol):
    @property
    def inputs(self) -> Sequence[tuple[str, str, tuple[int, ...]]]: ...
    @property
    def outputs(self) -> Sequence[tuple[str, str, tuple[int, ...]]]: ...


Library = TypeVar("Library", bound=_Library)


def opened(
    runtime: str, file_name: str, path: Path | None, open_library: Callable[[str], Library]
) -> tuple[Library | None, str]:
    """Opens a runtime's library.

    Returns
    -------
    tuple
        The library, and why it cannot be used; empty if it can.
    """
    if path is None:
        return None, f"{runtime} has no {file_name} in its package"
    library = open_library(str(path))
    problem = printable(library.problem)
    return library, f"{path.name} cannot be used: {problem}" if problem else ""


class NativeFile:
    """A loaded file behind a C interface."""

    def __init__(self, model: _Model) -> None:
        self._described = model

    @property
    def inputs(self) -> list[NamedTensor]:
        """Its inputs, in its order."""
        return [NamedTensor(name, dtype) for name, dtype, _ in self._described.inputs]

    @property
    def outputs(self) -> list[str]:
        """The names of its outputs, in its order."""
        return [name for name, *_ in self._described.outputs]
