"""Turns options into a model on a runtime of ONNX models, and this into instances, and reports on both."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paddleinfer import _ext
from paddleinfer.backends.onnx.cache import ModelCache, default_folder
from paddleinfer.backends.onnx.conversion import Load, converted, installed_tools
from paddleinfer.backends.onnx.on_onnxruntime import OnnxRuntime
from paddleinfer.backends.onnx.on_openvino import OpenVino
from paddleinfer.backends.onnx.proofs import Reference
from paddleinfer.backends.onnx.runtimes import Driver, LoadedFile, Runtime
from paddleinfer.backends.processors import usable_cores
from paddleinfer.config import EngineConfig, RuntimeOptions
from paddleinfer.errors import ConfigError, ModelLoadError, OutOfMemory
from paddleinfer.models.file_states import refuse_changed
from paddleinfer.models.reader import ModelFormat, ModelSpec
from paddleinfer.resolved_options import ResolvedOptions, Source
from paddleinfer.sentences import listed, shown

__all__ = ["OnnxModel", "prepare"]

_log = logging.getLogger(__name__)

# The options of RuntimeOptions that act here; the others act on Paddle.
_IN_FORCE = frozenset(
    ("backend", "cpu_threads", "driver", "inline", "instances", "onnx_cache", "onnx_cache_bytes", "params")
)


@dataclass
class OnnxModel:
    """A model for a runtime of ONNX models, ready to be started on an engine's core."""

    spec: ModelSpec
    resolved: ResolvedOptions
    runtime: Runtime
    driver: Driver
    cache: ModelCache | None
    """None for a .onnx file."""
    load: Load
    empty_inputs: None = None
    check_shapes: None = None
    reference: Reference | None = None
    """What compares its answers with Paddle's; None for a .onnx file, and before the start."""

    @property
    def inline(self) -> bool:
        """Whether a caller's thread may run the model."""
        return self.resolved.inline

    @property
    def memory_bytes(self) -> int:
        """Estimates the memory of the weights, which all instances share."""
        paths = {state.path for state in self.spec.files}
        size = sum(path.stat().st_size for path in paths if path.exists())
        return size * self.runtime.weight_copies

    def explain(self, failure: str) -> str:
        """Returns the runtime's message."""
        return self.runtime.told(failure)

    def start(self, core: _ext.Core) -> None:
        """Loads the model, without the GIL where the native driver is used, and starts the instances.

        Raises
        ------
        ModelLoadError
            The model cannot be converted, or the runtime cannot load it.
        OutOfMemory
            There was not enough memory for it, by the runtime's own message.
        """
        path: Path | None = None
        try:
            with self._file() as path:
                loaded = self._loaded(path)
                backends = loaded.backends(self._places(loaded))
        except ModelLoadError:
            if self.cache is not None and path is not None:
                self.cache.remove(path)
            raise
        core.start_instances(backends, self.resolved.instances)

    def _loaded(self, path: Path) -> LoadedFile:
        try:
            return self.runtime.load(path, self.driver, self.resolved)
        except RuntimeError as error:
            refusal = f"{self._title} cannot load {self.spec.path}: {self.explain(str(error))}"
            if _ext.is_out_of_memory(str(error)):
                raise OutOfMemory(refusal) from error
            raise ModelLoadError(refusal) from error

    @property
    def _title(self) -> str:
        return f"{self.runtime.name} {self.runtime.version}"

    @contextlib.contextmanager
    def _file(self) -> Iterator[Path]:
        if self.cache is None:
            refuse_changed(self.spec.files, "loaded")
            yield self.spec.path
            refuse_changed(self.spec.files, "loaded")
            self._report_backend("the file is loaded as it is")
            return
        with converted(self.spec, self.cache, self.load) as path:
            yield path
            tools = installed_tools()
            self._report_backend(f"converted by paddle2onnx {tools.paddle2onnx} to {path}")
            self.reference = Reference(self._title, path.parent, self.load)

    def _report_backend(self, origin: str) -> None:
        self.resolved.add_note("backend", f"{self._title}; {origin}")

    def _places(self, loaded: LoadedFile) -> list[tuple[str, int]]:
        """Returns for each input of the spec where it is in the ONNX model; negative for one that it dropped.

        Inputs keep Paddle's names; outputs keep their order.
        """
        places = [loaded.place_of(tensor.name) for tensor in self.spec.inputs]
        foreign = set(range(len(loaded.inputs))) - set(places)
        if foreign or len(loaded.outputs) != len(self.spec.outputs):
            wanted = [tensor.name for tensor in self.spec.inputs]
            inputs = [tensor.name for tensor in loaded.inputs]
            raise ModelLoadError(
                f"{self.spec.path} has the inputs {listed(wanted)} and {len(self.spec.outputs)} outputs, and "
                f"as ONNX it has the inputs {listed(inputs)} and {len(loaded.outputs)} outputs"
            )
        for tensor, place in zip(self.spec.inputs, places, strict=True):
            dtype = loaded.inputs[place].dtype if place >= 0 else None
            if dtype is not None and dtype != tensor.dtype:
                raise ModelLoadError(
                    f"input {shown(tensor.name)} of {self.spec.path} is {tensor.dtype}, and as ONNX it is "
                    f"{dtype or 'of a dtype that no array has'}"
                )
        return [(tensor.name, place) for tensor, place in zip(self.spec.inputs, places, strict=True)]


def prepare(spec: ModelSpec, config: EngineConfig, load: Load) -> OnnxModel:
    """Finds the runtime that ``backend`` names, and decides how it is driven.

    Parameters
    ----------
    spec
        A Paddle model, or a .onnx file.
    config
        The engine's options.
    load
        The load that this belongs to; its end ends a conversion.

    Raises
    ------
    ConfigError
        An option acts on Paddle only, or the runtime or what converts the model is missing.
    """
    options = config.runtime
    resolved = ResolvedOptions(config)
    _refuse_of_paddle(options, resolved)
    runtime: Runtime = OpenVino() if options.backend == "openvino" else OnnxRuntime()
    driver = _choose_driver(options, runtime, resolved)
    if driver == "python":
        _refuse_bfloat16(spec, runtime)
    _choose_instances(options, resolved)
    _choose_inline(options, driver, resolved)
    cache = None
    if spec.format is not ModelFormat.ONNX:
        installed_tools(options.backend)
        folder = Path(options.onnx_cache) if options.onnx_cache is not None else default_folder()
        cache = ModelCache(folder, options.onnx_cache_bytes)
        resolved.decide("onnx_cache", str(folder), resolved.source("onnx_cache"))
    else:
        for name in ("onnx_cache", "onnx_cache_bytes"):
            resolved.note(name, "without effect on a .onnx file")
    return OnnxModel(spec, resolved, runtime, driver, cache, load)


def _refuse_of_paddle(options: RuntimeOptions, resolved: ResolvedOptions) -> None:
    defaults = RuntimeOptions()
    for name in vars(defaults):
        if name in _IN_FORCE:
            continue
        if getattr(options, name) != getattr(defaults, name):
            raise ConfigError(
                f"{name} acts on Paddle's predictors and has no effect with "
                f'backend="{options.backend}", which runs on the CPU; leave it out'
            )
        resolved.note(name, f"without effect on {options.backend}")


def _refuse_bfloat16(spec: ModelSpec, runtime: Runtime) -> None:
    for tensor in (*spec.inputs, *spec.outputs):
        if tensor.dtype == "bfloat16":
            raise ConfigError(
                f"{tensor.name!r} is bfloat16, which only the native driver can feed to {runtime.name}"
            )


def _choose_driver(options: RuntimeOptions, runtime: Runtime, resolved: ResolvedOptions) -> Driver:
    if options.driver == "python":
        resolved.decide("driver", "python", "option", f"{runtime.python_call}, whose calls need the GIL")
        return "python"
    problem = runtime.native_problem()
    if not problem:
        source: Source = "auto" if options.driver == "auto" else "option"
        resolved.decide("driver", "native", source, f"{runtime.name}'s C interface, without the GIL")
        return "native"
    if options.driver == "native":
        raise ConfigError(f'driver="native" is not possible here: {problem}')
    _log.warning("falling back to %s's Python interface: %s", runtime.name, problem)
    resolved.decide("driver", "python", "auto", f"{problem}; calls need the GIL")
    return "python"


def _choose_instances(options: RuntimeOptions, resolved: ResolvedOptions) -> None:
    instances = options.instances
    if instances == "auto":
        cores = usable_cores()
        instances = max(1, cores // options.cpu_threads)
        note = f"{cores} usable cores, {options.cpu_threads} an instance"
        resolved.decide("instances", instances, "auto", note)


def _choose_inline(options: RuntimeOptions, driver: Driver, resolved: ResolvedOptions) -> None:
    reasons = {
        "turned off": not options.inline,
        "runs through Python": driver == "python",
        "cpu_threads above 1 would compute on a caller's thread, too": options.cpu_threads > 1,
    }
    reason = next((text for text, holds in reasons.items() if holds), "")
    note = reason or "a lone caller without a deadline runs the model itself, while runs take under 2 ms"
    overruled = options.inline and bool(reason)
    resolved.decide("inline", not reason, "auto" if overruled else resolved.source("inline"), note)
