"""``python -m paddleinfer.paddlex`` is PaddleX's command, with one pipeline for a server's threads."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from paddlex_double import PaddleXDouble

_COMMAND, _FLAGS = "paddlex.paddlex_cli", "paddlex.utils.flags"


class Command:
    """PaddleX's command, which remembers what it was told."""

    def __init__(self, double: PaddleXDouble) -> None:
        self.arguments: list[str] = []
        self.pipeline: Any = None
        double.modules[_COMMAND] = {
            "main": self._main,
            "create_pipeline": lambda: types.SimpleNamespace(predict=list),
        }
        double.modules[_FLAGS] = {"SERVING_SERIAL_PIPELINE_CALLS": True}

    def _main(self) -> None:
        self.arguments = sys.argv[1:]
        self.pipeline = sys.modules[_COMMAND].create_pipeline()  # type: ignore[attr-defined]

    def run(self, patch: pytest.MonkeyPatch, *arguments: str) -> bool:
        """Runs ours, and tells whether the server's calls would be serial."""
        patch.setattr(sys, "argv", ["paddlex", *arguments])
        importlib.import_module("paddleinfer.paddlex.__main__").main()
        serial: bool = sys.modules[_FLAGS].SERVING_SERIAL_PIPELINE_CALLS  # type: ignore[attr-defined]
        return serial


@pytest.fixture
def command() -> Iterator[Command]:
    double = PaddleXDouble()
    made = Command(double)
    with double.installed():
        yield made


def test_a_server_calls_one_shared_pipeline_side_by_side(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PADDLE_PDX_SERVING_SERIAL_PIPELINE_CALLS", raising=False)
    assert not command.run(monkeypatch, "--serve", "--pipeline", "OCR")
    assert command.arguments == ["--serve", "--pipeline", "OCR", "--engine", "paddleinfer"]
    assert type(command.pipeline).__name__ == "SharedPipeline"


def test_what_the_environment_says_of_the_servers_calls_stays(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDLE_PDX_SERVING_SERIAL_PIPELINE_CALLS", "1")
    assert command.run(monkeypatch, "--serve", "--pipeline", "OCR")


@pytest.mark.parametrize("named", [["--engine", "hpi"], ["--engine=hpi"]])
def test_an_engine_that_is_named_stays_and_without_a_server_nothing_else_changes(
    command: Command, monkeypatch: pytest.MonkeyPatch, named: list[str]
) -> None:
    assert command.run(monkeypatch, "--pipeline", "OCR", *named)
    assert command.arguments == ["--pipeline", "OCR", *named]
    assert isinstance(command.pipeline, types.SimpleNamespace)
