"""TOML text from plain data: the standard library reads TOML but does not write it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from assay.errors import InvalidInput

__all__ = ["dump_toml"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dump_toml(data: Mapping[str, Any]) -> str:
    """Write nested dicts, lists and scalars as TOML.

    Raises
    ------
    InvalidInput
        On values that TOML or this writer has no form for (``None``, NaN, objects).

    Examples
    --------
    >>> print(dump_toml({"a": 1, "t": {"x": [0.5, 2.0]}, "l": [{"n": "u"}]}))
    a = 1
    <BLANKLINE>
    [t]
    x = [0.5, 2.0]
    <BLANKLINE>
    [[l]]
    n = "u"
    <BLANKLINE>
    """
    return "\n".join(_table(data, ())) + "\n"


def _table(data: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Scalars first: in TOML they would otherwise belong to the last sub-table."""
    later: list[tuple[str, Any]] = []
    for name, value in data.items():
        if isinstance(value, Mapping) or _is_table_list(value):
            later.append((name, value))
        else:
            yield f"{_key(name)} = {_value(value)}"
    for name, value in later:
        inner = (*path, _key(name))
        dotted = ".".join(inner)
        if isinstance(value, Mapping):
            yield from ("", f"[{dotted}]")
            yield from _table(value, inner)
            continue
        for row in value:
            yield from ("", f"[[{dotted}]]")
            yield from _table(row, inner)


def _is_table_list(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    """JSON strings are TOML strings, but for DEL; surrogate pairs are avoided by raw Unicode."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    msg = f"TOML has no form for {value!r}"
    raise InvalidInput(msg)
