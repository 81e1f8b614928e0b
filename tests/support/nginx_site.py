"""nginx's configuration as blocks and directives: as much of its grammar as a site has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_TOKEN = re.compile(r"""#[^\n]*|"([^"]*)"|([{};])|([^\s{};"]+)""")


@dataclass
class Block:
    """One with braces, or the whole file."""

    name: str = ""
    arguments: tuple[str, ...] = ()
    directives: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def blocks_of(self, name: str) -> list[Block]:
        return [block for block in self.blocks if block.name == name]

    def block(self, name: str) -> Block:
        [found] = self.blocks_of(name)
        return found

    def values(self, name: str) -> list[tuple[str, ...]]:
        """The arguments of every directive of this name."""
        return [arguments for directive, arguments in self.directives if directive == name]

    def only_of(self, name: str) -> tuple[str, ...]:
        [found] = self.values(name)
        return found

    def only(self, name: str) -> str:
        """The first argument of the only directive of this name."""
        return self.only_of(name)[0]


def site(path: Path) -> Block:
    return _block(_tokens(path.read_text()), Block())


def _tokens(text: str) -> Iterator[tuple[str, bool]]:
    """(word, whether it is a sign of the grammar)."""
    for match in _TOKEN.finditer(text):
        if not match[0].startswith("#"):
            yield (match[1] if match[1] is not None else match[0]), match[2] is not None


def _block(tokens: Iterator[tuple[str, bool]], block: Block) -> Block:
    words: list[str] = []
    for word, is_sign in tokens:
        if not is_sign:
            words.append(word)
        elif word == "{":
            block.blocks.append(_block(tokens, Block(words[0], tuple(words[1:]))))
            words = []
        elif word == ";":
            block.directives.append((words[0], tuple(words[1:])))
            words = []
        else:
            break
    assert not words, f"{words} has no end"
    return block
