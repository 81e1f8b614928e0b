"""A class with ``__doc__ = Base.__doc__`` is shown with the docstring of that base, as help() does."""

from __future__ import annotations

from typing import Any

import griffe

__all__ = ["InheritedDocstrings"]


class InheritedDocstrings(griffe.Extension):
    """Gives such classes the docstring of the nearest base that has one; others stay bare."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        self._walk(pkg)

    def _walk(self, within: griffe.Module | griffe.Class) -> None:
        for member in within.members.values():
            if isinstance(member, griffe.Alias) or not isinstance(member, griffe.Module | griffe.Class):
                continue
            if isinstance(member, griffe.Class) and "__doc__" in member.members and not member.has_docstring:
                documented = [base for base in member.mro() if base.docstring is not None]
                if documented:
                    member.docstring = documented[0].docstring
            self._walk(member)
