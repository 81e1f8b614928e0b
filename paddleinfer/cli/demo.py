"""``paddleinfer demo`` does what ``make demo`` does."""

from __future__ import annotations

import argparse
import sys

from paddleinfer.cli.output import print_document
from paddleinfer.demo import demo
from paddleinfer.errors import ConfigError

__all__ = ["SUMMARY", "add_options", "run"]

SUMMARY = "train a small model on handwritten digits and serve it, beside Paddle's own predictors"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    demo.add_options(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the demo; returns 1 if accuracy or labels are not as promised."""
    demo.check_options(options)
    missing = demo.missing_packages()
    if missing:
        raise ConfigError(missing)
    demo.make_place(options.out)
    demo.silence()
    report = demo.run(options.out, options.threads, options.seconds, quiet=options.json)
    if options.json:
        print_document(report.as_dict())
    for sentence in report.broken:
        print(sentence, file=sys.stderr)
    return 1 if report.broken else 0
