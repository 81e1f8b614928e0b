"""``paddleinfer cache`` shows or removes the models that were converted to ONNX."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from paddleinfer.backends.onnx.cache import CachedModel, ModelCache, default_folder
from paddleinfer.cli.engine import model_path
from paddleinfer.cli.output import as_columns, print_document

__all__ = ["SUMMARY", "add_options", "run"]

SUMMARY = "show or remove the models that were converted to ONNX"

_NEVER_TRIMMED = 1 << 62


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    parser.add_argument("action", metavar="list|clear", choices=("list", "clear"), help="what to do")
    parser.add_argument(
        *("--onnx-cache", "--onnx_cache"),
        metavar="DIR",
        type=model_path,
        help="the folder; default: $PADDLEINFER_ONNX_CACHE, or paddleinfer/onnx in the user's caches",
    )


def run(options: argparse.Namespace) -> int:
    """Prints the models, or removes them, and returns the exit code."""
    folder = options.onnx_cache or Path(os.environ.get("PADDLEINFER_ONNX_CACHE") or default_folder())
    cache = ModelCache(folder, _NEVER_TRIMMED)
    if options.action == "list":
        models = cache.entries()
        if options.json:
            print_document({"folder": str(folder), "models": [_as_document(one) for one in models]})
        else:
            _print_list(folder, models)
        return 0
    removed, in_use = cache.clear()
    if options.json:
        print_document(
            {
                "folder": str(folder),
                "removed": [_as_document(one) for one in removed],
                "in_use": [_as_document(one) for one in in_use],
            }
        )
        return 0
    print(f"removed {_counted(removed)} from {folder}")
    if in_use:
        print(f"kept {_counted(in_use)}, which a process is loading")
    return 0


def _print_list(folder: Path, models: list[CachedModel]) -> None:
    print(f"{folder}: {_counted(models)}")
    if not models:
        return
    rows = [
        (
            str(one.about.get("source", "not known")),
            f"{one.size_bytes:,}",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used_seconds)),
            f"paddle2onnx {one.about.get('paddle2onnx', '?')}, {one.about.get('paddle', '?')}",
            one.key,
        )
        for one in models
    ]
    print(as_columns([("model", "bytes", "last used", "converted by", "key"), *rows]))


def _counted(models: list[CachedModel]) -> str:
    count = "1 model" if len(models) == 1 else f"{len(models)} models"
    return f"{count}, {sum(one.size_bytes for one in models):,} bytes"


def _as_document(one: CachedModel) -> dict[str, Any]:
    return {
        "key": one.key,
        "path": str(one.path),
        "bytes": one.size_bytes,
        "used_seconds": one.used_seconds,
        **{name: one.about.get(name) for name in ("source", "paddle", "paddle2onnx", "opset")},
    }
