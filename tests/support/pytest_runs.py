"""pytest inside pytest, with the plugin and no other."""

from __future__ import annotations

import pytest


def run(pytester: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(source)
    return pytester.runpytest_inprocess("-p", "paddleinfer.pytest_plugin", "-W", "error", *arguments)


def text_of(result: pytest.RunResult) -> str:
    return result.stdout.str()
