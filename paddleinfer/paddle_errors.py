"""Paddle's exceptions: the one line of them that helps."""

from __future__ import annotations

import re

__all__ = ["useful_line"]

# The line Paddle itself puts in parentheses: "(InvalidArgument) The shape …".
_NAMED = re.compile(r"^\s*(?:\w+: )?\((?P<kind>[A-Z][A-Za-z]+)\)\s*(?P<text>.+)$", re.MULTILINE)
# What stands below "Error Message Summary:" in its older reports.
_SUMMARY = re.compile(r"^\w+Error: .+$", re.MULTILINE)
_SOURCE = re.compile(r"\s*\(at [^()]*:\d+\)\s*$")
_HINT = re.compile(r"^\s*\[Hint: (?P<hint>.*?)\]?\s*(\(at .*)?$", re.MULTILINE)


def useful_line(text: str) -> str:
    """The useful line of a failure: of Paddle's long C++ report, or the first line of anything else."""
    named = _NAMED.search(text)
    if named is None:
        summary = _SUMMARY.search(text)
        if summary is not None:
            return _SOURCE.sub("", summary[0]).strip()
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[0] if lines else "the model failed without a message"
    line = f"({named['kind']}) {_SOURCE.sub('', named['text']).strip()}"
    hint = _HINT.search(text, named.end())
    return f"{line} [{hint['hint'].rstrip('.]')}]" if hint else line
