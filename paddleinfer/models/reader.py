"""Makes a ModelSpec from a path: its files, its tensors, and whether requests may share a run.

Nothing here imports Paddle, so a model is inspected in milliseconds, and refused with a
sentence even where Paddle itself would crash or compute with garbage.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from paddleinfer.errors import ModelLoadError
from paddleinfer.models import discovery, onnx_file, params, pir, serving_conf
from paddleinfer.models.file_states import FileState, refuse_changed, settled_states
from paddleinfer.models.files import is_file, read_whole
from paddleinfer.models.plain_integers import plain_integers
from paddleinfer.models.program import read_program as read_legacy_program
from paddleinfer.models.rows import analysis
from paddleinfer.models.spec import DTYPES, Batchable, ModelFormat, ModelSpec, Parameter, Program, TensorSpec
from paddleinfer.sentences import shortened, shown

__all__ = ["DTYPES", "Batchable", "ModelFormat", "ModelSpec", "TensorSpec", "is_model", "load_spec"]

_LONGEST_SENTENCE = 2000
_ONNX = ".onnx"


def load_spec(path: str | os.PathLike[str], params: str | None = None) -> ModelSpec:
    """Describe the model in a directory.

    Parameters
    ----------
    path
        A directory, a file stem (``dir/inference``), or one of the model's files. The model is a
        ``.json`` or ``.pdmodel`` program with its ``.pdiparams``, ``__model__`` with
        ``__params__`` or with one file per parameter, or a Paddle Serving directory of any of
        these. Or it is a ``.onnx`` file.
    params
        The parameter file's name beside the program, or its path; None: the file named after the program.

    Raises
    ------
    ModelLoadError
        There is no model, more than one, or one that is incomplete, damaged or cannot be run here.
    """
    given = _as_path(path)
    try:
        spec = _load_onnx(given, params) if given.suffix == _ONNX and is_file(given) else _load(given, params)
        refuse_changed(spec.files, "read")
    except OSError as error:
        where = error.filename or given
        raise ModelLoadError(f"cannot read {shortened(str(where))}: {error.strerror or error}") from error
    except ModelLoadError as error:
        sentence = str(error)
        if len(sentence) <= _LONGEST_SENTENCE:
            raise
        # A name in a model file may be as long as the file.
        half = _LONGEST_SENTENCE // 2
        raise ModelLoadError(f"{sentence[:half]} […] {sentence[-half:]}") from error.__cause__
    return spec


def _load_onnx(given: Path, params: str | None) -> ModelSpec:
    if params is not None:
        raise ModelLoadError(f"{given} holds its weights itself, and params={params!r} names a file for them")
    return onnx_file.read_spec(given)


def is_model(path: str | os.PathLike[str]) -> bool:
    """Tells whether the path leads to a model's program, whole or damaged."""
    try:
        discovery.find(_as_path(path))
    except (ModelLoadError, OSError):
        return False
    return True


def _as_path(path: object) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise ModelLoadError(f"a model's path is a str or an os.PathLike, not {type(path).__name__}")
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise ModelLoadError(f"{shown(text)} is not a path; give a model's directory, file or file stem")
    return Path(text)


def _load(given: Path, params_name: str | None) -> ModelSpec:
    files = discovery.find(given, params_name)
    states = settled_states(path for path in (files.program, files.params, files.conf) if path is not None)
    data = read_whole(files.program)
    read = pir.read_program if files.format is ModelFormat.JSON else read_legacy_program
    program = read(data, files.program)
    _check_tensors(program, files.program)
    _refuse_lod(program, files.program)
    if params_name is not None and not program.parameters:
        raise ModelLoadError(
            f"{files.program} has no parameters, and params={params_name!r} names a file for them"
        )
    params, separate = _check_parameters(program.parameters, files)
    inputs, outputs = program.inputs, program.outputs
    if files.conf is not None:
        conf = serving_conf.read_conf(files.conf)
        inputs = _with_aliases(inputs, [(one.name, one.alias) for one in conf.feeds], "input", files)
        outputs = _with_aliases(outputs, [(one.name, one.alias) for one in conf.fetches], "output", files)
    batchable, reason, operators_forbid = _batchable(program)
    return ModelSpec(
        path=given,
        format=files.format,
        program_path=files.program,
        params_path=params,
        model_dir=files.program.parent if program.parameters and params is None else None,
        inputs=inputs,
        outputs=outputs,
        parameters=tuple(parameter.name for parameter in program.parameters),
        batchable=batchable,
        batchable_reason=reason,
        operators_forbid=operators_forbid,
        plain_integers=_plain_integers(program),
        files=(*states, *separate),
    )


def _check_tensors(program: Program, path: Path) -> None:
    if not program.outputs:
        lacking = "fetches no output" if program.inputs else "feeds no input and fetches no output"
        raise ModelLoadError(
            f"{path} {lacking}, so it is not made for inference; "
            "export it with paddle.jit.save or paddle.static.save_inference_model"
        )
    for side, specs in (("input", program.inputs), ("output", program.outputs)):
        for spec in specs:
            if spec.dtype not in DTYPES:
                raise ModelLoadError(
                    f"{side} {spec.name!r} of {path} has the dtype {spec.dtype}, "
                    f"and paddleinfer takes {', '.join(DTYPES)}"
                )
        name = _repeated(spec.name for spec in specs)
        if name is not None:
            raise ModelLoadError(f"{path} has two {side}s named {name!r}; export it with a name for each")


def _refuse_lod(program: Program, path: Path) -> None:
    if program.lod_inputs:
        raise ModelLoadError(
            f"input {program.lod_inputs[0]!r} of {path} takes rows of several sequences with their lengths "
            "(LoD), which an array does not carry; export the model with padded inputs and a mask or lengths "
            "instead"
        )


def _check_parameters(
    parameters: Sequence[Parameter], files: discovery.ModelFiles
) -> tuple[Path | None, Sequence[FileState]]:
    """Returns the combined file, or the states of the parameters' own files; all of them are whole."""
    if not parameters:
        return None, ()  # a parameter file would make Paddle fail
    if files.params is not None:
        params.check_combined(files.params, parameters, files.program)
        return files.params, ()
    # Paddle finds one file per parameter only in a directory that holds a file of exactly this name.
    if files.program.name != "__model__":
        others = sorted(path.name for path in files.program.parent.glob("*params"))
        found = f"; {', '.join(others)} cannot be told to belong to it" if others else ""
        raise ModelLoadError(
            f"{files.program} has {len(parameters)} parameters, but {files.expected_params} "
            f"is not beside it{found}"
        )
    return None, params.check_separate(files.program.parent, parameters, files.program)


def _with_aliases(
    specs: Sequence[TensorSpec],
    pairs: Sequence[tuple[str, str]],
    side: str,
    files: discovery.ModelFiles,
) -> tuple[TensorSpec, ...]:
    names = {spec.name for spec in specs}
    for name, alias in pairs:
        if name not in names:
            has = ", ".join(repr(spec.name) for spec in specs) or "none"
            raise ModelLoadError(f"{files.conf} names the {side} {name!r}, but {files.program} has {has}")
        if alias != name and alias in names:
            raise ModelLoadError(
                f"{files.conf} gives the {side} {name!r} the alias {alias!r}, another one's name"
            )
    name_twice = _repeated(name for name, _ in pairs)
    if name_twice is not None:
        raise ModelLoadError(f"{files.conf} names the {side} {name_twice!r} twice")
    alias_twice = _repeated(alias for _, alias in pairs)
    if alias_twice is not None:
        raise ModelLoadError(f"{files.conf} gives two {side}s the alias {alias_twice!r}")
    aliases = {name: alias for name, alias in pairs if alias != name}
    return tuple(replace(spec, alias=aliases.get(spec.name)) for spec in specs)


def _repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


_WIDE_INTEGERS = ("int32", "int64")


def _plain_integers(program: Program) -> tuple[str, ...]:
    wide = [place for place, spec in enumerate(program.inputs) if spec.dtype in _WIDE_INTEGERS]
    if not wide or all(spec.dtype not in _WIDE_INTEGERS for spec in program.outputs):
        return ()
    plain = plain_integers(program.graph)
    return tuple(program.inputs[place].name for place in wide if place in plain)


def _batchable(program: Program) -> tuple[Batchable, str, bool]:
    """Returns the verdict, why, and whether operators decided it. A file's -1 alone never means "yes"."""
    if not program.inputs:
        return Batchable.NO, "the model has no inputs", False
    for spec in program.inputs:
        if spec.shape == ():
            return Batchable.NO, f"input {spec.name!r} is a scalar and has no leading dimension", False
        if spec.shape is not None and spec.shape[0] >= 0:
            return Batchable.NO, f"input {spec.name!r} has the fixed leading dimension {spec.shape[0]}", False
    verdict = analysis.analyse(program.graph)
    return verdict.batchable, verdict.reason, verdict.batchable is Batchable.NO
