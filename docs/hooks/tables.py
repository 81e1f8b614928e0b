"""Tables and lists of the reference that the code writes, so that none can lack a name.

A page has ``<!-- table: NAME -->`` where one belongs.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

__all__ = ["TABLES", "expanded"]

_PLACE = re.compile(r"^<!-- table: (\S+) -->$", re.MULTILINE)


def expanded(markdown: str) -> str:
    """The page with its tables.

    Raises
    ------
    KeyError
        There is no table of that name.
    """
    return _PLACE.sub(lambda place: TABLES[place[1]](), markdown)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def metrics() -> str:
    """Every metric of a scrape, as Prometheus stores it."""
    from paddleinfer.metrics import EngineCollector
    from paddleinfer.serve.metrics import ServiceCollector

    suffix = {"counter": "_total"}
    rows = [
        (f"`{family.name}{suffix.get(family.type, '')}`", family.type, family.documentation)
        for collector in (EngineCollector({}), ServiceCollector({}))
        for family in collector.collect()
    ]
    return _table(("name", "type", "what it is"), sorted(rows))


def commands() -> str:
    """The help of every sub-command."""
    from paddleinfer.cli.main import COMMANDS

    sections = [f"## {name}\n\n```text\n{_help(name)}\n```" for name in COMMANDS]
    return "\n\n".join(sections)


def _help(name: str) -> str:
    from paddleinfer.cli.main import main

    printed = io.StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"}),
        contextlib.redirect_stdout(printed),
    ):
        main([name, "--help"])
    return printed.getvalue().strip()


def server_options() -> str:
    """Every option of the server itself."""
    from paddleinfer.options.flags import ENVIRONMENT_PREFIX, flags_of
    from paddleinfer.shim.options import ServerOptions

    rows = [
        (
            f"`--{flag.spelled.replace('_', '-')}`",
            f"`{ENVIRONMENT_PREFIX}{flag.name.upper()}`",
            _default(flag.default),
            flag.doc,
        )
        for flag in flags_of(ServerOptions)
    ]
    return _table(("flag", "variable", "default", "what it does"), rows)


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return (
        "none"
        if value is None or value == ()
        else f"`{value:g}`"
        if isinstance(value, float)
        else f"`{value}`"
    )


def routes() -> str:
    """Every route, as the server itself describes it."""
    methods = ("get", "post", "put", "delete", "patch")
    rows = [
        (f"`{method.upper()} {path}`", described["summary"])
        for path, operations in asyncio.run(_openapi())["paths"].items()
        for method, described in operations.items()
        if method in methods
    ]
    return _table(("route", "what it gives"), rows)


def errors() -> str:
    """Every error, for mkdocstrings to write out."""
    from paddleinfer.errors import __all__ as names

    base = "PaddleInferError"
    listed = [base, *sorted(set(names) - {base})]
    return "\n\n".join(f"::: paddleinfer.{name}" for name in listed)


async def _openapi() -> dict[str, Any]:
    """What a server of one function answers to GET /openapi.json."""
    from paddleinfer import Engine
    from paddleinfer.shim import create_app

    answer = b""

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal answer
        answer += message.get("body", b"")

    path = "/openapi.json"
    scope = {
        **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http"},
        **{"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""},
        **{"headers": [(b"host", b"localhost")], "client": None, "server": ("localhost", 80)},
    }
    with Engine.from_callable(lambda feeds: feeds["x"], {"x": ("float32", (-1, 1))}, ["y"]) as engine:
        await create_app({"model": engine})(scope, receive, send)
    document: dict[str, Any] = json.loads(answer)
    return document


def config_calls() -> str:
    """Every call of the Config of paddleinfer.inference that asks for something."""
    from paddleinfer.inference.config_calls import IN_FORCE, NOTED, REFUSED

    rows = [
        *((f"`{call}`", what) for call, what in IN_FORCE.items()),
        *((f"`{call}`", f"noted: {why}") for call, why in NOTED.items()),
        *((f"`{call}`", f"refused: {why}") for call, why in REFUSED.items()),
    ]
    return _table(("call", "what it becomes"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "metrics": metrics,
    "commands": commands,
    "server-options": server_options,
    "routes": routes,
    "errors": errors,
    "config-calls": config_calls,
}
