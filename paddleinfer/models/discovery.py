"""Finds the files of exactly one model from the path that a caller gave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paddleinfer.errors import ModelLoadError
from paddleinfer.models import pir, serving_conf
from paddleinfer.models.files import is_directory, is_file, opened, refuse_stand_in
from paddleinfer.models.foreign_files import refuse_foreign
from paddleinfer.models.spec import ModelFormat

__all__ = ["ModelFiles", "find"]

_WANTED = "a .json or .pdmodel program, or __model__, as paddle.jit.save writes them"
_STEM_SUFFIXES = (".json", ".pdmodel")
_LISTED = 5


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model."""

    format: ModelFormat
    program: Path
    params: Path | None
    """The combined parameter file, if it exists, or None."""
    expected_params: str
    """The path at which the combined parameter file is expected."""
    conf: Path | None
    """Paddle Serving's configuration beside the program."""


def find(given: Path, params: str | None = None) -> ModelFiles:
    """Find the model that a directory, a file stem, or a file names.

    Parameters
    ----------
    given
        The path that the caller gave.
    params
        The parameter file's name beside the program, or its path, if given.

    Raises
    ------
    ModelLoadError
        Nothing is there, or no model, or more than one.
    OSError
        A directory or file cannot be read.
    """
    if is_directory(given):
        program = _only_program(given)
    elif given.name == serving_conf.FILE_NAME and is_file(given):
        program = _only_program(given.parent)
    else:
        program = _program_by_name(given)
    files = _with_companions(program)
    return files if params is None else replace(files, params=_named_params(program, params))


def _named_params(program: Path, name: str) -> Path:
    for path in (program.parent / name, Path(name)):
        if is_file(path):
            return path
    others = [entry for entry in _entries(program.parent) if entry.endswith("params")]
    raise ModelLoadError(
        f"params={name!r} is neither a file beside {program} nor the path of one; "
        f"beside it {'lies' if len(others) < 2 else 'lie'} {_listing(others) or 'no parameter file'}"
    )


def _entries(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def _only_program(directory: Path) -> Path:
    names = _entries(directory)
    if not names:
        raise ModelLoadError(f"{directory} is empty; a model directory holds {_WANTED}")
    candidates = [directory / name for name in names if _is_candidate(directory / name)]
    if not candidates and serving_conf.FILE_NAME in names:
        candidates = [directory / name for name in names if _is_serving_program(directory / name)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise _several(directory, candidates)
    raise _none(directory, names)


def _is_candidate(path: Path) -> bool:
    if path.name != "__model__" and path.suffix not in _STEM_SUFFIXES:
        return False
    if not is_file(path):
        return False
    # A model's directory often holds other JSON files: config.json, tokenizer.json.
    return path.suffix != ".json" or pir.is_program(_head(path))


def _is_serving_program(path: Path) -> bool:
    # Paddle Serving also takes any name that ends like this, such as model beside params.
    return path.name.endswith("model") and path.name != "encrypt_model" and is_file(path)


def _head(path: Path) -> bytes:
    with opened(path) as file:
        return file.read(pir.HEAD_SIZE)


def _program_by_name(given: Path) -> Path:
    """Returns the program for a file, or for a stem such as ``dir/inference``."""
    stem = given.name
    if is_file(given):
        refuse_foreign([given])
        if given.name == "__model__" or given.suffix in _STEM_SUFFIXES:
            return given
        if given.name == "__params__" and is_file(given.with_name("__model__")):
            return given.with_name("__model__")
        if given.suffix == ".pdiparams":
            stem = given.stem
        elif _is_serving_program(given) and is_file(given.with_name(serving_conf.FILE_NAME)):
            return given
    siblings = (given.with_name(stem + suffix) for suffix in _STEM_SUFFIXES)
    candidates = [path for path in siblings if stem and is_file(path)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise _several(given.parent, candidates)
    wanted = " nor ".join(stem + suffix for suffix in _STEM_SUFFIXES)
    if is_file(given):
        raise ModelLoadError(
            f"{given} is not a program file, and neither {wanted} is beside it; "
            "give the program, or its directory"
        )
    if not is_directory(given.parent):
        raise ModelLoadError(f"{given} does not exist; give a model's directory, file or file stem")
    refuse_foreign([path for path in given.parent.iterdir() if path.name.startswith(f"{stem}.")])
    found = _listing(_entries(given.parent))
    raise ModelLoadError(
        f"{given} does not exist, and neither {wanted} does; {given.parent} holds {found or 'nothing'}"
    )


def _with_companions(program: Path) -> ModelFiles:
    names = _entries(program.parent)
    conf = program.with_name(serving_conf.FILE_NAME)
    if program.suffix in _STEM_SUFFIXES:
        expected = program.stem + ".pdiparams"
        params = expected if expected in names else _sole_unclaimed_params(program, names)
        kind = ModelFormat(program.suffix[1:])
    else:
        expected, kind = "__params__", ModelFormat.DUNDER_MODEL
        params = expected if expected in names else None
    if params is None and conf.name in names:
        ending = [name for name in names if name.endswith("params") and name != "encrypt_params"]
        params = ending[0] if len(ending) == 1 else None
    path = program.with_name(params) if params else None
    return ModelFiles(
        format=kind,
        program=program,
        params=path if path and is_file(path) else None,
        expected_params=expected,
        conf=conf if is_file(conf) else None,
    )


def _sole_unclaimed_params(program: Path, names: Sequence[str]) -> str | None:
    """Finds Paddle Serving's ``params.pdiparams`` beside ``model.pdmodel``, if nothing else claims it."""
    params = [name for name in names if name.endswith(".pdiparams")]
    programs = [name for name in names if _is_candidate(program.with_name(name))]
    return params[0] if len(params) == 1 and programs == [program.name] else None


def _several(directory: Path, candidates: Sequence[Path]) -> ModelLoadError:
    names = ", ".join(path.name for path in candidates)
    return ModelLoadError(
        f"{directory} holds {len(candidates)} models ({names}); "
        f"give one of the files, or its stem with the extension, such as {candidates[0]}"
    )


def _none(directory: Path, names: Sequence[str]) -> ModelLoadError:
    refuse_foreign([directory / name for name in names])
    foreign = [name for name in names if name.endswith(".json") and (directory / name).is_file()]
    if "encrypt_model" in names:
        why = "encrypt_model is encrypted, which paddleinfer cannot read; a model directory holds"
    elif len(foreign) == 1:
        refuse_stand_in(directory / foreign[0], _head(directory / foreign[0]))
        why = f"{foreign[0]} is not a Paddle program; a model directory holds"
    else:
        why = "a model directory holds"
    found = _listing(name + "/" if (directory / name).is_dir() else name for name in names)
    return ModelLoadError(f"{directory} holds no model, only {found}; {why} {_WANTED}")


def _listing(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return ", ".join(listed[:_LISTED]) + more
