"""Makes up rows, to warm up and to check that a model runs at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.config import EngineConfig
from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.models.paddleocr_shapes import FILE_NAME, NamedSizes, read_sizes
from paddleinfer.models.reader import ModelSpec, TensorSpec
from paddleinfer.resolved_options import ResolvedOptions

__all__ = ["ExampleShapes", "row_of_numbers", "row_of_random"]

Array = npt.NDArray[Any]
Sizes = tuple[int, ...]

_SEED = 1


class ExampleShapes:
    """The sizes beyond the rows of a made-up row: from the option, else from the model.

    Raises
    ------
    ConfigError
        The option names no input of the model, or sizes that it cannot have.
    """

    def __init__(self, spec: ModelSpec, config: EngineConfig, resolved: ResolvedOptions) -> None:
        self._spec = spec
        self._given = _given(spec, config.example_shapes)
        self._named: Mapping[str, NamedSizes] = {}
        if spec.program_path is not None and not self._given:
            read = read_sizes(spec.program_path.with_name(FILE_NAME))
            self._named = {
                tensor.name: read[tensor.name]
                for tensor in spec.inputs
                if tensor.name in read and _fits(read[tensor.name].usual[1:], tensor)
            }
        if self._named:
            usual = {name: sizes.usual[1:] for name, sizes in self._named.items()}
            spans = ", ".join(
                f"{name} from {_text(sizes.least[1:])} to {_text(sizes.largest[1:])}"
                for name, sizes in self._named.items()
            )
            resolved.decide("example_shapes", usual, "model", f"{FILE_NAME} names {spans}")

    @property
    def origin(self) -> str:
        """The source of sizes that the model leaves free: the option, a file beside the model, or none."""
        return "example_shapes" if self._given else FILE_NAME if self._named else ""

    def shapes(self, *, least: bool = False) -> list[Sizes]:
        """Returns the shape of one row of each input, in order.

        Raises
        ------
        InvalidInput
            The sizes of an input are free, and nothing gives them; the sentence names the input.
        """
        return [self._shape(tensor, least) for tensor in self._spec.inputs]

    def _shape(self, tensor: TensorSpec, least: bool) -> Sizes:
        rows = 1 if tensor.shape is None or not tensor.shape or tensor.shape[0] < 0 else tensor.shape[0]
        if tensor.name in self._given:
            return (rows, *self._given[tensor.name])
        if tensor.name in self._named:
            named = self._named[tensor.name]
            sizes = named.least if least and _fits(named.least[1:], tensor) else named.usual
            return (rows, *sizes[1:])
        if tensor.shape is None or any(size < 0 for size in tensor.shape[1:]):
            raise InvalidInput(
                f"input {tensor.name!r} has the shape {tensor.shape}; give an example row or example_shapes, "
                "for its sizes cannot be guessed"
            )
        return (rows, *tensor.shape[1:]) if tensor.shape else ()


def _given(spec: ModelSpec, shapes: Mapping[str, Sizes]) -> dict[str, Sizes]:
    tensors = {tensor.name: tensor for tensor in spec.inputs}
    tensors.update({tensor.alias: tensor for tensor in spec.inputs if tensor.alias is not None})
    found: dict[str, Sizes] = {}
    for name, sizes in shapes.items():
        tensor = tensors.get(name)
        if tensor is None:
            known = ", ".join(tensors) or "none"
            raise ConfigError(f"example_shapes names the input {name!r}, and the model's inputs are {known}")
        if not _fits(sizes, tensor):
            assert tensor.shape is not None
            raise ConfigError(
                f"example_shapes gives the input {name!r} the sizes {_text(sizes)} beyond the rows, and the "
                f"model takes {_text(tensor.shape[1:])}"
            )
        found[tensor.name] = tuple(sizes)
    return found


def _fits(sizes: Sizes, tensor: TensorSpec) -> bool:
    if tensor.shape is None:
        return True
    return len(sizes) == max(0, len(tensor.shape) - 1) and all(
        known in (-1, size) for size, known in zip(sizes, tensor.shape[1:], strict=True)
    )


def _text(sizes: Sizes) -> str:
    return "x".join("any" if size < 0 else str(size) for size in sizes) or "none"


def row_of_numbers(spec: ModelSpec, shapes: list[Sizes], most_bytes: int, number: int) -> list[Array]:
    """Makes rows that hold one number everywhere.

    Raises
    ------
    InvalidInput
        Arrays of such shapes have more than `most_bytes`, or there is no memory for them.
    """

    def numbers(tensor: TensorSpec, shape: Sizes) -> Array:
        return np.full(shape, number, _ext.NUMPY_DTYPES[tensor.dtype])

    return _made(spec, shapes, most_bytes, numbers)


def row_of_random(spec: ModelSpec, shapes: list[Sizes], most_bytes: int) -> list[Array]:
    """Makes rows of random numbers, and of zeros for integers.

    Raises
    ------
    InvalidInput
        Arrays of such shapes have more than `most_bytes`, or there is no memory for them.
    """
    random = np.random.default_rng(_SEED)

    def randoms(tensor: TensorSpec, shape: Sizes) -> Array:
        dtype = _ext.NUMPY_DTYPES[tensor.dtype]
        floats = tensor.dtype.startswith(("float", "bfloat"))
        return random.standard_normal(shape).astype(dtype) if floats else np.zeros(shape, dtype)

    return _made(spec, shapes, most_bytes, randoms)


def _made(
    spec: ModelSpec, shapes: list[Sizes], most_bytes: int, make: Callable[[TensorSpec, Sizes], Array]
) -> list[Array]:
    made = []
    for tensor, shape in zip(spec.inputs, shapes, strict=True):
        row = f"one row of input {tensor.name!r} with the sizes {_text(shape[1:])}"
        row_bytes = math.prod(shape) * _ext.NUMPY_DTYPES[tensor.dtype].itemsize
        if row_bytes > most_bytes:  # no request could have such a row
            raise InvalidInput(f"{row} has {row_bytes} bytes, and max_queue_bytes allows {most_bytes}")
        try:
            made.append(make(tensor, shape))
        except (
            MemoryError,
            ValueError,
        ) as error:  # ValueError: an empty array whose other sizes are too large
            raise InvalidInput(f"there is no memory for {row}") from error
    return made
