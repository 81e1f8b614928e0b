"""Tells whether a regular expression may backtrack, from its automaton, so that no clock is needed.

A match costs more than linear time only where one text leads in two ways to one place: states p and q with a
word v that leads from p to p, from p to q and from q to q (Weber and Seidl's IDA). It stands in for
exponential ambiguity, too: of automata as these it is a special case.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

if sys.version_info >= (3, 11):
    from re import _compiler as sre_compile
    from re import _constants as sre
    from re import _parser as sre_parse
else:
    import sre_compile
    import sre_constants as sre
    import sre_parse

__all__ = ["pumped"]

_ALPHABET = [chr(code) for code in range(256)] + ["\u0660", "\u2003", "\u4e2d"]
_ONE_CHARACTER = {"LITERAL", "NOT_LITERAL", "IN", "ANY", "CATEGORY"}
_REPEATS = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}
# A bounded repeat multiplies the work by a constant: two copies show what there is to see.
_MOST_COPIES = 2


def pumped(pattern: re.Pattern[Any], method: str) -> str | None:
    """A word whose repetition makes the match slow; None where there is none.

    `method` is "fullmatch", "match", or "search" for whatever looks for the pattern everywhere.
    """
    automaton = _Automaton(pattern, method)
    return automaton.pump()


class _Automaton:
    """States are numbers; epsilon edges are taken out."""

    def __init__(self, pattern: re.Pattern[Any], method: str) -> None:
        self._bytes = isinstance(pattern.pattern, bytes)
        self._flags = pattern.flags
        self._count = 0
        self._epsilon: dict[int, set[int]] = defaultdict(set)
        self._edges: list[tuple[int, frozenset[str], int]] = []
        parsed = sre_parse.parse(pattern.pattern, pattern.flags & ~re.DEBUG)
        self._state = parsed.state
        items = list(parsed)
        start = self._new()
        begin = start
        if method == "search":
            begin = self._anchor(items, start)
        end = self._sequence(items, begin)
        self._close(start, end, anywhere=method != "fullmatch")

    def _anchor(self, items: list[Any], start: int) -> int:
        """The loop in which a search goes on to the next place; what begins with a line does so after one."""
        everything = frozenset(_ALPHABET)
        self._edges.append((start, everything, start))
        if items and str(items[0][0]) == "AT" and str(items[0][1]).startswith("AT_BEGINNING"):
            if self._flags & re.MULTILINE and str(items[0][1]) == "AT_BEGINNING":
                line = self._new()
                self._edges.append((start, frozenset("\n"), line))
                return line
            del self._edges[-1]
        return start

    def _new(self) -> int:
        self._count += 1
        return self._count - 1

    def _sequence(self, items: Any, begin: int) -> int:
        for item in items:
            begin = self._item(item, begin)
        return begin

    def _item(self, item: Any, begin: int) -> int:
        operation, argument = str(item[0]), item[1]
        end = self._new()
        if operation in _ONE_CHARACTER:
            self._edges.append((begin, self._matched(item), end))
        elif operation == "BRANCH":
            for branch in argument[1]:
                self._epsilon[self._sequence(branch, begin)].add(end)
        elif operation == "SUBPATTERN":
            self._epsilon[self._sequence(argument[-1], begin)].add(end)
        elif operation == "ATOMIC_GROUP":
            self._epsilon[self._sequence(argument, begin)].add(end)
        elif operation in _REPEATS:
            self._epsilon[self._repeat(*argument, begin)].add(end)
        elif operation in ("AT", "ASSERT", "ASSERT_NOT"):  # taken as if it always held
            self._epsilon[begin].add(end)
        else:
            raise ValueError(f"{operation} in a pattern: what it accepts is not known here")
        return end

    def _repeat(self, least: int, most: Any, inner: Any, begin: int) -> int:
        for _ in range(min(least, _MOST_COPIES)):
            begin = self._sequence(inner, begin)
        if most == sre.MAXREPEAT:
            loop = self._new()
            self._epsilon[begin].add(loop)
            self._epsilon[self._sequence(inner, loop)].add(loop)
            return loop
        for _ in range(min(most - least, _MOST_COPIES)):
            further = self._sequence(inner, begin)
            self._epsilon[begin].add(further)
            begin = further
        return begin

    def _matched(self, item: Any) -> frozenset[str]:
        one = sre_compile.compile(sre_parse.SubPattern(self._state, [item]))
        given = [c for c in _ALPHABET if not self._bytes or ord(c) < 256]
        return frozenset(c for c in given if one.fullmatch(c.encode("latin-1") if self._bytes else c))

    def _reach(self, state: int) -> set[int]:
        seen, todo = {state}, [state]
        while todo:
            for further in self._epsilon[todo.pop()] - seen:
                seen.add(further)
                todo.append(further)
        return seen

    def _close(self, start: int, end: int, *, anywhere: bool) -> None:
        reach = [self._reach(state) for state in range(self._count)]
        own = defaultdict(list)
        for begin, matched, to in self._edges:
            own[begin].append((matched, to))
        # One representative of the characters that all edges treat alike.
        kinds: dict[tuple[bool, ...], str] = {}
        for character in reversed(_ALPHABET):
            kinds[tuple(character in matched for _, matched, _ in self._edges)] = character
        self.letters = sorted(kinds.values())
        # Where a match is over wherever it ends, what comes after an end is never tried again.
        accepting = {state for state in range(self._count) if end in reach[state]} if anywhere else set()
        self.steps: dict[int, dict[str, set[int]]] = {}
        for state in {start} | {to for *_, to in self._edges}:
            if state in accepting:
                continue
            by_letter: dict[str, set[int]] = defaultdict(set)
            for inner in reach[state]:
                for matched, to in own[inner]:
                    for letter in self.letters:
                        if letter in matched and to not in accepting:
                            by_letter[letter].add(to)
            self.steps[state] = by_letter

    def _loops(self) -> list[int]:
        return [state for state in self.steps if state in self._after(state)]

    def _after(self, state: int) -> set[int]:
        seen: set[int] = set()
        todo = [state]
        while todo:
            for ends in self.steps[todo.pop()].values():
                todo += ends - seen
                seen |= ends
        return seen

    def pump(self) -> str | None:
        loops = self._loops()
        after = {state: self._after(state) for state in self.steps}
        for p in loops:
            for q in loops:
                if p != q and q in after[p] and (word := self._word(p, q, after)) is not None:
                    return word
        return None

    def _word(self, p: int, q: int, after: dict[int, set[int]]) -> str | None:
        """Leads from p to p, from p to q and from q to q."""
        first = (p, p, q)
        words = {first: ""}
        todo = [first]
        for state in todo:
            for letter, further in self._triples(state):
                a, b, c = further
                if not all(one == to or to in after[one] for one, to in ((a, p), (b, q), (c, q))):
                    continue  # from there it is never reached
                if further == (p, q, q):
                    return words[state] + letter
                if further not in words:
                    words[further] = words[state] + letter
                    todo.append(further)
        return None

    def _triples(self, state: tuple[int, int, int]) -> Iterator[tuple[str, tuple[int, int, int]]]:
        a, b, c = (self.steps[one] for one in state)
        for letter in self.letters:
            for x in a.get(letter, ()):
                for y in b.get(letter, ()):
                    for z in c.get(letter, ()):
                        yield letter, (x, y, z)
