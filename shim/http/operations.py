"""A route is declared once, beside its handler: its path, and what clients are told of it."""

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
    """What a client may say beside the body."""

    name: str
    place: str
    """``path``, ``query`` or ``header``."""
    schema: Schema | None = None
    """None: one of the models that are served, or a version of them."""


@dataclass(frozen=True)
class Operation:
    """What one method gets on a path."""

    method: str
    paths: dict[str, str]
    """Suffix of the name -> path; all of them do the same."""
    name: str
    """Its ``operationId``."""
    answer: Schema
    """Media type -> schema, of a 200."""
    failures: tuple[int, ...] = ()
    """Further statuses, beside those that any request may get."""
    failure: Schema | None = None
    """Media type -> schema, of those; None: as all errors."""
    parameters: tuple[Parameter, ...] = ()
    """Beside those in the path."""
    body: Schema | None = None
    """Media type -> schema; None: the body is not read."""
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
    """What the methods of a class are declared to answer, in their order."""
    declared = (getattr(method, "operation", None) for method in vars(handlers).values())
    return tuple(one for one in declared if one is not None)
