"""What stands in the rows of a study: the columns of each table, and their form."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from assay.errors import InvalidInput

__all__ = [
    "COLUMNS",
    "Form",
    "Row",
    "Rows",
    "checked_rows",
    "distinct",
    "grouped",
    "number_of",
    "spread",
    "steps_of",
]

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = Sequence[Mapping[str, Any]]
Form = Literal["text", "number", "share", "whole", "flag", "key", "curve", "numbers"]

_EVERY: dict[str, Form] = {"step": "key", "step_seed": "whole", "seconds": "number"}
_SUSPECT: dict[str, Form] = {"victim": "text", "evidence": "text", "extraction": "text"}
_OUTCOME: dict[str, Form] = {
    "verification": "text",
    "access": "text",
    "seed": "whole",
    "stolen": "flag",
    "alpha": "share",
    "p_value": "share",
    "queries": "whole",
}

COLUMNS: dict[str, dict[str, Form]] = {
    "models": {
        "role": "text",
        "victim": "text",
        "evidence": "text",
        "panel": "text",
        "data": "text",
        "architecture": "text",
        "seed": "whole",
        "index": "whole",
        "accuracy": "share",
        "train_accuracy": "share",
        "rows": "whole",
        "unmarked_accuracy": "share",
        "match_rate": "share",
        "unmarked_match_rate": "share",
        "unmarked_p_value": "share",
        **_EVERY,
    },
    "extractions": {
        **_SUSPECT,
        "seed": "whole",
        "attack": "text",
        "queries": "whole",
        "round_trips": "whole",
        "fidelity": "share",
        "fidelity_low": "share",
        "fidelity_high": "share",
        "accuracy": "share",
        "victim_accuracy": "share",
        "curve": "curve",
        **_EVERY,
    },
    "removals": {
        **_SUSPECT,
        "removal": "text",
        "seed": "whole",
        "accuracy_before": "share",
        "accuracy": "share",
        "fidelity": "share",
        **_EVERY,
    },
    "verdicts": {
        **_SUSPECT,
        "scheme": "text",
        "removal": "text",
        **_OUTCOME,
        "decision": "text",
        "p_whole": "share",
        "match_rate": "share",
        "effect_name": "text",
        "effect": "number",
        "effect_low": "number",
        "effect_high": "number",
        "test": "text",
        "reason": "text",
        "companions": "numbers",
        "accuracy": "share",
        **_EVERY,
    },
    "panel": {
        "victim": "text",
        "evidence": "text",
        "scheme": "text",
        "panel": "text",
        **_OUTCOME,
        "kind": "text",
        "model": "whole",
        "architecture": "text",
        "secret": "whole",
        **_EVERY,
    },
}
_NEEDED: dict[str, tuple[str, ...]] = {
    "models": ("role",),
    "extractions": ("extraction",),
    "removals": ("extraction", "removal"),
    "verdicts": ("evidence", "verification", "stolen", "alpha"),
    "panel": ("evidence", "panel", "verification", "kind", "stolen", "alpha"),
}
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_KEY = re.compile(r"[0-9a-f]{64}")
_POINT = 3


def checked_rows(table: str, rows: Any) -> list[Row]:
    """Return the rows of a table, checked; columns that a known table lacks are None.

    Unknown tables and columns pass as they are, so that plug-ins may add their own.
    Numbers that are not finite may be written as ``"nan"``, ``"inf"`` and ``"-inf"``.

    Parameters
    ----------
    table
        Name of the table.
    rows
        A list of objects.

    Raises
    ------
    InvalidInput
        With the table, the row and the column.

    Examples
    --------
    >>> row = {"extraction": "label-query", "queries": 400, "fidelity": "nan"}
    >>> found = checked_rows("extractions", [row])[0]
    >>> found["queries"], found["fidelity"], found["accuracy"]
    (400, nan, None)
    """
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        msg = f"the table {table!r} must be a list of rows, got {type(rows).__name__}"
        raise InvalidInput(msg)
    forms = COLUMNS.get(table, {})
    found = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
            msg = f"{table}, row {number}: a row must be an object with named columns"
            raise InvalidInput(msg)
        made = dict.fromkeys(forms) | dict(row)
        for name, form in forms.items():
            if made[name] is None:
                if name in _NEEDED[table]:
                    msg = f"{table}, row {number}: the column {name!r} is missing"
                    raise InvalidInput(msg)
                continue
            try:
                made[name] = _checked(form, made[name])
            except (TypeError, ValueError) as error:
                msg = f"{table}, row {number}, column {name!r}: expected {error}, got {made[name]!r}"
                raise InvalidInput(msg) from error
        found.append(made)
    return found


def grouped(rows: Rows, keys: Sequence[str]) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    """Return the rows by their values in some columns, groups in the order of their first row.

    Examples
    --------
    >>> grouped([{"a": 1, "b": 5}, {"a": 2}, {"a": 1, "b": 6}], ["a"])
    {(1,): [{'a': 1, 'b': 5}, {'a': 1, 'b': 6}], (2,): [{'a': 2}]}
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    return groups


def distinct(rows: Rows) -> list[Mapping[str, Any]]:
    """Return the rows, each step once: the same model may stand under several kinds of evidence.

    Rows without a step are all kept.

    Examples
    --------
    >>> distinct([{"step": "a", "x": 1}, {"step": "a", "x": 2}, {"x": 3}])
    [{'step': 'a', 'x': 1}, {'x': 3}]
    """
    seen: set[str] = set()
    found = []
    for row in rows:
        step = row.get("step")
        if step is None or step not in seen:
            found.append(row)
        if step is not None:
            seen.add(step)
    return found


def number_of(value: Any) -> float | None:
    """Return a finite number as a float, and None for everything else."""
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    return None


def spread(rows: Rows, column: str, name: str | None = None) -> Row:
    """Return the mean of a column over the rows that have it, with the least and the largest value.

    Examples
    --------
    >>> spread([{"x": 1.0}, {"x": 2.0}, {"x": None}], "x")
    {'x': 1.5, 'x_least': 1.0, 'x_most': 2.0}
    """
    values = [v for row in rows if (v := number_of(row.get(column))) is not None]
    label = name or column
    if not values:
        return {label: None, f"{label}_least": None, f"{label}_most": None}
    return {
        label: math.fsum(values) / len(values),
        f"{label}_least": min(values),
        f"{label}_most": max(values),
    }


def steps_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the keys of the steps that made some rows, each once."""
    return list(dict.fromkeys(row["step"] for row in rows if row.get("step")))


def _checked(form: Form, value: Any) -> Any:
    """Return a value of the right form, or raise `ValueError` with what would be right."""
    if form in ("number", "share"):
        return _number(value, share=form == "share")
    if form == "whole":
        whole = isinstance(value, int) and not isinstance(value, bool)
        return _require(value, whole, "a whole number")
    if form == "flag":
        return _require(value, isinstance(value, bool), "true or false")
    if form == "text":
        return _require(value, isinstance(value, str), "text")
    if form == "key":
        return _require(
            value, isinstance(value, str) and _KEY.fullmatch(value), "a step's key, 64 hexadecimal digits"
        )
    if form == "numbers":
        _require(
            value, isinstance(value, Mapping) and all(isinstance(k, str) for k in value), "names with numbers"
        )
        return {k: None if v is None else _number(v) for k, v in value.items()}
    points = isinstance(value, Sequence) and not isinstance(value, str)
    points = points and all(isinstance(p, Sequence) and len(p) == _POINT for p in value)
    _require(value, points, "a list of [queries, fidelity, accuracy]")
    return [[None if x is None else _number(x) for x in point] for point in value]


def _number(value: Any, *, share: bool = False) -> int | float:
    found: Any = _NOT_FINITE.get(value, value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, int | float):
        expected = "a number"
        raise TypeError(expected)
    if share and not (math.isnan(found) or 0 <= found <= 1):
        expected = "a number from 0 to 1"
        raise ValueError(expected)
    return found


def _require(value: Any, holds: object, expected: str) -> Any:
    if not holds:
        raise ValueError(expected)
    return value
