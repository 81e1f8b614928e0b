"""Options -> Paddle's configs -> instances of an engine's core; and the report of what is in force."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from paddleinfer import _ext, process_settings
from paddleinfer.config import RuntimeOptions
from paddleinfer.errors import ConfigError, ModelLoadError
from paddleinfer.installed_paddle import InstalledPaddle
from paddleinfer.model import ModelSpec
from paddleinfer.paddle_config import build_config, refuse_impossible
from paddleinfer.paddle_errors import useful_line
from paddleinfer.processors import free_memory_bytes, usable_cores
from paddleinfer.python_driver import PythonPredictors, refuse_unfeedable
from paddleinfer.settings import Settings

__all__ = ["Runtime", "prepare"]

_log = logging.getLogger(__name__)


@dataclass
class Runtime:
    """A model that is ready to be started on an engine's core."""

    spec: ModelSpec
    options: RuntimeOptions
    installed: InstalledPaddle
    configs: list[tuple[str, Any]]
    instances: int
    library: _ext.PaddleLibrary
    native: bool
    """Whether the predictors are driven through the library, not through Python."""
    settings: Settings = field(default_factory=Settings)

    @property
    def inline(self) -> bool:
        """Whether a caller's thread may run the model: nothing of Paddle's may be tied to the thread."""
        return bool(self.settings["inline"].value)

    @property
    def memory_bytes(self) -> int:
        """What the weights of all instances need, by estimate."""
        return _memory_bytes(self.spec, self.options, self.instances, self.settings)

    def start(self, core: _ext.Core) -> None:
        """Makes the predictors on `core`, without the GIL where the native driver is used.

        Raises
        ------
        ModelLoadError
            Paddle could not load the model; the sentence is Paddle's useful line.
        """
        with process_settings.eager_deletion(self.installed.module, self.options, self.settings):
            try:
                self._start(core)
            except RuntimeError as error:
                raise ModelLoadError(
                    f"Paddle cannot load {self.spec.path}: {useful_line(str(error))}"
                ) from error
        self._report_weights(core)

    def _start(self, core: _ext.Core) -> None:
        onednn = bool(self.settings["onednn"].value)
        shares = [self.instances // len(self.configs)] * len(self.configs)
        for place in range(self.instances % len(self.configs)):
            shares[place] += 1
        for (device, config), instances in zip(self.configs, shares, strict=True):
            if not self.native:
                budget = self._new_onednn_budget if onednn else lambda: None
                predictors = PythonPredictors(self.installed, self.library, config, self.spec, budget)
                core.start_python(predictors, instances)
                continue
            core.start_paddle(
                self.library,
                self.installed.config_address(config),
                [tensor.name for tensor in self.spec.inputs],
                [tensor.name for tensor in self.spec.outputs],
                self.spec.parameters,
                instances=instances,
                on_cpu=device == "cpu",
                share_weights=self.options.share_weights and self.spec.format == "json" and device == "cpu",
                onednn=onednn,
                max_onednn_shapes=self.options.max_onednn_shapes,
            )

    def _new_onednn_budget(self) -> _ext.OneDnnBudget:
        return _ext.OneDnnBudget(self.library, self.options.max_onednn_shapes)

    def _report_weights(self, core: _ext.Core) -> None:
        source = "default" if self.options.share_weights else "option"
        if self.instances == len(self.configs):
            self.settings.put("share_weights", self.options.share_weights, source, "there is one instance")
        elif self.spec.format != "json":
            self.settings.put(
                "share_weights", True, "paddle", "clones of a legacy program share their weights"
            )
        elif not self.options.share_weights:
            self.settings.put("share_weights", False, source)
        elif not self.native or self.configs[0][0] != "cpu":
            self.settings.put("share_weights", False, "auto", "done for the native driver on the CPU only")
        else:
            shared, saved_bytes, refusal = core.weights()
            note = f"{shared} parameters; {saved_bytes} bytes less for each further instance"
            if refusal:
                note = f"{refusal}; what follows it is copied"
                _log.warning("%s: weights are not all shared: %s", self.spec.path, refusal)
            self.settings.put("share_weights", not refusal, source, note)


def prepare(spec: ModelSpec, options: RuntimeOptions) -> Runtime:
    """Finds Paddle, applies the process-wide settings, builds the configs.

    Raises
    ------
    ConfigError
        An option cannot be had here.
    """
    settings = Settings()
    check_mkl = process_settings.prepare_mkl(options, settings)
    installed = InstalledPaddle.find()
    settings.put("paddle", f"{installed.distribution} {installed.version}", "paddle")
    if check_mkl:
        process_settings.check_mkl(installed.library_path)
    refuse_impossible(options, installed)
    process_settings.apply_malloc_tuning(options, settings)
    settings.put("device", options.device, options.source("device"))
    try:
        configs = [
            (device, build_config(spec, options, installed, device, settings)) for device in options.devices
        ]
    except RuntimeError as error:
        raise ModelLoadError(f"Paddle refuses {spec.path}: {useful_line(str(error))}") from error
    library = _ext.PaddleLibrary(installed.library_path, installed.cpu_place_address())
    native = _choose_driver(options, installed, library, configs[0][1], settings)
    if not native:
        refuse_unfeedable(spec)
    instances = _choose_instances(spec, options, len(configs), settings)
    _choose_inline(options, native, settings)
    _prepare_onednn(options, library, settings)
    return Runtime(spec, options, installed, configs, instances, library, native, settings)


def _choose_driver(
    options: RuntimeOptions,
    installed: InstalledPaddle,
    library: _ext.PaddleLibrary,
    config: Any,
    settings: Settings,
) -> bool:
    """Whether Paddle's C++ predictor is driven directly."""
    if options.driver == "python":
        settings.put("driver", "python", "option", "every run holds the GIL")
        return False
    problem = ""
    if library.missing:
        problem = f"Paddle's library does not export {library.missing[0]}"
        if len(library.missing) > 1:
            problem += f" and {len(library.missing) - 1} more"
    else:
        address = installed.config_address(config)
        if not address or library.program_file(address) != config.prog_file():
            problem = "Paddle's Config object is not laid out as expected"
    if not problem:
        settings.put(
            "driver", "native", "auto" if options.driver == "auto" else "option", "runs without the GIL"
        )
        return True
    if options.driver == "native":
        raise ConfigError(f'driver="native" cannot be had: {problem}')
    _log.warning("falling back to Paddle's Python run(), which holds the GIL: %s", problem)
    settings.put("driver", "python", "auto", f"{problem}; every run holds the GIL")
    return False


def _choose_instances(spec: ModelSpec, options: RuntimeOptions, devices: int, settings: Settings) -> int:
    if options.instances != "auto":
        count = max(options.instances, devices)
        note = f"one for each of {devices} devices" if count != options.instances else ""
        settings.put("instances", count, "option", note)
        return count
    if options.devices[0] != "cpu":
        settings.put("instances", devices, "auto", "one for each device")
        return devices
    cores = usable_cores()
    count = max(1, cores // options.cpu_threads)
    note = f"{cores} usable cores, {options.cpu_threads} a predictor"
    free = free_memory_bytes()
    while count > 1 and free is not None and _memory_bytes(spec, options, count, settings) > free // 2:
        count //= 2
        note = f"{note}; halved to fit half of the free memory"
    settings.put("instances", count, "auto", note)
    return count


def _memory_bytes(spec: ModelSpec, options: RuntimeOptions, instances: int, settings: Settings) -> int:
    """Bytes of weights of so many instances: shared ones count once, oneDNN's copies per thread."""
    weights = 0
    if spec.params_path is not None:
        weights = spec.params_path.stat().st_size
    elif spec.model_dir is not None:
        weights = sum(entry.stat().st_size for entry in spec.model_dir.iterdir() if entry.is_file())
    shared = spec.format != "json" or options.share_weights
    copies = 1 if shared else instances
    reordered = instances if settings["onednn"].value else 0
    return weights * (copies + reordered)


def _choose_inline(options: RuntimeOptions, native: bool, settings: Settings) -> None:
    reasons = {
        "turned off": not options.inline,
        "runs through Python": not native,
        "on a GPU": options.devices[0] != "cpu",
        "oneDNN keeps copies of the weights per thread": bool(settings["onednn"].value),
        "cpu_threads above 1 would make threads for each caller": options.cpu_threads > 1,
    }
    reason = next((text for text, holds in reasons.items() if holds), "")
    note = reason or "a lone caller without a deadline runs the model itself, while runs take under 2 ms"
    overruled = options.inline and bool(reason)
    settings.put("inline", not reason, "auto" if overruled else options.source("inline"), note)


def _prepare_onednn(options: RuntimeOptions, library: _ext.PaddleLibrary, settings: Settings) -> None:
    source = options.source("max_onednn_shapes")
    note = "input shapes an instance runs before its part of oneDNN's kernel cache is emptied"
    if not settings["onednn"].value:
        note = "without effect: oneDNN is off"
    elif not library.empties_onednn_cache:
        note = "oneDNN's kernel cache cannot be emptied here: each new input shape adds memory for good"
        _log.warning(note)
    settings.put("max_onednn_shapes", options.max_onednn_shapes, source, note)
