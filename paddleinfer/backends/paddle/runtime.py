"""Turns options into Paddle's configs and these into instances of a core, and reports what is in force."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from paddleinfer import _ext
from paddleinfer.backends.paddle import onednn_cache, process_settings
from paddleinfer.backends.paddle.config import build_config, fault_context_of, program_file, refuse_impossible
from paddleinfer.backends.paddle.empty_inputs import EmptyInputs
from paddleinfer.backends.paddle.errors import is_of_onednn, useful_line
from paddleinfer.backends.paddle.faults import Workaround, workarounds_for
from paddleinfer.backends.paddle.graph_passes import off_sentence
from paddleinfer.backends.paddle.installed import InstalledPaddle
from paddleinfer.backends.paddle.python_driver import PythonPredictors, refuse_unfeedable
from paddleinfer.backends.paddle.sizing import (
    choose_inline,
    choose_instances,
    is_small,
    memory_bytes,
    weight_bytes,
)
from paddleinfer.backends.paddle.temporary_program import TemporaryProgram
from paddleinfer.config import EngineConfig, RuntimeOptions
from paddleinfer.errors import ConfigError, InvalidInput, ModelLoadError, OutOfMemory, PaddleInferError
from paddleinfer.models.file_states import refuse_changed
from paddleinfer.models.files import refusing_damage
from paddleinfer.models.input_sizes import SizeCheck, size_check_of
from paddleinfer.models.reader import ModelSpec
from paddleinfer.resolved_options import ResolvedOptions, Source
from paddleinfer.sentences import printable

__all__ = ["Runtime", "prepare"]

# As in fall_back.h.
_FALL_BACK_TRIALS = 3

_log = logging.getLogger(__name__)


@dataclass
class Runtime:
    """A Paddle model, ready to be started on an engine's core."""

    spec: ModelSpec
    options: RuntimeOptions
    installed: InstalledPaddle
    configs: list[tuple[str, Any]]
    instances: int
    library: _ext.PaddleLibrary
    native: bool
    """Whether the predictors are driven through Paddle's library and not through Python."""
    onednn_kernels: _ext.OneDnnKernels
    resolved: ResolvedOptions
    fall_back_config: Any = None
    """Makes predictors without oneDNN, for runs that fail with it; None where that must not be tried."""
    size_check: SizeCheck | None = None
    """The check of input sizes; None for a model without convolutions or with unreadable operators."""
    bare_failures: bool = False
    """Whether a run that fails on oneDNN without a reason may be repeated without oneDNN safely."""
    chooses_kernels: bool = False
    """Whether each instance has a predictor without oneDNN, too, for shapes that it is faster for."""
    rewritten: TemporaryProgram | None = None
    """The program that is loaded instead of the model's own, kept while instances are made of it."""
    reference: None = None
    """Its answers are Paddle's own: nothing compares them."""
    _fall_back: _ext.FallBack | None = None

    @property
    def inline(self) -> bool:
        """Whether a caller's thread may run the model: Paddle must keep nothing that is tied to a thread."""
        return self.resolved.inline

    @property
    def memory_bytes(self) -> int:
        """Estimates the memory of all instances' weights."""
        with refusing_damage(self.spec.params_path):
            own_bytes = self.instances * weight_bytes(self.spec) if self.chooses_kernels else 0
            return own_bytes + memory_bytes(self.spec, self.instances, self.resolved)

    @functools.cached_property
    def empty_inputs(self) -> EmptyInputs | None:
        """The inputs without elements that would end the process; None if none would."""
        in_use = self.resolved.onednn and (self.options.ir_optim or not self.spec.format.is_legacy)
        paddle2 = self.installed.version_numbers[:1] == (2,)
        refuse_changed(self.spec.files, "loaded")
        with refusing_damage(self.spec.program_path):
            return EmptyInputs.of(self.spec, onednn=bool(in_use), paddle2=paddle2)

    def start(self, core: _ext.Core) -> None:
        """Makes the predictors on `core`, without the GIL where the native driver is used.

        Raises
        ------
        ModelLoadError
            Paddle could not load the model; the sentence is Paddle's useful line.
        OutOfMemory
            Paddle could not load the model for lack of memory, by its own message.
        """
        # Files that have changed since the check may bring the process down, and Paddle reads them by name:
        # they are the checked ones only if they have not changed once it is done.
        refuse_changed(self.spec.files, "loaded")
        try:
            weights = self._start(core)
        except PaddleInferError:  # our own error: there was no thread
            raise
        except RuntimeError as error:
            refuse_changed(self.spec.files, "loaded")
            refusal = f"Paddle cannot load {self.spec.path}: {self.explain(str(error))}"
            if _ext.is_out_of_memory(str(error)):
                raise OutOfMemory(f"{refusal}; it has not enough memory") from error
            raise ModelLoadError(refusal) from error
        finally:
            if self.rewritten is not None and not self.onednn_kernels.by_renewal:
                self.rewritten.remove()  # otherwise it is read again
        refuse_changed(self.spec.files, "loaded")
        self._report_weights(*weights)
        if self.spec.format.is_legacy and not self.options.ir_optim and self.options.devices[0] == "cpu":
            _log.info(off_sentence(self.spec.path))

    @property
    def check_shapes(self) -> Callable[[list[tuple[int, ...]]], None] | None:
        """Raises InvalidInput for shapes that are too small for a convolution."""
        return None if self.size_check is None else self._check_shapes

    def _check_shapes(self, shapes: list[tuple[int, ...]]) -> None:
        assert self.size_check is not None
        found, all_known = self.size_check.look_at(shapes)
        if found is not None:
            given = ", ".join(
                f"{tensor.name} {_sizes_text(shape)}"
                for tensor, shape in zip(self.spec.inputs, shapes, strict=True)
            )
            raise InvalidInput(
                f"inputs of these shapes ({given}) are too small for the model: its convolution "
                f"{found.operator!r} would see {_sizes_text(found.given)}, with its padding, and needs "
                f"{_sizes_text(found.needed)}"
            )
        if not all_known and self._fall_back is not None:
            self._fall_back.forbid_bare()

    def explain(self, failure: str) -> str:
        """Returns the useful line of Paddle's failure, with what would help if that is known."""
        line = printable(useful_line(failure))
        chosen = self.resolved.source("onednn") in ("option", "tuned")
        if self.resolved.onednn and chosen and is_of_onednn(failure):
            return f"{line}; onednn=False may run it"
        return line

    def _note_fall_back(self, failure: str) -> None:
        """Records that all instances now run without oneDNN because a run failed with it."""
        failed = printable(useful_line(failure))
        reason = (
            f"a run failed with it and did not without: {failed}; it stays off until the model is loaded "
            "again, as reload() does"
        )
        self.resolved.decide("onednn", False, "auto", reason)
        _log.warning("%s: oneDNN is off from now on, for %s", self.spec.path, reason)

    def _note_kernels(self, plain_shapes: int, reason: str) -> None:
        """Records how many shapes of input run without oneDNN, or why none does."""
        if not self.resolved.onednn:  # a failed run has turned it off meanwhile
            return
        note = f"{plain_shapes} of the shapes of input run without it, which was measured to be faster"
        if not plain_shapes:
            note = f"all shapes run with it: {reason or 'no shape was measured to be faster without it'}"
        self.resolved.decide("onednn", True, "paddle", note)

    def _start(self, core: _ext.Core) -> tuple[int, int, str]:
        """Returns (parameters shared, bytes saved per further instance, why not all are shared)."""
        weights = (0, 0, "")
        onednn = self.resolved.onednn
        deletion = process_settings.deletion(
            self.spec, self.options, self.resolved, known=self.library.has_deletion_mode
        )
        fall_back = None
        if self.fall_back_config is not None:
            fall_back = self._fall_back = _ext.FallBack(self.bare_failures, self._note_fall_back)
        choice = _ext.KernelChoice(self._note_kernels) if self.chooses_kernels else None
        shares = [self.instances // len(self.configs)] * len(self.configs)
        for place in range(self.instances % len(self.configs)):
            shares[place] += 1
        for (device, config), instances in zip(self.configs, shares, strict=True):
            if not self.native:
                part = self._new_onednn_part if onednn else lambda: None
                predictors = PythonPredictors(
                    self.installed,
                    self.library,
                    config,
                    self.spec,
                    part,
                    fall_back,
                    self.fall_back_config,
                    deletion=deletion,
                    renews=onednn and self.onednn_kernels.by_renewal,
                )
                core.start_instances(_ext.PythonBackends(predictors, fall_back), instances)
                continue
            others = self._fall_back_configs(instances) if fall_back is not None else []
            backends = _ext.PaddleBackends(
                self.library,
                self.installed.config_address(config),
                [tensor.name for tensor in self.spec.inputs],
                [tensor.name for tensor in self.spec.outputs],
                self.spec.parameters,
                files=self.spec.files,
                on_cpu=device == "cpu",
                share_weights=self._shares_weights and device == "cpu",
                onednn=onednn,
                deletion=deletion,
                onednn_kernels=self.onednn_kernels,
                fall_back=fall_back,
                kernel_choice=choice,
                fall_back_configs=others,
                fall_back_addresses=[self.installed.config_address(other) for other in others],
            )
            core.start_instances(backends, instances)
            weights = backends.weights()
        return weights

    def _fall_back_configs(self, instances: int) -> list[Any]:
        """Makes as many as can be used: for an instance's choice, its trials, and its final predictor."""
        copies = self.installed.inference.Config
        return [copies(self.fall_back_config) for _ in range(3 * instances + _FALL_BACK_TRIALS)]

    @property
    def _shares_weights(self) -> bool:
        """Tells whether clones must be made to share weights; a legacy program's clones share them anyway."""
        return self.options.share_weights and not self.spec.format.is_legacy

    def _new_onednn_part(self) -> _ext.OneDnnPart:
        return _ext.OneDnnPart(self.library, self.onednn_kernels)

    def _report_weights(self, shared: int, saved_bytes: int, refusal: str) -> None:
        source: Source = "default" if self.options.share_weights else "option"
        if self.instances == len(self.configs):
            self.resolved.decide("share_weights", self.options.share_weights, source, "there is one instance")
        elif self.spec.format.is_legacy:
            self.resolved.decide(
                "share_weights", True, "paddle", "clones of a legacy program share their weights"
            )
        elif not self.options.share_weights:
            self.resolved.decide("share_weights", False, source)
        elif not self.native or self.configs[0][0] != "cpu":
            self.resolved.decide("share_weights", False, "auto", "done for the native driver on the CPU only")
        else:
            note = f"{shared} parameters; {saved_bytes} bytes less for each further instance"
            if refusal:
                note = f"{refusal}; what follows it is copied"
                _log.warning("%s: weights are not all shared: %s", self.spec.path, refusal)
            self.resolved.decide("share_weights", not refusal, source, note)


def prepare(spec: ModelSpec, config: EngineConfig) -> Runtime:
    """Finds Paddle, applies the process-wide settings, builds the configs.

    Raises
    ------
    ConfigError
        An option is not possible here.
    """
    options = config.runtime
    resolved = ResolvedOptions(config)
    for name in ("onnx_cache", "onnx_cache_bytes"):
        resolved.note(name, "without effect on Paddle's predictors")
    check_mkl = process_settings.prepare_mkl(options, resolved)
    installed = InstalledPaddle.find()
    resolved.name_paddle(f"{installed.distribution} {installed.version}")
    if check_mkl:
        process_settings.check_mkl(installed.library_path)
    refuse_impossible(options, installed)
    process_settings.apply_malloc_tuning(options, resolved)
    with refusing_damage(spec.program_path):
        context = fault_context_of(spec, options, installed)
        workarounds = workarounds_for(context)
    rewritten = _rewritten(workarounds)
    program = None if rewritten is None else rewritten.path
    try:
        configs = [
            (device, build_config(spec, options, installed, device, resolved, workarounds, program))
            for device in options.devices
        ]
        fall_back_config = None
        in_use = context.onednn and (context.ir_optim or not context.legacy)
        if in_use and resolved.source("onednn") == "paddle" and options.precision == "float32":
            without = replace(options, onednn=False)
            fall_back_config = build_config(spec, without, installed, "cpu", ResolvedOptions(config))
    except RuntimeError as error:
        raise ModelLoadError(f"Paddle refuses {spec.path}: {useful_line(str(error))}") from error
    library = _ext.PaddleLibrary(installed.library_path, installed.cpu_place_address())
    native = _choose_driver(options, installed, library, configs[0][1], resolved)
    if not native:
        refuse_unfeedable(spec)
    with refusing_damage(spec.params_path):
        instances = choose_instances(spec, options, len(configs), resolved)
    onednn_kernels = onednn_cache.prepare(
        options, library, resolved, by_renewal=any(one.renew_predictors for one in workarounds)
    )
    chooses = fall_back_config is not None and native and not onednn_kernels.by_renewal
    with refusing_damage(spec.params_path):
        chooses_kernels = chooses and is_small(spec, context.program, instances)
    choose_inline(options, native, chooses_kernels, resolved)
    size_check = size_check_of(context.program, legacy=context.legacy)
    return Runtime(
        spec,
        options,
        installed,
        configs,
        instances,
        library,
        native,
        onednn_kernels,
        resolved,
        fall_back_config,
        size_check,
        size_check is not None or b"conv" not in context.program,
        chooses_kernels,
        rewritten,
    )


def _sizes_text(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def _rewritten(workarounds: list[Workaround]) -> TemporaryProgram | None:
    """Writes a workaround's program to a file: Paddle reads it again for each clone.

    If no file can be written, the workaround is replaced by one that needs no file.
    """
    for place, workaround in enumerate(workarounds):
        if workaround.program is None:
            continue
        try:
            return TemporaryProgram(workaround.program)
        except OSError as error:
            if workaround.without_file is None:
                raise
            _log.warning("no temporary file can be written for the program (%s), so it runs slower", error)
            workarounds[place] = workaround.without_file
    return None


def _choose_driver(
    options: RuntimeOptions,
    installed: InstalledPaddle,
    library: _ext.PaddleLibrary,
    config: Any,
    resolved: ResolvedOptions,
) -> bool:
    """Decides whether Paddle's C++ predictor is driven directly."""
    if options.driver == "python":
        resolved.decide("driver", "python", "option", "every run holds the GIL")
        return False
    problem = ""
    if library.missing:
        problem = f"Paddle's library does not export {library.missing[0]}"
        if len(library.missing) > 1:
            problem += f" and {len(library.missing) - 1} more"
    else:
        address = installed.config_address(config)
        if not address or library.program_file(address) != program_file(config):
            problem = "Paddle's Config object is not laid out as expected"
    if not problem:
        resolved.decide(
            "driver", "native", "auto" if options.driver == "auto" else "option", "runs without the GIL"
        )
        return True
    if options.driver == "native":
        raise ConfigError(f'driver="native" is not possible here: {problem}')
    _log.warning("falling back to Paddle's Python run(), which holds the GIL: %s", problem)
    resolved.decide("driver", "python", "auto", f"{problem}; every run holds the GIL")
    return False
