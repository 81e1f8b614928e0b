"""Files are written whole or not at all, and a model's text does no harm to a log."""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
from pathlib import Path

import numpy as np
import pytest

import paddleinfer
from paddleinfer import whole_files
from paddleinfer.errors import ModelError, ModelLoadError
from paddleinfer.sentences import printable
from paddleinfer.shim.service.log_format import escape_logs
from paddleinfer.tracing.files import write_trace
from paddleinfer.whole_files import replacing, write_whole

ESCAPES = "\x1b]0;owned\x07\x1b[2J\r\n2026-01-01 INFO forged\x9b31m\u202e"


def full_disk(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_trace_replaces_the_one_before_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text("old")
    path.chmod(0o640)
    write_trace(path, {"traceEvents": []})
    assert path.read_text() == '{"traceEvents":[]}'
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["trace.json"]


def test_a_full_disk_keeps_the_trace_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace.json.gz"
    path.write_text("old")
    monkeypatch.setattr(whole_files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left") as caught:
        write_trace(path, {"traceEvents": []})
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["trace.json.gz"]


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write_bytes(b"half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    write_whole(tmp_path / "new", b"")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_link_stays_one_and_a_device_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    write_whole(os.devnull, b"nothing")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_file_that_is_mounted_by_itself_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(source: object, target: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    path = tmp_path / "trace.json"
    path.write_bytes(b"old")
    monkeypatch.setattr(whole_files.os, "replace", busy)
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["trace.json"]


# Escape sequences


def test_what_acts_upon_a_terminal_is_escaped() -> None:
    assert printable("naïve 模型\u3000x") == "naïve 模型\u3000x"
    assert printable(ESCAPES).isprintable()
    assert printable("\x1b[31m\udc80") == "\\x1b[31m\\udc80"


def test_a_model_s_error_is_printable() -> None:
    def fail(feeds: dict[str, np.ndarray]) -> None:
        raise ValueError("bad " + ESCAPES)

    with (
        paddleinfer.Engine.from_callable(fail, {"x": ("float32", (-1, 1))}, ["y"]) as engine,
        pytest.raises(ModelError) as caught,
    ):
        engine.infer({"x": np.zeros((1, 1), "float32")})
    assert str(caught.value).isprintable()
    assert "bad \\x1b]0;owned" in str(caught.value)


def test_a_name_in_a_file_s_error_is_printable(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError) as caught:
        paddleinfer.Engine(tmp_path / ESCAPES)
    assert str(caught.value).isprintable()


def test_nothing_that_is_logged_reaches_a_terminal_raw() -> None:
    logger = logging.Logger("of a server")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger.addHandler(handler)
    escape_logs([logger])
    escape_logs([logger])  # once is enough
    try:
        raise ValueError("\x1b[31m")
    except ValueError:
        logger.exception("model %s failed", "\x1b]0;owned\x07")
    written = stream.getvalue()
    assert written.startswith("ERROR: model \\x1b]0;owned\\x07 failed\nTraceback")
    assert written.endswith("ValueError: \\x1b[31m\n")
    assert not set(written) & {"\x1b", "\x07", "\r"}
