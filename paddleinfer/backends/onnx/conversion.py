"""Converts a Paddle model to ONNX with paddle2onnx, in a child process, once for all processes."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from paddleinfer.backends.onnx.cache import ModelCache, sha256_of
from paddleinfer.backends.onnx.conversion_child import REPORT
from paddleinfer.backends.paddle.installed import installed_package, numbers_of
from paddleinfer.child_process import CRASHES, NotStarted, ended, python_code, run_python
from paddleinfer.errors import ConfigError, ModelLoadError
from paddleinfer.models.file_states import refuse_changed
from paddleinfer.models.reader import ModelSpec
from paddleinfer.sentences import listed, printable

__all__ = ["OPSET", "Load", "Tools", "converted", "installed_tools"]

OPSET = 17
"""The version of ONNX's operators that models are converted to."""

# To be raised when the same files and versions are to be converted in another way.
_WAY = 3
_LONGEST_S = 600.0
_MOST_WEIGHT_BYTES = 2_000_000_000  # protobuf takes no message of 2 GiB
_CHILD = python_code("paddleinfer.backends.onnx.conversion_child")
_AT = re.compile(r"\[Paddle2ONNX\] (Start|Finish) export (?:pd_op\.|builtin\.)?([^,\s]+)")
_SAID = re.compile(r"\[ERROR\]\[Paddle2ONNX\] *(.+)|Failed to convert PaddlePaddle model: *(.+)")


class Load(Protocol):
    """The load that a conversion belongs to, which another thread may end."""

    def check(self) -> None:
        """Raises EngineClosed if it was ended."""

    def ended_by(self, end: Any) -> contextlib.AbstractContextManager[None]:
        """Wraps a block in which `end` is called to end the load."""


@dataclass(frozen=True)
class Tools:
    """What converts here."""

    paddle: str
    """Package and version, as ``paddlepaddle 3.3.1``."""
    paddle2onnx: str
    """Its version."""


def installed_tools(extra: str = "onnxruntime") -> Tools:
    """Finds Paddle and paddle2onnx, and imports neither.

    Parameters
    ----------
    extra
        The extra that brings paddle2onnx, for the sentence where it is missing.

    Raises
    ------
    ConfigError
        One of them is missing, or they do not fit each other.
    """
    paddle = installed_package()
    if importlib.util.find_spec("paddle2onnx") is None or paddle is None:
        lacking = "paddle2onnx" if paddle is not None else "Paddle itself"
        extra = extra if paddle is not None else f"cpu,{extra}"
        raise ConfigError(
            f"a Paddle model is converted to ONNX by paddle2onnx, and {lacking} is not installed; install it "
            f"with pip install 'paddleinfer[{extra}]' (Python 3.10 to 3.12), or give a .onnx file"
        )
    version = importlib.metadata.version("paddle2onnx")
    if numbers_of(paddle[1]) < (3,) or numbers_of(version) < (2, 1):
        raise ConfigError(
            f"models are converted to ONNX by paddle2onnx 2.1 or later with Paddle 3, and here are "
            f"paddle2onnx {version} and {' '.join(paddle)}"
        )
    return Tools(" ".join(paddle), version)


@contextlib.contextmanager
def converted(
    spec: ModelSpec,
    cache: ModelCache,
    load: Load,
    *,
    child: str = _CHILD,
    longest_s: float = _LONGEST_S,
) -> Iterator[Path]:
    """Yields the path of a model as ONNX, which stays there during the block.

    Parameters
    ----------
    spec
        A Paddle model.
    cache
        Where converted models are kept.
    load
        Its end ends the conversion, too.
    child
        The command that the child runs.
    longest_s
        Seconds that it may take.

    Raises
    ------
    ConfigError
        Paddle or paddle2onnx is missing.
    ModelLoadError
        The model cannot be converted; the sentence names the operator, or says what paddle2onnx says. Or
        the cache cannot be used.
    EngineClosed
        The load was ended meanwhile.
    """
    tools = installed_tools()
    about = {
        "source": os.path.abspath(spec.path),
        "paddle": tools.paddle,
        "paddle2onnx": tools.paddle2onnx,
        "opset": OPSET,
    }
    key = _key(spec, tools)
    refuse_changed(spec.files, "converted")
    run = functools.partial(_run_child, child=child, longest_s=longest_s, spec=spec, load=load)
    with cache.holding(key, about, lambda path: _convert(spec, path, tools, run), load.check) as path:
        yield path


def _weights(spec: ModelSpec) -> list[Path]:
    """Returns the parameter files, in the order of the parameters that they hold."""
    if spec.model_dir is not None:
        return [spec.model_dir / name for name in spec.parameters]
    return [] if spec.params_path is None else [spec.params_path]


def _key(spec: ModelSpec, tools: Tools) -> str:
    assert spec.program_path is not None
    try:
        hashes = [sha256_of(path) for path in (spec.program_path, *_weights(spec))]
    except OSError as error:
        raise ModelLoadError(f"cannot read {error.filename}: {error.strerror or error}") from error
    facts = [_WAY, OPSET, tools.paddle, tools.paddle2onnx, spec.format.is_legacy, *hashes]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _convert(spec: ModelSpec, target: Path, tools: Tools, run: Callable[..., tuple[int, str]]) -> None:
    assert spec.program_path is not None
    weights = _weights(spec)
    size = sum(path.stat().st_size for path in weights)
    if size > _MOST_WEIGHT_BYTES:
        raise ModelLoadError(
            f"{spec.path} cannot be converted to ONNX: its weights have {size:,} bytes, and one file takes "
            f"{_MOST_WEIGHT_BYTES:,}"
        )
    program = target.with_name("model.pdmodel" if spec.format.is_legacy else "model.json")
    program.symlink_to(spec.program_path.resolve())
    params = target.with_name("model.pdiparams")
    if len(weights) == 1 and spec.model_dir is None:
        params.symlink_to(weights[0].resolve())
    elif weights:
        with params.open("wb") as combined:  # the combined file is these one after the other
            for path in weights:
                combined.write(path.read_bytes())
    code, text = run(program, params, target)
    refuse_changed(spec.files, "converted")
    if code == 0 and target.exists() and target.stat().st_size:
        return
    raise ModelLoadError(f"{spec.path} cannot be converted to ONNX: {_why(code, text, tools)}")


def _run_child(
    program: Path, params: Path, target: Path, *, child: str, longest_s: float, spec: ModelSpec, load: Load
) -> tuple[int, str]:
    """Returns the exit code of the conversion, and what it printed."""
    environment = {
        **os.environ,
        "TMPDIR": str(target.parent),  # paddle2onnx leaves files there if it dies
        "CUDA_VISIBLE_DEVICES": "",
    }
    scalars = [place for place, output in enumerate(spec.outputs) if output.shape == ()]
    order = (str(program), str(params), str(target), OPSET, scalars)
    try:
        code, printed = run_python(
            child, order, load.ended_by, longest_s=longest_s, environment=environment, prints=True
        )
    except NotStarted as error:
        raise ModelLoadError(f"no process can be started to convert {spec.path}: {error}") from error
    except subprocess.TimeoutExpired:
        raise ModelLoadError(f"{spec.path} was not converted to ONNX within {longest_s:g} s") from None
    return code, printed.decode(errors="replace")


def _why(code: int, text: str, tools: Tools) -> str:
    said: dict[str, Any] = {}
    for line in text.splitlines():
        if line.startswith(REPORT):
            said.update(json.loads(line[len(REPORT) :]))
    by = f"paddle2onnx {tools.paddle2onnx}"
    if code < 0 and -code not in CRASHES:
        return f"the process that did so was ended {ended(code)} from outside; load it again"
    unknown = said.get("unknown_operators") or []
    if unknown:
        operators = "operator" if len(unknown) == 1 else "operators"
        return f"{by} does not know its {operators} {listed(unknown)}"
    if "error" in said and said.get("errno") in (errno.ENOSPC, errno.EDQUOT):
        return f"{said['error']}; free some space there, or name another folder with onnx_cache"
    sentences = [printable((found[1] or found[2]).strip().rstrip(".")) for found in _SAID.finditer(text)]
    steps = _AT.findall(text)
    if sentences and steps and steps[-1][0] == "Start":
        return f"{by} cannot convert its operator {printable(steps[-1][1])}: {sentences[0]}"
    inside = said.get("control_flow") or []
    flow = f" (the model has control flow: {listed(inside)})" if inside else ""
    if sentences:
        return f"{by} says: {sentences[0]}{flow}"
    if "error" in said:
        return f"{by} says: {said['error']}{flow}"
    return f"{by} ended {ended(code)}{flow}"
