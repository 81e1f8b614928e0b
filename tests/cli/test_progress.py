"""The bar: on a terminal only, with rich or without it."""

from __future__ import annotations

import importlib.util
import io
import sys

import pytest

from paddleinfer.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    with progress("measuring", 4.0) as advance:
        advance(1.0)
        advance(5.0)
    return stream.getvalue()


def test_a_pipe_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert show(monkeypatch, io.StringIO()) == ""


def test_a_terminal_that_only_goes_forward_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert show(monkeypatch, Terminal()) == ""


def test_without_rich_a_terminal_gets_one_line_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    blank = " " * len("measuring 100%")
    assert show(monkeypatch, Terminal()) == f"\rmeasuring  25%\rmeasuring 100%\r{blank}\r"


@pytest.mark.skipif(importlib.util.find_spec("rich") is None, reason="needs rich")
@pytest.mark.parametrize("colours", [True, False])
def test_with_rich_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch, colours: bool) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colours:
        monkeypatch.setenv("NO_COLOR", "1")
    shown = show(monkeypatch, Terminal())
    assert "measuring" in shown
    assert ("\x1b[35m" in shown or "\x1b[38" in shown) == colours
