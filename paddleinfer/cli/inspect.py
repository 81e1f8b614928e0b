"""``paddleinfer inspect`` shows what a model is, and what would run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from paddleinfer.backends.paddle.expected_faults import expected_faults
from paddleinfer.backends.paddle.faults import KNOWN_FAULTS
from paddleinfer.backends.paddle.graph_passes import WORTH
from paddleinfer.cli.engine import add_engine_options, add_model, engine_config, open_engine
from paddleinfer.cli.output import as_columns, print_document, shape_text, value_text
from paddleinfer.config import RuntimeOptions
from paddleinfer.models.reader import load_spec
from paddleinfer.models.spec import ModelFormat, ModelSpec, TensorSpec
from paddleinfer.models.version import made_with

__all__ = ["SUMMARY", "add_options", "run"]

SUMMARY = "show what a model is, and what would run"

_FORMATS = {
    ModelFormat.JSON: "json, a Paddle 3 program",
    ModelFormat.PDMODEL: "pdmodel, a legacy program",
    ModelFormat.DUNDER_MODEL: "__model__, a legacy program",
    ModelFormat.ONNX: "onnx, a model for other runtimes than Paddle",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    add_model(parser)
    parser.add_argument("--no-load", action="store_true", help="read the files only, without Paddle")
    add_engine_options(parser)


def run(options: argparse.Namespace) -> int:
    """Prints the description, and returns the exit code."""
    config = engine_config(options)
    spec = load_spec(options.model, config.runtime.params)
    document = {**_of_files(spec), **_faults(spec, config.runtime)}
    if not options.no_load:
        with open_engine(options.model, config) as engine:
            document["effective_config"] = engine.effective_config()
        batchable = document["effective_config"]["batchable"]
        document["batchable"] = {"value": batchable["value"], "reason": batchable.get("note", "")}
    if options.json:
        print_document(document)
    else:
        _print(document)
    return 0


def _of_files(spec: ModelSpec) -> dict[str, Any]:
    assert spec.program_path is not None
    version, sentence = made_with(spec)
    if spec.model_dir is not None:
        weights = [spec.model_dir / name for name in spec.parameters]
    else:
        weights = [] if spec.params_path is None else [spec.params_path]
    return {
        "path": str(spec.path),
        "format": spec.format,
        "program": {"path": str(spec.program_path), "bytes": spec.program_path.stat().st_size},
        "weights": {
            "paths": [str(path) for path in weights],
            "bytes": sum(path.stat().st_size for path in weights),
            "parameters": len(spec.parameters),
        },
        "paddle_version": version,
        "paddle_version_note": sentence,
        "inputs": [_tensor(tensor) for tensor in spec.inputs],
        "outputs": [_tensor(tensor) for tensor in spec.outputs],
        "batchable": {"value": spec.batchable.value, "reason": spec.batchable_reason},
        "ir_optim_note": f"on is worth {WORTH}" if spec.format.is_legacy else "",
    }


def _faults(spec: ModelSpec, options: RuntimeOptions) -> dict[str, Any]:
    installed, workarounds = expected_faults(spec, options)
    symptoms = {fault.name: fault.symptom for fault in KNOWN_FAULTS}
    return {
        "installed_paddle": installed or None,
        "known_faults": [
            {
                "name": found.fault,
                "symptom": symptoms[found.fault],
                "option": found.about,
                "workaround": found.sentence,
            }
            for found in workarounds
        ],
    }


def _tensor(tensor: TensorSpec) -> dict[str, Any]:
    return {"name": tensor.name, "alias": tensor.alias, "dtype": tensor.dtype, "shape": tensor.shape}


def _print(document: Mapping[str, Any]) -> None:
    weights = document["weights"]
    files = weights["paths"]
    where = files[0] if len(files) == 1 else f"{len(files)} files" if files else "none"
    facts = [
        ("format", _FORMATS[document["format"]]),
        ("program", f"{document['program']['path']}, {document['program']['bytes']:,} bytes"),
        ("weights", f"{where}, {weights['bytes']:,} bytes, {_parameters(weights['parameters'])}"),
        ("made with", document["paddle_version_note"]),
        ("batchable", _with_reason(document["batchable"])),
    ]
    if document["ir_optim_note"]:
        facts.append(("ir_optim", f"off by default; {document['ir_optim_note']}"))
    print(document["path"])
    print(as_columns(facts))
    for side in ("inputs", "outputs"):
        print(f"\n{side}")
        print(as_columns(_tensor_rows(document[side])) if document[side] else "  none")
    if document["known_faults"]:
        print(f"\nknown faults of {document['installed_paddle']} that the model meets, and what is done")
        for fault in document["known_faults"]:
            facts = [(fault["name"], fault["symptom"]), (fault["option"], fault["workaround"])]
            print(as_columns(facts))
    if "effective_config" in document:
        print("\nwhat would run")
        lines = document["effective_config"]
        rows = [
            (name, value_text(line["value"]), line["source"], line.get("note", ""))
            for name, line in lines.items()
        ]
        print(as_columns([("option", "value", "source", "note"), *rows]))


def _parameters(count: int) -> str:
    return "1 parameter" if count == 1 else f"{count:,} parameters"


def _with_reason(batchable: Mapping[str, Any]) -> str:
    value = value_text(batchable["value"])
    return f"{value}: {batchable['reason']}" if batchable["reason"] else value


def _tensor_rows(tensors: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    aliased = any(tensor["alias"] for tensor in tensors)
    rows = [("name", "dtype", "shape", *(["alias"] if aliased else []))]
    for tensor in tensors:
        alias = [tensor["alias"] or ""] if aliased else []
        rows.append((tensor["name"], tensor["dtype"], shape_text(tensor["shape"]), *alias))
    return rows
