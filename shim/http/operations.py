"""Declares each route once, beside its handler: its path, and its description for clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from .schemas import Schema

__all__ = ["Operation", "Parameter", "answers", "operations_of"]

Handler = Callable[[Any, Request], Awaitable[Response]]
Declared = TypeVar("Declared", bound=Handler)


@dataclass(frozen=True)
class Parameter:
    """A value that a client may send beside the body."""

    name: str
    place: str
    """``path``, ``query`` or ``header``."""
    schema: Schema | None = None
    """The possible values; None: the served models, or their versions."""


@dataclass(frozen=True)
class Operation:
    """One method on a path, and its answers."""

    method: str
    paths: dict[str, str]
    """Suffix of the operation's name -> path; all paths do the same."""
    name: str
    """Its ``operationId``."""
    answer: Schema
    """Media type -> schema of a 200."""
    failures: tuple[int, ...] = ()
    """Statuses beside those that any request may get."""
    failure: Schema | None = None
    """Media type -> schema of those; None: that of all errors."""
    parameters: tuple[Parameter, ...] = ()
    """The parameters that are not in the path."""
    body: Schema | None = None
    """Media type -> schema of the body; None: the body is not read."""
    body_is_required: bool = False
    answer_headers: Schema = field(default_factory=dict)
    needs_key: bool = True
    checks_host: bool = True
    summary: str = ""
    """The first line of the handler's docstring."""
    handler: str = ""
    """The name of the method that answers."""


def answers(operation: Operation) -> Callable[[Declared], Declared]:
    """Declares what the method below it answers."""

    def declare(handler: Declared) -> Declared:
        summary = (handler.__doc__ or "").strip().partition("\n")[0].removesuffix(".")
        handler.__dict__["operation"] = replace(operation, summary=summary, handler=handler.__name__)
        return handler

    return declare


def operations_of(handlers: type) -> tuple[Operation, ...]:
    """Returns the operations that the methods of a class declare, in order."""
    declared = (getattr(method, "operation", None) for method in vars(handlers).values())
    return tuple(one for one in declared if one is not None)
