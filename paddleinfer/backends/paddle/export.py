"""Writes a Paddle layer or function as a model directory that an Engine loads.

The layer is wrapped before Paddle traces it: `paddle.jit.save` alone loses the input names of a
decorated layer, refuses bound methods and lambdas, and drops the weights a function closes over.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import re
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paddleinfer.backends.paddle.errors import without_source
from paddleinfer.backends.paddle.installed import import_paddle
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["export"]

Format = Literal["json", "legacy"]

_DTYPES = (
    *("float16", "bfloat16", "float32", "float64"),
    *("int8", "int16", "int32", "int64", "uint8", "bool"),
)
_PROGRAM_SUFFIXES = {"json": ".json", "legacy": ".pdmodel"}
# Parameters come before the program: a reader that sees the new program finds its parameters.
_ALL_SUFFIXES = (".pdiparams", ".pdiparams.info", ".pdmodel", ".json")

# Switching Paddle between its two program formats is process-wide.
_paddle_lock = threading.Lock()


def export(
    layer_or_function: Any,
    directory: str | os.PathLike[str],
    inputs: Mapping[str, Any],
    format: Format = "json",
    name: str = "inference",
) -> Path:
    """Write a Paddle layer or function as a model directory.

    Parameters
    ----------
    layer_or_function
        A ``paddle.nn.Layer``, one of its methods, or any callable on tensors. The weights of layers
        that a function closes over or names as globals are exported with it.
    directory
        The directory to write to; it is made if missing. An earlier export of the same ``name`` is
        replaced once the new one is complete.
    inputs
        Input name -> ``(dtype, shape)``, a ``TensorSpec`` or a ``paddle.static.InputSpec``; -1 or None
        is a dimension that varies. If all names are parameters of the layer's ``forward``, the inputs are
        passed by name, otherwise in order.
    format
        "json" (Paddle 3) or "legacy" (``.pdmodel``, the only one Paddle 2.6 writes).
    name
        Stem of the files.

    Returns
    -------
    Path
        The directory, for ``Engine(path)``.

    Raises
    ------
    ConfigError
        An argument is wrong, or the installed Paddle cannot export this model in this format.

    Notes
    -----
    The layer is put in eval mode during the export; afterwards it has its earlier modes again.

    Examples
    --------
    >>> export(layer, "model", inputs={"x": ("float32", (-1, 784))})  # doctest: +SKIP
    PosixPath('model')
    """
    if format not in _PROGRAM_SUFFIXES:
        raise ConfigError(f'format must be "json" or "legacy", not {shown(format)}')
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise ConfigError(f"name must be a plain file stem such as 'inference', not {shown(name)}")
    target = Path(directory)
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{target} is a file, not a directory to export to")
    signature = _checked_inputs(inputs)
    if not callable(layer_or_function):
        raise ConfigError(f"a paddle.nn.Layer or a function is needed, not {shown(layer_or_function)}")

    paddle = _paddle()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        written = Path(scratch) / "model"
        with _paddle_lock, _program_format(paddle, format):
            _save(paddle, layer_or_function, signature, written / name, format)
        _put_in_place(written, target, name)
    return target


def _paddle() -> Any:
    paddle: Any = import_paddle()
    if not paddle.in_dynamic_mode():
        raise ConfigError("export needs Paddle's dynamic mode: call paddle.disable_static() first")
    return paddle


# -- inputs ------------------------------------------------------------------------------------------


def _checked_inputs(inputs: object) -> dict[str, tuple[str, tuple[int, ...]]]:
    if not isinstance(inputs, Mapping) or not inputs:
        raise ConfigError("inputs must map at least one input name to (dtype, shape)")
    checked = {}
    for name, spec in inputs.items():
        if not isinstance(name, str) or not name:
            raise ConfigError(f"an input's name must be a string, not {shown(name)}")
        if hasattr(spec, "dtype") and hasattr(spec, "shape"):
            dtype, shape = spec.dtype, spec.shape
        elif isinstance(spec, Sequence) and not isinstance(spec, str) and len(spec) == 2:
            dtype, shape = spec
        else:
            raise ConfigError(f"input {shown(name)} must be given as (dtype, shape), not {shown(spec)}")
        checked[name] = (_dtype_name(name, dtype), _shape(name, shape))
    return checked


def _dtype_name(name: str, dtype: Any) -> str:
    text = str(dtype).rpartition(".")[2]
    if text not in _DTYPES:
        with contextlib.suppress(TypeError):
            text = np.dtype(dtype).name
    if text not in _DTYPES:
        raise ConfigError(f"input {shown(name)} has dtype {shown(dtype)}; Paddle takes {', '.join(_DTYPES)}")
    return text


def _shape(name: str, shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise ConfigError(f"input {shown(name)} needs a shape such as (-1, 784), not {shown(shape)}")
    dims = [-1 if dim is None else dim for dim in shape]
    for dim in dims:
        if isinstance(dim, bool) or not isinstance(dim, (int, np.integer)) or not (dim == -1 or dim > 0):
            raise ConfigError(
                f"input {shown(name)} has shape {shown(shape)}; dimensions are positive, or -1 if they vary"
            )
    return tuple(int(dim) for dim in dims)


# -- tracing -----------------------------------------------------------------------------------------


def _program_format(paddle: Any, format: Format) -> contextlib.AbstractContextManager[Any]:
    """Makes Paddle write `format`, whatever FLAGS_enable_pir_api was at its import."""
    guards = importlib.import_module("paddle.pir_utils")
    if not hasattr(guards, "DygraphPirGuard"):
        if format == "json":
            raise ConfigError(f'Paddle {paddle.__version__} cannot write format="json"; use format="legacy"')
        return contextlib.nullcontext()
    guard: contextlib.AbstractContextManager[Any] = (
        guards.DygraphPirGuard() if format == "json" else guards.DygraphOldIrGuard()
    )
    return guard


def _save(
    paddle: Any,
    source: Any,
    signature: dict[str, tuple[str, tuple[int, ...]]],
    stem: Path,
    format: Format,
) -> None:
    label = getattr(source, "__name__", type(source).__name__)
    target = _undecorated(source)
    members = {
        "forward": _forward_by_name if _takes_names(label, target, signature) else _forward_in_order,
        "names": tuple(signature),
    }
    wrapper = type("Exported", (paddle.nn.Layer,), members)()
    # As attributes of the wrapper, layers bring their weights along.
    wrapper.target = target
    wrapper.held = paddle.nn.LayerList(_layers_of(paddle.nn.Layer, target))
    specs = [paddle.static.InputSpec(shape, dtype, name) for name, (dtype, shape) in signature.items()]
    try:
        with _as_exported(wrapper), warnings.catch_warnings():
            # A model without weights is a model, too.
            warnings.filterwarnings("ignore", "no variable in your model")
            paddle.jit.save(wrapper, str(stem), input_spec=[specs])
    except Exception as error:
        raise ConfigError(
            f"Paddle {paddle.__version__} cannot export {label} as {format}: {_reason(error, format)}"
        ) from error


# Paddle reads the source of these two functions, and recognises a method by the name `self`.
def _forward_in_order(self: Any, tensors: Any) -> Any:
    return self.target(*tensors)


def _forward_by_name(self: Any, tensors: Any) -> Any:
    return self.target(**dict(zip(self.names, tensors)))  # noqa: B905 - Paddle cannot trace `strict`


def _takes_names(label: str, target: Any, signature: Mapping[str, Any]) -> bool:
    """Tells whether the inputs can be passed by name; raises if they cannot be passed at all."""
    try:
        parameters = inspect.signature(_undecorated(getattr(target, "forward", target)))
    except (TypeError, ValueError):
        return False
    by_name = all(name in parameters.parameters for name in signature)
    try:
        if by_name:
            parameters.bind(**dict.fromkeys(signature))
        else:
            parameters.bind(*signature)
    except TypeError as error:
        raise ConfigError(
            f"{label}{parameters} does not take the inputs {list(signature)}: {error}"
        ) from None
    return by_name


def _undecorated(target: Any) -> Any:
    """Returns what `paddle.jit.to_static` was applied to: its own traces have other formats and inputs."""
    return getattr(target, "dygraph_function", target)


def _layers_of(layer_type: type, target: Any) -> list[Any]:
    """Returns the layers that a callable uses: bound, closed over, or named as globals."""
    if isinstance(target, layer_type):
        return []
    found: list[Any] = []
    if isinstance(target, functools.partial):
        values = [target.func, *target.args, *target.keywords.values()]
        found += _layers_of(layer_type, target.func)
    elif inspect.ismethod(target):
        values = [target.__self__]
    elif inspect.isfunction(target):
        seen = inspect.getclosurevars(target)
        values = [*seen.nonlocals.values(), *seen.globals.values()]
    else:
        values = list(getattr(target, "__dict__", {}).values())
    found += [value for value in values if isinstance(value, layer_type)]
    return list({id(layer): layer for layer in found}.values())


@contextlib.contextmanager
def _as_exported(wrapper: Any) -> Iterator[None]:
    """Sets eval mode and undecorated ``forward``s inside the block, and restores both, layer by layer."""
    layers = wrapper.sublayers(include_self=False)
    modes = [(layer, layer.training) for layer in layers]
    decorated = [layer for layer in layers if hasattr(getattr(layer, "forward", None), "dygraph_function")]
    own = [(layer, vars(layer).get("forward")) for layer in decorated]
    try:
        for layer in layers:
            layer.training = False
        for layer in decorated:
            layer.forward = _undecorated(layer.forward)
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode
        for layer, forward in own:
            # An instance without a ``forward`` of its own had the decorated method of its class.
            vars(layer).pop("forward", None)
            if forward is not None:
                layer.forward = forward


def _reason(error: Exception, format: Format) -> str:
    """Finds Paddle's reason in a long report: the line in its own form, else the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or "state_var_dict" in lines[-1]:
        return "it uses weights of a layer that it does not hold; export the layer, or a method of it"
    reasons = [line for line in lines if re.search(r"\([A-Z]\w+\) ", line)]
    reason = without_source((reasons or lines)[-1])
    if format == "legacy" and ("must be Value" in reason or "Unknown place type" in reason):
        reason += '; Paddle 3 has lost this operator\'s legacy export: use format="json", or Paddle 2.6'
    return reason


# -- files -------------------------------------------------------------------------------------------


def _put_in_place(written: Path, target: Path, name: str) -> None:
    if not target.exists():
        # A single rename, so that nobody sees half a directory.
        written.rename(target)
        return
    for suffix in _ALL_SUFFIXES:
        fresh, place = written / f"{name}{suffix}", target / f"{name}{suffix}"
        if fresh.exists():
            shutil.move(fresh, place)
        else:
            # Files of the other format, or parameters of an earlier export, would be loaded beside this one.
            place.unlink(missing_ok=True)
