"""Runs the command ``paddleinfer``, and reads its output."""

from __future__ import annotations

import pytest

from paddleinfer.cli.main import main


def said(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """What the command says on stderr, in its one line, while stdout stays empty."""
    assert main([str(argument) for argument in arguments]) == code
    out, err = capsys.readouterr()
    assert out == "" and err.endswith("\n") and err.count("\n") == 1, (out, err)
    return err
