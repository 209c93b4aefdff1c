"""What is different between two runs, and which configuration made it so."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assay.result import Record
from assay.study.plan import Cell, Plan
from assay.study.run import RunFolder
from assay.study.step import Step
from assay.study.store import CorruptArtifact, Manifest

__all__ = ["Cause", "Change", "Difference", "diff_runs"]

_RESULTS = {
    "models": ("accuracy", "train_accuracy"),
    "extractions": ("queries", "fidelity", "accuracy"),
    "removals": ("fidelity", "accuracy"),
    "verdicts": ("p_value", "stolen", "queries"),
    "panel": ("verdicts", "stolen"),
}
# Found from the configuration, not where a row stands.
_NO_COORDINATES = ("access", "scheme", "data")
_MISSING = "(none)"


@dataclass(frozen=True)
class Change(Record):
    """A row that both runs have and that differs.

    Parameters
    ----------
    table, where
        The row, by its coordinates in the grid.
    results
        For each number that differs, its two values; None where a run has none yet.
    recomputed
        Whether another step found it, so that `Difference.causes` says why.
    """

    table: str
    where: dict[str, Any]
    results: dict[str, Any]
    recomputed: bool


@dataclass(frozen=True)
class Cause(Record):
    """A kind of step that was configured differently; what depends on it is not named again.

    Parameters
    ----------
    kind, example
        Kind of the steps, and the label of one.
    changes
        For each changed path of the configuration (dots between its keys) its two values.
    steps, rows
        How many steps were configured so, and how many rows depend on them.
    distance
        Steps from the nearest of these rows.
    """

    kind: str
    example: str
    changes: dict[str, Any]
    steps: int
    rows: int
    distance: int


@dataclass(frozen=True)
class Difference(Record):
    """What `diff_runs` found.

    Parameters
    ----------
    a, b
        Folders of the two runs.
    same
        How many rows are equal.
    only_a, only_b
        Rows that only one of the studies has: table and coordinates.
    changed
        Rows that differ.
    causes
        Why, the nearest first.
    """

    a: str
    b: str
    same: int
    only_a: tuple[dict[str, Any], ...]
    only_b: tuple[dict[str, Any], ...]
    changed: tuple[Change, ...]
    causes: tuple[Cause, ...]


def diff_runs(a: RunFolder, b: RunFolder) -> Difference:
    """Compare two runs row by row.

    Rows are matched by their coordinates in the grid: victim, evidence, extraction,
    removal, verification, panel, seed. A panel is one row.

    Parameters
    ----------
    a, b
        The runs; unfinished ones are compared as far as they are.
    """
    sides = _Side(a), _Side(b)
    pairs = _Pairs(sides[0].plan, sides[1].plan)
    left, right = sides[0].cells, sides[1].cells
    changed, same = [], 0
    for place, cell in left.items():
        other = right.get(place)
        if other is None:
            continue
        before, after = sides[0].results(cell), sides[1].results(other)
        results = {k: [before.get(k), after.get(k)] for k in before | after if before.get(k) != after.get(k)}
        if results:
            changed.append(Change(cell.table, _where(cell), results, cell.key != other.key))
        else:
            same += 1
        pairs.follow(cell.key, other.key)
    return Difference(
        a=str(a.path),
        b=str(b.path),
        same=same,
        only_a=tuple(_named(cell) for place, cell in left.items() if place not in right),
        only_b=tuple(_named(cell) for place, cell in right.items() if place not in left),
        changed=tuple(changed),
        causes=pairs.causes(),
    )


class _Side:
    """One of the runs."""

    def __init__(self, folder: RunFolder) -> None:
        self.plan, self._store = folder.plan(), folder.store
        self.cells = {_place(cell): cell for cell in self.plan.cells}
        self._known: dict[str, Manifest | None] = {}

    def results(self, cell: Cell) -> dict[str, Any]:
        """Return the numbers of a row; none if its step is not finished."""
        if cell.key not in self._known:
            try:
                self._known[cell.key] = self._store.find(cell.key)
            except CorruptArtifact:
                self._known[cell.key] = None
        manifest = self._known[cell.key]
        return {} if manifest is None else {name: manifest.facts.get(name) for name in _RESULTS[cell.table]}


class _Pairs:
    """Walks from the steps of matched rows to the steps that they need, in both plans at once."""

    def __init__(self, a: Plan, b: Plan) -> None:
        self._a, self._b = a.by_key, b.by_key
        self._own: dict[tuple[str, str], dict[str, Any]] = {}
        self._inputs: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self._rows: dict[tuple[str, str], set[int]] = {}
        self._distance: dict[tuple[str, str], int] = {}
        self._followed = 0

    def follow(self, one: str, other: str) -> None:
        """Note for every pair of different steps that the row above them depends on it."""
        if one == other:
            return
        self._followed += 1
        queue, seen = deque([((one, other), 0)]), {(one, other)}
        while queue:
            pair, distance = queue.popleft()
            self._rows.setdefault(pair, set()).add(self._followed)
            self._distance[pair] = min(distance, self._distance.get(pair, distance))
            for below in self._below(pair):
                if below not in seen:
                    seen.add(below)
                    queue.append((below, distance + 1))

    def causes(self) -> tuple[Cause, ...]:
        """Return what was configured differently, equal changes of several steps together."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for pair in self._rows:
            if self._own[pair]:
                text = json.dumps([self._a[pair[0]].kind, self._own[pair]], sort_keys=True)
                groups.setdefault(text, []).append(pair)
        found = [
            Cause(
                kind=self._a[pairs[0][0]].kind,
                example=self._a[pairs[0][0]].label,
                changes=self._own[pairs[0]],
                steps=len(pairs),
                rows=len(set().union(*(self._rows[pair] for pair in pairs))),
                distance=min(self._distance[pair] for pair in pairs),
            )
            for pairs in groups.values()
        ]
        return tuple(
            sorted(found, key=lambda cause: (cause.distance, -cause.rows, cause.kind, cause.example))
        )

    def _below(self, pair: tuple[str, str]) -> list[tuple[str, str]]:
        """Return the pairs of different inputs of a pair; what differs in itself is noted on the way."""
        if pair not in self._inputs:
            one, other = self._a[pair[0]], self._b[pair[1]]
            self._own[pair] = own = dict(_changes(_itself(one), _itself(other)))
            found = []
            for name in dict.fromkeys([*one.inputs, *other.inputs]):
                left, right = _keys(one, name), _keys(other, name)
                if len(left) != len(right):
                    own[f"inputs.{name}"] = [len(left), len(right)]
                    continue
                # What both have needs no partner; the others are matched in their order.
                common = Counter(left) & Counter(right)
                rest = zip(_without(left, common), _without(right, common), strict=True)
                found += [found_pair for found_pair in rest if one.kind == other.kind]
            self._inputs[pair] = found
        return self._inputs[pair]


def _without(keys: tuple[str, ...], common: Counter[str]) -> list[str]:
    left, found = Counter(common), []
    for key in keys:
        if left[key]:
            left[key] -= 1
        else:
            found.append(key)
    return found


def _keys(step: Step, name: str) -> tuple[str, ...]:
    value = step.inputs.get(name, ())
    return (value,) if isinstance(value, str) else tuple(value)


def _itself(step: Step) -> dict[str, Any]:
    return {"kind": step.kind, "seed": step.seed, **step.config}


def _changes(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Yield the paths at which two configurations differ, with both values."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            below = f"{path}.{key}" if path else str(key)
            yield from _changes(one.get(key, _MISSING), other.get(key, _MISSING), below)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _changes(left, right, f"{path}.{index}")
    elif one != other:
        yield path, [one, other]


def _where(cell: Cell) -> dict[str, Any]:
    return {name: value for name, value in cell.row.items() if name not in _NO_COORDINATES}


def _named(cell: Cell) -> dict[str, Any]:
    return {"table": cell.table, **_where(cell)}


def _place(cell: Cell) -> str:
    return json.dumps(_named(cell), sort_keys=True)
