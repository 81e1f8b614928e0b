"""``paddleinfer convert`` writes or checks Paddle Serving's configurations for a model."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddleinfer.cli.engine import add_model, model_path
from paddleinfer.cli.output import as_columns, print_document
from paddleinfer.errors import ConfigError, ModelLoadError
from paddleinfer.models import paddleocr_shapes
from paddleinfer.models.files import is_file
from paddleinfer.models.reader import ModelSpec, load_spec
from paddleinfer.models.serving_conf import CLIENT_FILE_NAME, FILE_NAME, ServingConf, read_conf
from paddleinfer.models.serving_conf_text import conf_of, conf_text, mismatches
from paddleinfer.sentences import shown
from paddleinfer.whole_files import write_whole

__all__ = ["SUMMARY", "add_options", "run"]

SUMMARY = "write or check Paddle Serving's configurations for a model"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    add_model(parser)
    parser.add_argument("--check", action="store_true", help="check the existing ones, and write nothing")
    parser.add_argument(
        *("--serving-server", "--serving_server"),
        metavar="OUT",
        type=model_path,
        help=f"copy the model there, with its {FILE_NAME}; default: write that beside the model",
    )
    parser.add_argument(
        *("--serving-client", "--serving_client"),
        metavar="OUT",
        type=model_path,
        help=f"where to write {CLIENT_FILE_NAME}; default: beside the other file",
    )
    for side in ("feed", "fetch"):
        parser.add_argument(
            *(f"--{side}-alias-names", f"--{side}_alias_names"),
            metavar="A,B",
            type=lambda text: text.split(","),
            default=[],
            help=f"other names for the {'inputs' if side == 'feed' else 'outputs'}, in the model's order",
        )
    parser.add_argument(
        "--params", metavar="FILE", help="the parameter file, if it is not named after the program"
    )


def run(options: argparse.Namespace) -> int:
    """Writes or checks them, and returns the exit code."""
    spec = load_spec(options.model, options.params)
    assert spec.program_path is not None
    _check_aliases(spec, options.feed_alias_names, options.fetch_alias_names)
    place: Path = options.serving_server or spec.program_path.parent
    if options.serving_server is not None and not options.check:
        _copy(spec, place)
    server = place / FILE_NAME
    client = (options.serving_client or place) / CLIENT_FILE_NAME
    conf = conf_of(spec, options.feed_alias_names, options.fetch_alias_names)
    said = []
    for path in (server, client):
        if is_file(path):
            conf = _checked(path, spec, None if path is server else conf)
            if options.feed_alias_names or options.fetch_alias_names:
                raise ConfigError(f"{path} is there already; remove it to give other aliases")
            said.append({"path": str(path), "state": "fits"})
        elif options.check:
            raise ConfigError(f"{path} is missing; paddleinfer convert {options.model} writes it")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, conf_text(conf).encode())
            said.append({"path": str(path), "state": "written"})
    _print(said, as_json=options.json)
    return 0


def _check_aliases(spec: ModelSpec, feeds: Sequence[str], fetches: Sequence[str]) -> None:
    for side, tensors, aliases in (("feed", spec.inputs, feeds), ("fetch", spec.outputs, fetches)):
        flag = f"--{side}-alias-names"
        if not aliases:
            continue
        if len(aliases) != len(tensors):
            names = ", ".join(tensor.name for tensor in tensors)
            raise ConfigError(f"{flag} has {len(aliases)} names, and the model has {len(tensors)}: {names}")
        if len(set(aliases)) < len(aliases) or not all(aliases):
            raise ConfigError(f"{flag} must be different names with commas between, not {shown(aliases)}")
        for tensor, alias in zip(tensors, aliases, strict=True):
            if alias != tensor.name and any(alias == other.name for other in tensors):
                raise ConfigError(f"{flag} calls {tensor.name!r} {alias!r}, which is another one's name")


def _checked(path: Path, spec: ModelSpec, as_of_server: ServingConf | None) -> ServingConf:
    conf = read_conf(path)
    wrong = mismatches(conf, spec)
    if as_of_server is not None and not wrong and _aliases(conf) != _aliases(as_of_server):
        wrong = [f"its aliases are not those of {FILE_NAME}"]
    if wrong:
        raise ModelLoadError(
            f"{path} does not fit its model: {'; '.join(wrong)}; remove it, and convert the model again"
        )
    return conf


def _aliases(conf: ServingConf) -> list[tuple[str, str]]:
    return sorted((one.name, one.alias) for one in (*conf.feeds, *conf.fetches))


def _copy(spec: ModelSpec, target: Path) -> None:
    assert spec.program_path is not None
    source = spec.program_path.parent
    if target.exists() and any(target.iterdir()):
        raise ConfigError(f"{target} is not empty; give --serving-server a new directory")
    files = [spec.program_path]
    if spec.params_path is not None:
        files.append(spec.params_path)
    elif spec.model_dir is not None:
        files += [source / name for name in spec.parameters]
    if is_file(source / paddleocr_shapes.FILE_NAME):
        files.append(source / paddleocr_shapes.FILE_NAME)
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, target / file.name)


def _print(said: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_document({"files": said})
    else:
        print(as_columns([(line["path"], line["state"]) for line in said], indent=0))
