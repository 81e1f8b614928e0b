"""Paddle's exceptions: the one line of them that helps."""

from __future__ import annotations

import re

__all__ = ["useful_line"]

# The line Paddle itself puts in parentheses: "(InvalidArgument) The shape …".
_NAMED = re.compile(r"^\s*(?:\w+: )?\((?P<kind>[A-Z][A-Za-z]+)\)\s*(?P<text>.+)$", re.MULTILINE)
# Below "Error Message Summary:" in its older reports, and under "In user code:" for .json programs.
_SUMMARY = re.compile(r"^[ \t]*(?P<line>\w+Error: (?!In user code:).+)$", re.MULTILINE)
_SOURCE = re.compile(r"\s*\(at [^()]*:\d+\)\s*$")
_HINT = re.compile(r"^\s*\[Hint: (?P<hint>.*?)\]?\s*(\(at .*)?$", re.MULTILINE)


def useful_line(text: str) -> str:
    """The useful line of a failure: of Paddle's long C++ report, or the first line of anything else."""
    named = _NAMED.search(text)
    summary = None if named is not None else _SUMMARY.search(text)
    if named is not None:
        line, end = f"({named['kind']}) {_SOURCE.sub('', named['text']).strip()}", named.end()
    elif summary is not None:
        line, end = _SOURCE.sub("", summary["line"]).strip(), summary.end()
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[0] if lines else "the model failed without a message"
    hint = _HINT.search(text, end)
    return f"{line} [{hint['hint'].rstrip('.]')}]" if hint else line
