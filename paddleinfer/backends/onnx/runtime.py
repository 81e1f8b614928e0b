"""Turns options into a session of onnxruntime and this into instances, and reports what is in force."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from paddleinfer import _ext
from paddleinfer.backends.onnx.cache import ModelCache, default_folder
from paddleinfer.backends.onnx.conversion import Load, converted, installed_tools
from paddleinfer.backends.onnx.installed import InstalledOnnxRuntime
from paddleinfer.backends.onnx.proofs import Reference
from paddleinfer.backends.onnx.python_session import PythonSession, refuse_unfeedable
from paddleinfer.backends.processors import usable_cores
from paddleinfer.config import EngineConfig, RuntimeOptions
from paddleinfer.errors import ConfigError, ModelLoadError, OutOfMemory
from paddleinfer.models.file_states import refuse_changed
from paddleinfer.models.reader import ModelFormat, ModelSpec
from paddleinfer.resolved_options import ResolvedOptions, Source
from paddleinfer.sentences import listed, printable, shown

__all__ = ["OnnxModel", "prepare"]

_log = logging.getLogger(__name__)

# The options of RuntimeOptions that act here; the others act on Paddle.
_IN_FORCE = frozenset(
    ("backend", "cpu_threads", "driver", "inline", "instances", "onnx_cache", "onnx_cache_bytes", "params")
)


@dataclass
class OnnxModel:
    """A model for onnxruntime, ready to be started on an engine's core."""

    spec: ModelSpec
    resolved: ResolvedOptions
    installed: InstalledOnnxRuntime
    library: _ext.OrtLibrary | None
    """None where Python's interface is used."""
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
        return sum(path.stat().st_size for path in paths if path.exists())

    def explain(self, failure: str) -> str:
        """Returns onnxruntime's message."""
        return printable(failure)

    def start(self, core: _ext.Core) -> None:
        """Loads the model, without the GIL where the native driver is used, and starts the instances.

        Raises
        ------
        ModelLoadError
            The model cannot be converted, or onnxruntime cannot load it.
        OutOfMemory
            There was not enough memory for it, by onnxruntime's own message.
        """
        instances = self.resolved.instances
        threads = instances * (self.resolved.cpu_threads - 1) + 1
        with self._file() as path:
            try:
                backends = self._loaded(path, threads)
            except RuntimeError as error:
                refusal = f"onnxruntime {self.installed.version} cannot load {self.spec.path}: {error}"
                if _ext.is_out_of_memory(str(error)):
                    raise OutOfMemory(refusal) from error
                raise ModelLoadError(refusal) from error
        core.start_instances(backends, instances)

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
            self.reference = Reference(f"onnxruntime {self.installed.version}", path.parent, self.load)

    def _report_backend(self, origin: str) -> None:
        self.resolved.note("backend", f"onnxruntime {self.installed.version}; {origin}")

    def _loaded(self, path: Path, threads: int) -> _ext.BackendFactory:
        if self.library is None:
            session = PythonSession(path, threads)
            inputs, outputs = self._names(session.inputs, session.outputs)
            return _ext.PythonBackends(session.opener(inputs, outputs))
        model = _ext.OrtModel(self.library, str(path), threads)
        self._check_dtypes(model.inputs)
        inputs, outputs = self._names(
            [name for name, *_ in model.inputs], [name for name, *_ in model.outputs]
        )
        return _ext.OrtBackends(model, inputs, outputs)

    def _names(self, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[list[str], list[str]]:
        """Returns the ONNX model's names for the tensors of the spec; empty for an input that it dropped.

        Inputs keep Paddle's names; outputs keep their order.
        """
        wanted = [tensor.name for tensor in self.spec.inputs]
        foreign = [name for name in inputs if name not in wanted]
        if foreign or len(outputs) != len(self.spec.outputs):
            raise ModelLoadError(
                f"{self.spec.path} has the inputs {listed(wanted)} and {len(self.spec.outputs)} outputs, and "
                f"as ONNX it has the inputs {listed(inputs)} and {len(outputs)} outputs"
            )
        return [name if name in inputs else "" for name in wanted], list(outputs)

    def _check_dtypes(self, inputs: Sequence[tuple[str, str, tuple[int, ...]]]) -> None:
        dtypes = {name: dtype for name, dtype, _ in inputs}
        for tensor in self.spec.inputs:
            dtype = dtypes.get(tensor.name, tensor.dtype)
            if dtype != tensor.dtype:
                raise ModelLoadError(
                    f"input {shown(tensor.name)} of {self.spec.path} is {tensor.dtype}, and as ONNX it is "
                    f"{dtype or 'of a dtype that no array has'}"
                )


def prepare(spec: ModelSpec, config: EngineConfig, load: Load) -> OnnxModel:
    """Finds onnxruntime, and decides how it is driven.

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
        An option acts on Paddle only, or onnxruntime or what converts the model is missing.
    """
    options = config.runtime
    resolved = ResolvedOptions(config)
    _refuse_of_paddle(options, resolved)
    installed = InstalledOnnxRuntime.find()
    library = _choose_driver(options, installed, resolved)
    if library is None:
        refuse_unfeedable(spec)
    _choose_instances(options, resolved)
    _choose_inline(options, library is not None, resolved)
    cache = None
    if spec.format is not ModelFormat.ONNX:
        installed_tools()
        folder = Path(options.onnx_cache) if options.onnx_cache is not None else default_folder()
        cache = ModelCache(folder, options.onnx_cache_bytes)
        resolved.decide("onnx_cache", str(folder), resolved.source("onnx_cache"))
    else:
        for name in ("onnx_cache", "onnx_cache_bytes"):
            resolved.note(name, "without effect on a .onnx file")
    return OnnxModel(spec, resolved, installed, library, cache, load)


def _refuse_of_paddle(options: RuntimeOptions, resolved: ResolvedOptions) -> None:
    defaults = RuntimeOptions()
    for name in vars(defaults):
        if name in _IN_FORCE:
            continue
        if getattr(options, name) != getattr(defaults, name):
            raise ConfigError(
                f'{name} acts on Paddle\'s predictors and has no effect with backend="onnxruntime", which '
                "runs on the CPU; leave it out"
            )
        resolved.note(name, "without effect on onnxruntime")
    resolved.note("share_weights", "one session, which holds the weights once, serves all instances")


def _choose_driver(
    options: RuntimeOptions, installed: InstalledOnnxRuntime, resolved: ResolvedOptions
) -> _ext.OrtLibrary | None:
    if options.driver == "python":
        resolved.decide("driver", "python", "option", "InferenceSession.run, whose calls need the GIL")
        return None
    problem = f"onnxruntime {installed.version} has no libonnxruntime.so in its package"
    if installed.library is not None:
        library = _ext.OrtLibrary(str(installed.library))
        if not library.problem:
            source: Source = "auto" if options.driver == "auto" else "option"
            resolved.decide("driver", "native", source, "onnxruntime's C interface, without the GIL")
            return library
        problem = f"{installed.library.name} cannot be used: {printable(library.problem)}"
    if options.driver == "native":
        raise ConfigError(f'driver="native" is not possible here: {problem}')
    _log.warning("falling back to onnxruntime's Python run(): %s", problem)
    resolved.decide("driver", "python", "auto", f"{problem}; calls need the GIL")
    return None


def _choose_instances(options: RuntimeOptions, resolved: ResolvedOptions) -> None:
    instances = options.instances
    if instances == "auto":
        cores = usable_cores()
        instances = max(1, cores // options.cpu_threads)
        note = f"{cores} usable cores, {options.cpu_threads} an instance"
        resolved.decide("instances", instances, "auto", note)
    if options.cpu_threads > 1:
        helpers = instances * (options.cpu_threads - 1)
        note = (
            f"the instances' own threads, and {helpers} of the session's, which help whichever instance runs"
        )
    else:
        note = "each instance computes on its own thread"
    resolved.note("cpu_threads", note)


def _choose_inline(options: RuntimeOptions, native: bool, resolved: ResolvedOptions) -> None:
    reasons = {
        "turned off": not options.inline,
        "runs through Python": not native,
        "cpu_threads above 1 would compute on a caller's thread, too": options.cpu_threads > 1,
    }
    reason = next((text for text, holds in reasons.items() if holds), "")
    note = reason or "a lone caller without a deadline runs the model itself, while runs take under 2 ms"
    overruled = options.inline and bool(reason)
    resolved.decide("inline", not reason, "auto" if overruled else resolved.source("inline"), note)
