"""Adds the options of a tuning file, such as paddleinfer.toml beside the model, to those of an engine."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from paddleinfer.backends.processors import processor_name
from paddleinfer.backends.runtimes import installed_runtimes
from paddleinfer.config import OF_PADDLE_ALONE, EngineConfig, Origin
from paddleinfer.models.reader import ModelSpec
from paddleinfer.options.tuning_file import TUNING_FILE_NAME, TuningFile, read_tuning_file
from paddleinfer.sentences import listed, shown

__all__ = ["TunedOptions", "tuned_options"]

_log = logging.getLogger("paddleinfer")

# The sentences that were logged as warnings: each is worth one, however many engines are opened.
_warned: set[str] = set()


@dataclass(frozen=True)
class TunedOptions:
    """The options of an engine together with those of a tuning file."""

    config: EngineConfig
    note: str = ""
    """What the file gave, or why it gave nothing; empty where there is no file."""
    in_force: tuple[str, ...] = ()
    """The options that the file gave."""


def tuned_options(spec: ModelSpec, config: EngineConfig) -> TunedOptions:
    """Finds the tuning file of a model, and adds what its caller has not given.

    Raises
    ------
    ConfigError
        The file is damaged, or gives what cannot be tuned; or the option names one that cannot be read.
    """
    named = config.tuning_file
    if named is None:
        return TunedOptions(config)
    if named != "auto":
        return _applied(config, read_tuning_file(Path(named)))
    program = spec.program_path or spec.path
    beside = program.with_name(TUNING_FILE_NAME)
    if not beside.is_file():  # not a pipe, which would block
        return TunedOptions(config)
    file = read_tuning_file(beside)
    if file.program and file.program != program.name:
        return TunedOptions(
            config, f"{beside} is for {shown(file.program)}, and this model is {shown(program.name)}"
        )
    return _applied(config, file)


def _applied(config: EngineConfig, file: TuningFile) -> TunedOptions:
    why = _why_not(config, file)
    if why:
        why = f"{file.path} is not followed: {why}"
        _warn_once(why)
        return TunedOptions(config, why)
    is_auto = config.runtime.backend == "auto"
    given = {
        name: value
        for name, value in file.options.items()
        if not config.gives(name) or (name == "backend" and is_auto)
    }
    if not given:
        return TunedOptions(config, f"{file.path} has nothing that was not given otherwise")
    _warn_of_other_machine(file, _backend_of(file))
    options = {**config.flat(), **given}
    origins: dict[str, Origin] = {**config.origins, **dict.fromkeys(given, "tuned")}
    when = f" of {shown(file.date)}" if file.date else ""
    note = f"{file.path}{when} gave {', '.join(given)}"
    return TunedOptions(EngineConfig.from_options(options, origins), note, tuple(given))


def _backend_of(file: TuningFile) -> str:
    return str(file.options.get("backend", "paddle"))


def _why_not(config: EngineConfig, file: TuningFile) -> str:
    """Says why what was measured with one backend is no good here; empty if it is."""
    measured, given = _backend_of(file), config.runtime.backend
    if given == "auto" and measured not in installed_runtimes():
        return f"it was tuned for the backend {measured}, which is not installed"
    if config.gives("backend") and given not in ("auto", measured):
        return f"it was tuned for the backend {measured}, and {given} was given"
    of_paddle = [name for name in OF_PADDLE_ALONE if config.gives(name)]
    if measured != "paddle" and of_paddle:
        given_there = f"{listed(of_paddle)}, which was given, acts on Paddle alone"
        return f"it was tuned for the backend {measured}, and {given_there}"
    return ""


def _warn_of_other_machine(file: TuningFile, backend: str) -> None:
    here = processor_name()
    if file.processor and here and file.processor != here:
        _warn_of(file, f"on {shown(file.processor)}, and this is {shown(here)}")
    package, version = installed_runtimes().get(backend, ("", ""))
    measured = file.versions.get(package, version)
    if measured != version:
        _warn_of(file, f"with {package} {shown(measured)}, and here is {version}")


def _warn_of(file: TuningFile, difference: str) -> None:
    _warn_once(
        f"{file.path} was measured {difference}; it is followed all the same, and paddleinfer tune may find "
        "something better"
    )


def _warn_once(sentence: str) -> None:
    if sentence not in _warned:
        _warned.add(sentence)
        _log.warning("%s", sentence)
