"""In which line of a TOML file a key stands."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

__all__ = ["Locator"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
# The longer marks first: three quotes are no empty string that is followed by another.
_QUOTES = ('"' * 3, "'" * 3, '"', "'")
Place = tuple[str | int, ...]


class Locator:
    r"""Find keys of a TOML text, also those within arrays and inline tables.

    The standard parser forgets where it read a value. This one reads the same text again,
    for lines alone.

    Parameters
    ----------
    text
        What `tomllib` accepts.

    Examples
    --------
    >>> found = Locator('[a.b]\nx = 1\n[[c]]\ny = 2\n[[c]]\ny = [\n  { z = 3 },\n]\n')
    >>> found.line(("a", "b", "x")), found.line(("c", 1, "y", 0, "z")), found.line(("a", "z"))
    (2, 7, None)
    >>> found.nearest(("a", "b", "z", "deep"))
    1
    """

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self._lines: dict[Place, int] = {}
        self._arrays: Counter[Place] = Counter()
        table: Place = ()
        self._blank()
        while self._at < len(text):
            if self._sees("["):
                table = self._header()
            else:
                self._pair(table)
            self._blank()

    def line(self, place: Sequence[str | int]) -> int | None:
        """Return the line of a key, table or element, counted from 1; None if it is not in the text."""
        return self._lines.get(tuple(place))

    def nearest(self, place: Sequence[str | int]) -> int | None:
        """Return the line of the innermost table or key around a place."""
        for end in range(len(place), 0, -1):
            if (found := self.line(place[:end])) is not None:
                return found
        return None

    def _header(self) -> Place:
        """Read a header; tables below an array are in its newest element."""
        start, array = self._at, self._text.startswith("[[", self._at)
        self._at += 1 + array
        names = self._key()
        self._at += 1 + array
        place: Place = ()
        for index, name in enumerate(names):
            place = (*place, name)
            self._keep(place, start)
            if array and index == len(names) - 1:
                self._arrays[place] += 1
            if self._arrays[place]:
                place = (*place, self._arrays[place] - 1)
                self._keep(place, start)
        return place

    def _pair(self, table: Place) -> None:
        """Read a key with its value."""
        start, place = self._at, table
        for name in self._key():
            place = (*place, name)
            self._keep(place, start)
        self._at += 1  # the equals sign
        self._space()
        self._value(place)

    def _key(self) -> list[str]:
        """Read names with dots between."""
        names: list[str] = []
        while True:
            self._space()
            start = self._at
            if self._sees('"') or self._sees("'"):
                self._string()
                names.append(tomllib.loads(f"k = {self._text[start : self._at]}")["k"])
            else:
                names.append(self._pass(_BARE))
            self._space()
            if not self._sees("."):
                return names
            self._at += 1

    def _value(self, place: Place) -> None:
        if self._sees("["):
            self._enclosed("]", place)
        elif self._sees("{"):
            self._enclosed("}", place)
        elif not self._string():
            self._pass(_SCALAR)

    def _enclosed(self, end: str, place: Place) -> None:
        """Read an array or an inline table."""
        self._at += 1
        index = 0
        self._blank()
        while not self._sees(end):
            if end == "]":
                self._keep((*place, index), self._at)
                self._value((*place, index))
            else:
                self._pair(place)
            self._blank()
            if self._sees(","):
                self._at += 1
                self._blank()
            index += 1
        self._at += 1

    def _string(self) -> bool:
        """Read a string, if there is one."""
        mark = next((m for m in _QUOTES if self._sees(m)), None)
        if mark is None:
            return False
        at = self._at + len(mark)
        while not self._text.startswith(mark, at):
            at += 2 if mark[0] == '"' and self._text[at] == "\\" else 1
        at += len(mark)
        if len(mark) > 1:  # up to two quotes may stand before the last three
            while self._text.startswith(mark[0], at):
                at += 1
        self._at = at
        return True

    def _keep(self, place: Place, at: int) -> None:
        self._lines.setdefault(place, bisect_right(self._starts, at))

    def _sees(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _pass(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        return found[0]

    def _blank(self) -> None:
        self._pass(_BLANK)

    def _space(self) -> None:
        while self._sees(" ") or self._sees("\t"):
            self._at += 1
