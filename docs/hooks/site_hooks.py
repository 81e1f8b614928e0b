"""What mkdocs does beside its own: tables from the code, and further reasons to refuse a build.

A public name without a docstring is refused, and so is a page that would fetch anything from elsewhere.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import shutil
from pathlib import Path
from typing import Any

import griffe
from inherited_docstrings import InheritedDocstrings
from mkdocs.exceptions import PluginError
from tables import expanded

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "build/docs-sources"
"""The package as it is installed: shim/ lies in it."""

PUBLIC = (
    "paddleinfer",
    "paddleinfer.inference",
    "paddleinfer.metrics",
    "paddleinfer.ocr",
    "paddleinfer.otel",
    "paddleinfer.rapidocr",
    "paddleinfer.ray",
    "paddleinfer.serve",
    "paddleinfer.shim",
    "paddleinfer.simulation",
    "paddleinfer.testing",
    "paddleinfer.tracing",
)
_LOADS = re.compile(r"<(?:script|img|iframe|source|embed)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>")
_LINK = re.compile(r"<link\b[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>")
_OF_THE_PAGE = re.compile(r"\brel=[\"']?(?:stylesheet|preload|modulepreload|preconnect|icon)")


def on_startup(**_: Any) -> None:
    """Lays the sources out: mkdocstrings looks for them before any hook on the configuration."""
    shutil.rmtree(SOURCES, ignore_errors=True)
    for folder, place in (("paddleinfer", "paddleinfer"), ("shim", "paddleinfer/shim")):
        shutil.copytree(ROOT / folder, SOURCES / place, ignore=shutil.ignore_patterns("__pycache__", "*.so"))


def on_config(config: Any) -> Any:
    """Looks for docstrings that are missing."""
    missing = undocumented()
    if missing:
        raise PluginError(f"public names without a docstring: {', '.join(missing)}")
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its tables."""
    return expanded(markdown)


def on_post_build(config: Any) -> None:
    """Every public name has a place; what a browser loads comes from here, while links may lead elsewhere."""
    places: set[str] = set()
    for page in Path(config.site_dir).rglob("*.html"):
        text = page.read_text()
        fetched = _LOADS.findall(text) + [tag for tag in _LINK.findall(text) if _OF_THE_PAGE.search(tag)]
        if fetched:
            raise PluginError(f"{page.name} would fetch from elsewhere: {fetched[0]}")
        places.update(re.findall(r'id="(paddleinfer[\w.]*)"', text))
    missing = [name for name in public_names() if name not in places]
    if missing:
        raise PluginError(
            f"no page of the reference has these, or they lack a docstring: {', '.join(missing)}"
        )


def public_names() -> list[str]:
    """The names of all public modules, with the fields of public dataclasses."""
    names = []
    for module in PUBLIC:
        for name in importlib.import_module(module).__all__:
            if name.startswith("_"):
                continue
            names.append(f"{module}.{name}")
            thing = getattr(importlib.import_module(module), name)
            if isinstance(thing, type) and dataclasses.is_dataclass(thing):
                public = (field.name for field in dataclasses.fields(thing) if field.name[0] != "_")
                names += [f"{module}.{name}.{field}" for field in public]
    return names


def undocumented() -> list[str]:
    """Public names, and public members of public classes, that no docstring explains."""
    found = []
    extensions = griffe.load_extensions(InheritedDocstrings)
    loader = griffe.GriffeLoader(search_paths=[SOURCES], extensions=extensions)
    loader.load("paddleinfer", try_relative_path=False)
    loader.resolve_aliases(implicit=False, external=False)
    for module in PUBLIC:
        for name in importlib.import_module(module).__all__:
            if name.startswith("_"):
                continue
            path = f"{module}.{name}"
            thing = loader.modules_collection[path]
            if not thing.has_docstring:
                found.append(path)
            if thing.is_class:
                members = {**thing.inherited_members, **thing.members}
                found += [
                    f"{path}.{member}"
                    for member, value in members.items()
                    if not member.startswith("_") and not value.has_docstring and _is_ours(value)
                ]
    return found


def _is_ours(member: Any) -> bool:
    """Whether it is written in this package, and is no attribute that only a method sets."""
    return member.path.startswith("paddleinfer.") and "instance-attribute" not in member.labels
