"""Which axes are padded, so that requests of different lengths share batches."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field

from paddleinfer.config.checks import check_bool, check_int, checked_sizes, is_int, is_real
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["PadAxis"]


@dataclass(frozen=True)
class PadAxis:
    """An axis, shared by some inputs, that is padded so that requests of different lengths share batches.

    Raises
    ------
    ConfigError
        A field is out of range; the sentence says what would be right.
    """

    inputs: Mapping[str, int]
    """Input -> its axis, 1 or more."""
    outputs: Mapping[str, int] = field(default_factory=dict)
    """Output -> its axis that is as long as the input's, or shorter by ``per``; results are cropped there."""
    per: Mapping[str, int] = field(default_factory=dict)
    """Output -> input elements that give one of its own, rounded up: 8 if 220 columns give 28 steps."""
    sizes: tuple[int, ...] = ()
    """Rising lengths; a request is padded to the next. One longer than all is left as it is."""
    multiple: int = 1
    """A number instead of sizes: a request is padded to its next multiple."""
    fill: Mapping[str, float] = field(default_factory=dict)
    """Input -> the value of its padding; 0 where not given."""
    max_waste: float = 1.0
    """The largest share of padding: a request that would need more is left as it is."""
    mask: str | None = None
    """An input of shape (rows, length) that is 1 where data is and 0 where padding is; made if not given."""
    lengths: str | None = None
    """An input that holds each row's length; made if the caller does not give it."""
    split_rows: bool = False
    """Rows whose own ``lengths`` (or ``mask``) differ run in the batches of their lengths, and are joined."""
    output_fill: Mapping[str, float] = field(default_factory=dict)
    """Output -> the value put after the end of a shorter row where rows were split; 0 where not given."""

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs"):
            axes = getattr(self, name)
            fits = isinstance(axes, Mapping) and all(
                isinstance(tensor, str) and is_int(axis) and axis >= 1 for tensor, axis in axes.items()
            )
            if not fits or (name == "inputs" and not axes):
                raise ConfigError(
                    f"{name} of PadAxis must map tensor names to axes from 1 up, not {shown(axes)}"
                )
        object.__setattr__(self, "sizes", checked_sizes("sizes of PadAxis", self.sizes, 1 << 31))
        check_int("multiple of PadAxis", self.multiple, 1, 1 << 31)
        if bool(self.sizes) == (self.multiple > 1):
            raise ConfigError("PadAxis needs sizes, or a multiple above 1, and not both")
        if not isinstance(self.fill, Mapping) or not all(
            isinstance(tensor, str) and is_real(value) for tensor, value in self.fill.items()
        ):
            raise ConfigError(f"fill of PadAxis must map input names to numbers, not {shown(self.fill)}")
        for name in ("mask", "lengths"):
            if not isinstance(getattr(self, name), (str, types.NoneType)):
                raise ConfigError(f"{name} of PadAxis must name an input, not {shown(getattr(self, name))}")
        if self.lengths is not None and self.lengths in (*self.inputs, self.mask):
            raise ConfigError(
                f"lengths of PadAxis names {shown(self.lengths)}, which is padded itself; it names the input "
                "that holds each row's length"
            )
        self._check_outputs()
        if not is_real(self.max_waste) or not 0 <= self.max_waste <= 1:
            raise ConfigError(f"max_waste of PadAxis must be from 0 to 1, not {shown(self.max_waste)}")

    def _check_outputs(self) -> None:
        check_bool("split_rows of PadAxis", self.split_rows)
        if self.split_rows and self.lengths is None and self.mask is None:
            raise ConfigError(
                "split_rows of PadAxis needs lengths or mask, an input that says how long each row is"
            )
        for name, kind in (("per", "numbers of elements"), ("output_fill", "values")):
            given = getattr(self, name)
            if not isinstance(given, Mapping):
                raise ConfigError(f"{name} of PadAxis must map output names to {kind}, not {shown(given)}")
            for output, value in given.items():
                if output not in self.outputs:
                    raise ConfigError(f"{name} of PadAxis names {shown(output)}, which its outputs do not")
                if not is_real(value):
                    raise ConfigError(
                        f"{name} of PadAxis must map output names to {kind}, not {shown(given)}"
                    )
        for output, count in self.per.items():
            check_int(f"per of PadAxis for {shown(output)}", count, 1, 1 << 31)
        if self.output_fill and not self.split_rows:
            raise ConfigError("output_fill of PadAxis has no effect without split_rows=True")
