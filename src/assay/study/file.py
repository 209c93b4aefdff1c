"""Reading a study file: its form, its presets, and where in the text each key stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from assay.errors import InvalidInput
from assay.registry import nearest
from assay.study.locate import Locator
from assay.study.schema import laid_over, merged
from assay.study.schema_grid import StudyFile

__all__ = ["Study", "load_study", "merged", "parse_study"]

_LARGEST_FILE = 2**20
_TOML_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
# What is written wrong explains more than what is missing because of it.
_RANKS = {"extra_forbidden": 0, "missing": 3}
_WORDS = {
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "list_type": "must be a list",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
}


@dataclass(frozen=True)
class Study:
    """A study file that was read: its tables, and where in the file each of them stands.

    Parameters
    ----------
    file
        The tables.
    text
        The file as it was read.
    path, preset
        Where it came from, and which preset was laid over it.
    """

    file: StudyFile
    text: str
    path: str
    preset: str | None

    def where(self, *place: str | int, victim: str | None = None) -> str:
        """Return ``FILE, line N``: where a key stands, or what is nearest around it.

        Parameters
        ----------
        *place
            Keys and indices from the top of the file.
        victim
            Where the key may stand under ``per.VICTIM`` of its table as well.
        """
        return self._places.where(place, victim)

    @cached_property
    def _places(self) -> _Places:
        return _Places(self.text, self.path, self.preset)


class _Places:
    """Lines of keys that a file, its preset or a victim's own settings may define."""

    def __init__(self, text: str, path: str, preset: str | None) -> None:
        self._text, self._path, self._preset = text, path, preset
        # Read when something is wrong, which is seldom.
        self._tables: dict[str, Any] = {}
        self._locator: Locator | None = None

    def where(self, place: Sequence[str | int], victim: str | None = None) -> str:
        """Return file and line of the definition that holds."""
        if self._locator is None:
            self._locator, self._tables = Locator(self._text), tomllib.loads(self._text)
        found = [tuple(place)]
        if victim is not None:
            found.insert(0, (*place[:2], "per", victim, *place[2:]))
        if self._preset is not None:
            found = [*(("preset", self._preset, *one) for one in found), *found]
        # The first that has the key, else the one that comes nearest to having it.
        missing = [len(one) - self._depth(one) for one in found]
        line = self._locator.nearest(found[missing.index(min(missing))])
        return f"{self._path}, line {line}" if line else self._path

    def _depth(self, place: Sequence[str | int]) -> int:
        """Return how many of a place's keys the file has."""
        tables: Any = self._tables
        for depth, part in enumerate(place):
            try:
                tables = tables[part]
            except (KeyError, IndexError, TypeError):
                return depth
        return len(place)


def load_study(path: str | Path, preset: str | None = None) -> Study:
    """Read a study file and check its form.

    Parameters
    ----------
    path
        A TOML file.
    preset
        One of its ``[preset.NAME]`` tables, laid over the file: tables are merged,
        everything else is replaced.

    Raises
    ------
    InvalidInput
        With the line and what would be right.
    """
    source = Path(path)
    try:
        if source.stat().st_size > _LARGEST_FILE:
            msg = f"{source} is larger than any study file ({_LARGEST_FILE:,} bytes)"
            raise InvalidInput(msg)
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{source} is no study file: it is not text in UTF-8"
        raise InvalidInput(msg) from error
    except OSError as error:
        msg = f"cannot read the study file {source}: {error.strerror}"
        raise InvalidInput(msg) from error
    return parse_study(text, str(source), preset)


def parse_study(text: str, path: str = "study", preset: str | None = None) -> Study:
    """Check the form of a study file's text, and of all its presets; see `load_study`."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(_not_toml(path, str(error))) from error
    except RecursionError as error:
        msg = f"{path} is no study file: its values are nested too deeply"
        raise InvalidInput(msg) from error
    presets = tables.pop("preset", {})
    for name, over in presets.items() if isinstance(presets, dict) else [(None, presets)]:
        if not isinstance(over, dict):
            place = ("preset",) if name is None else ("preset", name)
            where = _Places(text, path, None).where(place)
            msg = f"{where}: {'.'.join(place)} must be a table of what is different, as in [preset.tiny]"
            raise InvalidInput(msg)
    if preset is not None and preset not in presets:
        raise InvalidInput(f"{path}: " + nearest(preset, sorted(presets), "preset"))
    checked = {name: _form(tables, text, path, name) for name in (preset, *presets)}
    return Study(checked[preset], text, path, preset)


def _form(tables: Mapping[str, Any], text: str, path: str, preset: str | None) -> StudyFile:
    """Return the checked tables, with a preset if one is named."""
    if preset is not None:
        tables = laid_over(tables, tomllib.loads(text)["preset"][preset])
    places = _Places(text, path, preset)
    try:
        found = StudyFile.model_validate(tables)
    except ValidationError as error:
        raise InvalidInput(_sentence(error, tables, (), places)) from error
    for kind in ("evidence", "extraction", "removal", "verification", "panel"):
        for name, table in getattr(found, kind).items():
            _per(found, kind, name, table, places)
    return found


def _per(file: StudyFile, kind: str, name: str, table: Any, places: _Places) -> None:
    """Check what a table says for single victims."""
    for victim in table.per:
        place = (kind, name, "per", victim)
        if victim not in file.victim:
            raise InvalidInput(f"{places.where(place)}: " + nearest(victim, list(file.victim), "victim"))
        for key in ("per", "chain", "title", "victims"):
            if key in table.per[victim]:
                msg = f"{places.where((*place, key))}: {key!r} cannot differ between victims"
                raise InvalidInput(msg)
        try:
            merged(table, victim)
        except ValidationError as error:
            raise InvalidInput(_sentence(error, table.per[victim], place, places)) from error


def _not_toml(path: str, text: str) -> str:
    found = _TOML_PLACE.search(text)
    line = f", line {found['line']}" if found and found["line"] else ""
    column = f" (column {found['column']})" if line and found else ""
    return f"{path}{line}: this is not TOML: {_TOML_PLACE.sub('', text)}{column}"


def _sentence(
    error: ValidationError, tables: Mapping[str, Any], above: tuple[str | int, ...], places: _Places
) -> str:
    """Return what is wrong in a file, where, and the remedy."""
    errors = error.errors(include_url=False)
    first = min(errors, key=_rank)
    keys = _keys(first["loc"], tables)
    if first["type"] == "missing":
        keys = (*keys, first["loc"][-1])
    place = (*above, *keys)
    where, name = places.where(place), ".".join(map(str, place))
    if first["type"] == "extra_forbidden":
        table = f"key of [{'.'.join(map(str, place[:-1]))}]" if len(place) > 1 else "table"
        kind = above[:2] + keys[:-1]
        return f"{where}: " + nearest(str(place[-1]), _known(kind), table)
    if first["type"] == "missing":
        return f"{where}: {name} is missing"
    said = (
        first["msg"]
        .removeprefix("Value error, ")
        .replace("Input should", "must")
        .replace(" after validation", "")
    )
    expected = _WORDS.get(first["type"], said)
    got = "" if isinstance(first["input"], dict | list) else f", got {first['input']!r}"
    return f"{where}: {name}: {expected[0].lower()}{expected[1:]}{got}"


def _rank(error: Mapping[str, Any]) -> int:
    """Order the errors of a file; of the alternatives of a union, most fail because of the type."""
    kind = error["type"]
    return _RANKS.get(kind, 2 if kind in _WORDS or kind == "literal_error" else 1)


def _keys(loc: Sequence[str | int], tables: Any) -> tuple[str | int, ...]:
    """Return the keys of a location; pydantic also names the alternatives of a union there."""
    found: list[str | int] = []
    for part in loc:
        table = isinstance(tables, dict) and part in tables
        element = isinstance(tables, list) and isinstance(part, int) and part < len(tables)
        if table or element:
            tables = tables[part]
            found.append(part)
    return tuple(found)


def _known(place: Sequence[str | int]) -> list[str]:
    """Return the keys that a table may have."""
    table: Any = StudyFile
    for part in place:
        if isinstance(table, type) and issubclass(table, BaseModel):
            if part not in table.model_fields:
                return []
            table = table.model_fields[str(part)].annotation
            continue
        table = _inner(table)
    while table is not None and not (isinstance(table, type) and issubclass(table, BaseModel)):
        table = _inner(table)
    return sorted(table.model_fields) if table is not None else []


def _inner(table: Any) -> Any:
    arguments = [a for a in getattr(table, "__args__", ()) if a is not type(None)]
    return arguments[-1] if arguments else None
