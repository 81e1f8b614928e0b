"""The command ``paddleinfer-http``: what it would start, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddleinfer.shim import cli
from paddleinfer.shim.cli import Plan


def plan(*arguments: str | Path, environment: dict[str, str] | None = None) -> Plan:
    namespace = cli._parser().parse_args([str(argument) for argument in arguments])
    return cli.plan_of(namespace, environment or {})


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The sentence of a command that does not start, which ends with 2."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as end:  # argparse's own
        code = end.code
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("paddleinfer-http: ")
    return line
