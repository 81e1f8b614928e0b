"""Runs a Python function in the place of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.backends.paddle.errors import useful_line
from paddleinfer.config import EngineConfig, RuntimeOptions, is_int
from paddleinfer.errors import ConfigError
from paddleinfer.models.reader import Batchable, ModelFormat, ModelSpec, TensorSpec
from paddleinfer.resolved_options import ResolvedOptions
from paddleinfer.sentences import shown

__all__ = ["FunctionModel", "prepare", "spec_of"]

Array = npt.NDArray[Any]
Description = Mapping[str, tuple[str, Sequence[int]]]


def spec_of(fn: object, inputs: Description, outputs: Sequence[str] | Description) -> ModelSpec:
    """Describes a callable as a ModelSpec.

    Raises
    ------
    ConfigError
        An argument is wrong.
    """
    if not callable(fn):
        raise ConfigError(f"from_callable takes a function, not {shown(fn)}")
    if not isinstance(inputs, Mapping) or not inputs:
        raise ConfigError(
            f"inputs must be a dict of name -> (dtype, shape) with one input at least, not {shown(inputs)}"
        )
    if isinstance(outputs, Mapping):
        described = tuple(_tensor("output", name, value) for name, value in outputs.items())
    elif isinstance(outputs, (list, tuple)) and all(isinstance(name, str) for name in outputs):
        described = tuple(TensorSpec(name, None, "", None) for name in outputs)
    else:
        raise ConfigError(
            f"outputs must be a list of names, or a dict of name -> (dtype, shape), not {shown(outputs)}"
        )
    if not described or len({tensor.name for tensor in described}) != len(described):
        raise ConfigError(f"outputs must name each output once: {shown(outputs)}")
    tensors = tuple(_tensor("input", name, value) for name, value in inputs.items())
    fixed = [tensor.name for tensor in tensors if not tensor.shape or tensor.shape[0] >= 0]
    reason = (
        f"input {shown(fixed[0])} has no free leading dimension"
        if fixed
        else "its inputs are declared with free rows"
    )
    return ModelSpec(
        path=Path(getattr(fn, "__qualname__", type(fn).__qualname__)),
        format=ModelFormat.CALLABLE,
        program_path=None,
        params_path=None,
        model_dir=None,
        inputs=tensors,
        outputs=described,
        parameters=(),
        batchable=Batchable.NO if fixed else Batchable.UNKNOWN,
        batchable_reason=reason,
    )


def _tensor(kind: str, name: object, value: object) -> TensorSpec:
    if not (isinstance(name, str) and name and isinstance(value, (list, tuple)) and len(value) == 2):
        raise ConfigError(f"{kind} {shown(name)} must be described as (dtype, shape), not {shown(value)}")
    dtype, shape = value
    if not isinstance(dtype, str) or dtype not in _ext.DTYPE_NAMES:
        raise ConfigError(
            f"{kind} {shown(name)} has dtype {shown(dtype)}; it must be one of {', '.join(_ext.DTYPE_NAMES)}"
        )
    sizes = tuple(shape) if isinstance(shape, (list, tuple)) else None
    if sizes is None or not all(is_int(size) and (size > 0 or size == -1) for size in sizes):
        raise ConfigError(
            f"{kind} {shown(name)} has shape {shown(shape)}; sizes are positive, or -1 where they are free"
        )
    if len(sizes) > _ext.MAX_RANK:
        raise ConfigError(
            f"{kind} {shown(name)} has {len(sizes)} dimensions; at most {_ext.MAX_RANK} are supported"
        )
    return TensorSpec(name, None, dtype, sizes)


@dataclass(frozen=True)
class FunctionModel:
    """A Python function, ready to be started on an engine's core."""

    fn: Callable[[dict[str, Array]], Any]
    spec: ModelSpec
    resolved: ResolvedOptions
    inline: bool = False
    memory_bytes: int = 0
    """None: nobody knows what a function needs."""
    empty_inputs: None = None
    reference: None = None
    """A function is not compared with Paddle."""
    check_shapes: None = None

    def explain(self, failure: str) -> str:
        """Returns the useful line of a failure; the function may have called Paddle."""
        return useful_line(failure)

    def start(self, core: _ext.Core) -> None:
        """Starts the threads that call it."""
        backends = _ext.PythonBackends(_opener(self.fn, self.spec))
        core.start_instances(backends, self.resolved.instances)


def prepare(fn: Callable[[dict[str, Array]], Any], spec: ModelSpec, config: EngineConfig) -> FunctionModel:
    """Decides how many instances it has.

    Raises
    ------
    ConfigError
        An option acts on Paddle only.
    """
    resolved = ResolvedOptions(config)
    _resolve_runtime(config, resolved)
    return FunctionModel(fn, spec, resolved)


def _resolve_runtime(config: EngineConfig, resolved: ResolvedOptions) -> None:
    """Decides how many threads call the function; refuses options that act on Paddle only."""
    defaults = RuntimeOptions()
    for name in vars(defaults):
        if name == "instances":
            continue
        if getattr(config.runtime, name) != getattr(defaults, name):
            raise ConfigError(f"{name} acts on Paddle's predictors and has no effect on a callable")
        resolved.note(name, "without effect on a callable")
    resolved.decide("driver", "callable", "option", "a Python function, called with the GIL held")
    if config.runtime.instances == "auto":
        resolved.decide("instances", 1, "auto", "a function may not be thread-safe")


def _opener(
    fn: Callable[[dict[str, Array]], Any], spec: ModelSpec
) -> Callable[[int], Callable[[list[Array]], list[Array]]]:
    """Makes what the core calls on each instance's thread."""
    names = tuple(tensor.name for tensor in spec.inputs)

    def call(arrays: list[Array]) -> list[Array]:
        return _ordered(fn(dict(zip(names, arrays, strict=True))), spec.outputs)

    return lambda instance: call


def _ordered(given: object, outputs: tuple[TensorSpec, ...]) -> list[Array]:
    """Returns the function's outputs in order, as contiguous arrays that the core can read."""
    if isinstance(given, Mapping):
        missing = [tensor.name for tensor in outputs if tensor.name not in given]
        if missing:
            listed = ", ".join(map(str, given)) or "nothing"
            raise TypeError(f"the function gave no output {shown(missing[0])}, only {listed}")
        values = [given[tensor.name] for tensor in outputs]
    elif isinstance(given, (list, tuple)):
        values = list(given)
    else:
        values = [given]
    if len(values) != len(outputs):
        raise TypeError(f"the function gave {len(values)} outputs, and {len(outputs)} were declared")
    return [_checked(value, tensor) for value, tensor in zip(values, outputs, strict=True)]


def _checked(value: object, tensor: TensorSpec) -> Array:
    array = np.asarray(value)
    supported = array.dtype in _ext.NUMPY_DTYPES.values()
    if not supported or (tensor.dtype and array.dtype != _ext.NUMPY_DTYPES[tensor.dtype]):
        wanted = tensor.dtype or "a number type the engine knows"
        raise TypeError(f"output {shown(tensor.name)} must be {wanted}, and the function gave {array.dtype}")
    declared = tensor.shape
    if declared is not None:
        fits = len(declared) == array.ndim and all(
            size in (-1, given) for size, given in zip(declared, array.shape, strict=True)
        )
        if not fits:
            raise TypeError(
                f"output {shown(tensor.name)} must have shape {declared}, and the function gave {array.shape}"
            )
    return np.require(array, None, ["C", "A"])
