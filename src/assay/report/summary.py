"""What many verdicts say together: a matrix, and how often each kind of evidence was right."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from assay.report.entries import Entry, Truth
from assay.result import Interval, Verdict
from assay.statistics import clopper_pearson

__all__ = ["Kind", "Summary", "summarise"]

_ORDER: tuple[Truth, ...] = ("stolen", "unknown", "independent")


@dataclass(frozen=True)
class Kind:
    """One kind of evidence over all suspects.

    Parameters
    ----------
    name
        Label of the evidence.
    flagged, suspects
        "Stolen" verdicts and suspects, by what is known about them.
    rate
        Share flagged, Clopper-Pearson 95 %, by what is known about them.
    queries
        Median queries a suspect, by what is known about them.
    """

    name: str
    flagged: dict[Truth, int]
    suspects: dict[Truth, int]
    rate: dict[Truth, Interval]
    queries: dict[Truth, float]


@dataclass(frozen=True)
class Summary:
    """Verdicts in order: known thefts first, independent models last.

    Parameters
    ----------
    suspects
        Name and truth of each suspect, once.
    evidence
        Labels of the kinds of evidence, in order of appearance.
    cells
        Entries by suspect, truth and evidence.
    kinds
        One row a kind of evidence.
    thefts
        Extraction entries.
    """

    suspects: tuple[tuple[str, Truth], ...]
    evidence: tuple[str, ...]
    cells: dict[tuple[str, Truth, str], Entry]
    kinds: tuple[Kind, ...]
    thefts: tuple[Entry, ...]

    @property
    def groups(self) -> list[list[tuple[str, Truth]]]:
        """Suspects of which the same is known, group by group."""
        groups = ([s for s in self.suspects if s[1] == truth] for truth in _ORDER)
        return [group for group in groups if group]

    def has(self, truth: Truth) -> bool:
        """Whether there is a suspect of which this is known."""
        return any(known == truth for _, known in self.suspects)

    def verdicts(self, evidence: str | None = None) -> list[tuple[Entry, Verdict]]:
        """Return entries with their verdicts, of one kind of evidence or of all, in order."""
        return [
            (entry, entry.record)
            for suspect, truth in self.suspects
            for label in self.evidence
            if evidence in (None, label)
            and (entry := self.cells.get((suspect, truth, label)))
            and isinstance(entry.record, Verdict)
        ]


def summarise(entries: Sequence[Entry]) -> Summary:
    """Sort records out.

    Parameters
    ----------
    entries
        Any records.

    Examples
    --------
    >>> summarise([]).suspects
    ()
    """
    verdicts = _distinct([e for e in entries if isinstance(e.record, Verdict)])
    seen = dict.fromkeys((e.suspect, e.truth) for e in verdicts)
    suspects = tuple(s for truth in _ORDER for s in seen if s[1] == truth)
    evidence = tuple(dict.fromkeys(e.evidence for e in verdicts))
    cells = {(e.suspect, e.truth, e.evidence): e for e in verdicts}
    kinds = tuple(_kind(label, [e for e in cells.values() if e.evidence == label]) for label in evidence)
    thefts = tuple(e for e in entries if not isinstance(e.record, Verdict))
    return Summary(suspects, evidence, cells, kinds, thefts)


def _distinct(entries: list[Entry]) -> list[Entry]:
    """Tell apart suspects that were tested twice with the same evidence, so that no verdict hides another."""
    seen: Counter[tuple[str, Truth, str]] = Counter()
    found = []
    for entry in entries:
        key = (entry.suspect, entry.truth, entry.evidence)
        seen[key] += 1
        again = f"{entry.suspect} ({seen[key]})" if seen[key] > 1 else entry.suspect
        found.append(replace(entry, suspect=again))
    return found


def _kind(label: str, entries: list[Entry]) -> Kind:
    found = [(e.truth, e.record) for e in entries if isinstance(e.record, Verdict)]
    suspects = {t: sum(truth == t for truth, _ in found) for t in _ORDER}
    flagged = {t: sum(truth == t and v.stolen for truth, v in found) for t in _ORDER}
    rate = {t: clopper_pearson(flagged[t], n) for t, n in suspects.items() if n}
    queries = {t: statistics.median(v.queries for truth, v in found if truth == t) for t in rate}
    return Kind(label, flagged, suspects, rate, queries)
