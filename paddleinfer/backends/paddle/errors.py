"""Finds in Paddle's exceptions the one line that helps, and the kind of failure."""

from __future__ import annotations

import re

__all__ = ["is_about_values", "is_bare", "is_of_onednn", "useful_line", "without_source"]

# Paddle's reports have a few kilobytes; the text of a Python function's error may have any length.
_MOST_CHARACTERS = 1 << 16

# The line in Paddle's own form: "(InvalidArgument) The shape …".
_NAMED = re.compile(r"^[ \t]*(?:\w+: )?\((?P<kind>[A-Z][A-Za-z]+)\)[ \t]*(?P<text>\S.*)$", re.MULTILINE)
# The line below "Error Message Summary:" in older reports, and below "In user code:" for .json programs.
# Kernels that check each element put another "Error: " before it.
_SUMMARY = re.compile(
    r"^[ \t]*(?:(?:\w*Error|\w*Exception): )*(?P<line>\w+Error: (?!In user code:).+)$", re.MULTILINE
)
_SOURCE = re.compile(r"\(at [^():]*:\d+\)")
_HINT = re.compile(r"^[ \t]*\[Hint: (?P<hint>.*)$", re.MULTILINE)
# Lines of a report that give no reason: headings and rules, frames of both stacks, the operator at the end.
_NOISE = re.compile(
    r"(?:\w+: )?In user code:|-+|C\+\+ Traceback.*|Traceback \(most.*|Error Message Summary:|\d+ +\S.*"
    r"|File \".*|\[Hint: .*|\[operator <.*|\[TimeInfo: .*|\[SignalInfo: .*|Not support stack backtrace.*"
)
_FRAME = re.compile(r"^[ \t]*File \".*\n(?:[ \t].*\n)?", re.MULTILINE)
_BARE = re.compile(r"(?:\w+: )?std::exception")
_UNIMPLEMENTED = re.compile(r"\(Unimplemented\)|\bUnimplementedError\b")
# Kinds of failures that concern a value or a size that Paddle was given, and not what it can do.
_ABOUT_VALUES = re.compile(
    r"\(?(?:InvalidArgument|OutOfRange|PreconditionNotMet|InvalidType|AlreadyExists)(?:Error: |\))"
)


def is_bare(text: str) -> bool:
    """Tells whether a failure gives no reason, as oneDNN's do."""
    return _BARE.fullmatch(text.strip()) is not None


def is_of_onednn(text: str) -> bool:
    """Tells whether a failure is of a kind that oneDNN has where Paddle's own kernels may work."""
    return is_bare(text) or _UNIMPLEMENTED.search(text) is not None


def is_about_values(text: str) -> bool:
    """Tells whether a failure may be due to the values of the inputs, so that other inputs could work."""
    return _ABOUT_VALUES.match(useful_line(text)) is not None


def useful_line(text: str) -> str:
    """Returns the useful line of Paddle's long C++ report, or the first line of any other failure."""
    text = text[:_MOST_CHARACTERS]
    if is_bare(text):
        return "Paddle gave no reason (std::exception), as where its oneDNN cannot run an operator"
    named = _NAMED.search(text)
    summary = None if named is not None else _SUMMARY.search(text)
    if named is not None:
        line, end = f"({named['kind']}) {without_source(named['text'])}", named.end()
    elif summary is not None:
        line, end = without_source(summary["line"]), summary.end()
    else:
        return _first_reason(text)
    hint = _HINT.search(text, end)
    return f"{line} [{_without_end(hint['hint'])}]" if hint else line


def without_source(line: str) -> str:
    """Returns the line without the place in Paddle's source at its end: "(at /paddle/x.cc:12)"."""
    line = line.strip()
    begin = line.rfind("(at ")
    return line[:begin].rstrip() if begin >= 0 and _SOURCE.fullmatch(line, begin) else line


def _without_end(hint: str) -> str:
    return hint.partition("(at ")[0].rstrip().rstrip(".]")


def _first_reason(text: str) -> str:
    """Returns the first line that is neither a heading nor a frame of a stack."""
    lines = [line.strip() for line in _FRAME.sub("", text + "\n").splitlines() if line.strip()]
    reasons = [line for line in lines if _NOISE.fullmatch(line) is None]
    found = (reasons or lines or ["the model failed without a message"])[0]
    return without_source(found) or found
