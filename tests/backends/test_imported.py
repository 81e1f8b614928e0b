"""A runtime's Python package that cannot be imported is a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddleinfer.backends.onnx.imported import imported


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise ImportError", "ImportError"),
        ("raise AttributeError('_ARRAY_API not found')", "_ARRAY_API not found"),
        ("def", "invalid syntax"),
    ],
)
def test_a_package_that_fails_as_it_is_imported_is_named_with_its_reason(
    code: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_runtime.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match=f"broken_runtime cannot be imported here: .*{why}"):
        imported("broken_runtime")


def test_a_package_that_works_is_imported() -> None:
    assert imported("json").loads("1") == 1
