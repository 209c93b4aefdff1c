"""Where every number of a study comes from: its steps, as many as a page can hold."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from assay.report import words
from assay.report.sheets import Sheet
from assay.report.study_sheets import finished
from assay.study.columns import Row

__all__ = ["Appendix", "Origin", "appendix"]

_MIB = 2**20
_MOST_LINKS = 24


@dataclass(frozen=True)
class Origin:
    """One step.

    Parameters
    ----------
    key
        Its digest, 64 hexadecimal digits.
    kind, label, seed, version, seconds, memory, finished
        As they are shown.
    environment
        Letter of the set of package versions it ran with.
    inputs
        Keys of the steps it rests on.
    config
        Its configuration, shortened.
    """

    key: str
    kind: str
    label: str
    seed: str
    version: str
    seconds: str
    memory: str
    finished: str
    environment: str
    inputs: tuple[str, ...]
    config: str


@dataclass(frozen=True)
class Appendix:
    """The steps that a page lists.

    Parameters
    ----------
    steps
        In the order of the study.
    total
        Steps that there are.
    environments
        Package versions, by letter.
    """

    steps: tuple[Origin, ...]
    total: int
    environments: dict[str, str]

    @property
    def listed(self) -> frozenset[str]:
        """Keys that a link can lead to."""
        return frozenset(step.key for step in self.steps)

    def links(self, keys: Iterable[str]) -> tuple[list[str], int]:
        """Return the keys to show for a row, and how many are left out.

        Examples
        --------
        >>> Appendix((), 0, {}).links(["a"] * 30)[1]
        6
        """
        known = list(keys)
        return known[:_MOST_LINKS], max(0, len(known) - _MOST_LINKS)


def appendix(provenance: list[Row], sheets: Iterable[Sheet], longest: int = 400) -> Appendix:
    """List the steps behind the tables, and further ones while there is room.

    Parameters
    ----------
    provenance
        One row a step.
    sheets
        The tables whose rows name steps; these come first.
    longest
        Most steps to list.

    Examples
    --------
    >>> rows = [{"key": c * 64, "kind": "train", "versions": {"assay": "1"}} for c in "ab"]
    >>> found = appendix(rows, [], longest=1)
    >>> [step.key[:2] for step in found.steps], found.total, found.environments
    (['aa'], 2, {'A': 'assay 1'})
    """
    # The first step of every row comes first, so that each row leads somewhere.
    lines = [line.steps for sheet in sheets for line in sheet.lines]
    named = [steps[i] for i in range(_MOST_LINKS) for steps in lines if i < len(steps)]
    every = dict.fromkeys(row["key"] for row in provenance)
    ordered = dict.fromkeys([*(key for key in named if key in every), *every])
    chosen = set(itertools.islice(ordered, longest))
    rows = [row for row in provenance if row["key"] in chosen]
    letters: dict[str, str] = {}
    steps = tuple(_origin(row, letters) for row in rows)
    return Appendix(steps, len(provenance), {letter: text for text, letter in letters.items()})


def _origin(row: Mapping[str, Any], letters: dict[str, str]) -> Origin:
    versions = ", ".join(f"{name} {version}" for name, version in sorted((row.get("versions") or {}).items()))
    if versions and versions not in letters:
        letters[versions] = _letter(len(letters))
    memory = row.get("memory") or 0
    return Origin(
        key=row["key"],
        kind=row["kind"],
        label=row.get("label") or "-",
        seed=str(row.get("seed", "-")),
        version=str(row.get("version", "-")),
        seconds=words.number(row.get("seconds")),
        memory=f"{memory / _MIB:,.0f} MiB" if memory else "-",
        finished=finished(row),
        environment=letters.get(versions, "-"),
        inputs=tuple(row.get("inputs") or ()),
        config=words.name(words.value(row.get("config") or {}), 160),
    )


def _letter(index: int) -> str:
    letters = string.ascii_uppercase
    return letters[index] if index < len(letters) else f"{letters[index % 26]}{index // 26}"
