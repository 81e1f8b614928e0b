"""``paddleinfer verify`` prints whether a model's answers are the same in every way that it may run."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict

from paddleinfer.cli.arrays import add_input, read_inputs
from paddleinfer.cli.engine import add_engine_options, add_model, engine_config
from paddleinfer.cli.output import as_columns, print_document
from paddleinfer.engine.certificate import Agreement, Certificate
from paddleinfer.engine.verify import verify
from paddleinfer.models.reader import load_spec

__all__ = ["SUMMARY", "add_options", "run"]

SUMMARY = "verify that answers are the same alone, in a batch, padded, and in another runtime"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    add_model(parser)
    add_input(parser, "its rows are compared; default: made-up ones", "--inputs")
    add_engine_options(parser)


def run(options: argparse.Namespace) -> int:
    """Prints the certificate, and returns 0 where it holds and else 1."""
    config = engine_config(options)
    inputs = None
    if options.input:
        inputs = read_inputs(options.input, load_spec(options.model, config.runtime.params).inputs)
    certificate = verify(options.model, inputs, config)
    if options.json:
        print_document({"holds": certificate.holds, **asdict(certificate), "faults": certificate.faults})
    else:
        _print(certificate)
    return 0 if certificate.holds else 1


def _print(certificate: Certificate) -> None:
    print(certificate.path)
    facts = [("runtime", certificate.runtime)]
    facts += [("inputs" if place == 0 else "", about) for place, about in enumerate(_listed(certificate))]
    print(as_columns(facts))
    rows = [
        (
            one.output,
            f"alone = {_named(one, certificate)}",
            "yes" if one.holds else "no",
            _number(one.difference),
            _number(one.allowed),
            _number(one.magnitude),
            one.inputs,
        )
        for one in certificate.agreements
    ]
    if rows:
        print()
        print(
            as_columns([("output", "comparison", "holds", "difference", "allowed", "magnitude", "on"), *rows])
        )
    remarks = [f"not compared with {_WAYS[way]}: {why}" for way, why in certificate.not_compared.items()]
    remarks += [
        f"output {name}: {count:,} values are not finite" for name, count in certificate.not_finite.items()
    ]
    if remarks:
        print()
        print("\n".join(remarks))
    print()
    print("\n".join(f"fault: {fault}" for fault in certificate.faults) or "the certificate holds")


def _listed(certificate: Certificate) -> list[str]:
    inputs = list(certificate.inputs)
    if len(inputs) <= _MOST_LISTED:
        return inputs
    left = len(inputs) - _MOST_LISTED + 1
    return [*inputs[: _MOST_LISTED - 1], f"and {left} batches more"]


_MOST_LISTED = 4
_HEADS = ("output", "comparison", "holds", "difference", "allowed", "magnitude", "on")
_WAYS = {"batched": "rows in a batch", "padded": "padded rows", "runtime": "another runtime"}


def _named(one: Agreement, certificate: Certificate) -> str:
    return str(certificate.other_runtime) if one.compared == "runtime" else one.compared


def _number(value: float) -> str:
    return "unequal" if math.isinf(value) else f"{value:.2g}"
