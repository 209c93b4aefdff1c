"""What evidence that is trained in costs, who carries it, and what became of it after each removal."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any, Literal

from assay.study.columns import Row, Rows, distinct, grouped, number_of, spread, steps_of
from assay.study.power_summary import whole_p_value
from assay.study.trade_offs import lost_of, washed_rows

__all__ = ["OUTCOMES", "Outcome", "mark_table", "outcome_table"]

Outcome = Literal["verified", "spoilt", "won", "absent"]
OUTCOMES: tuple[Outcome, ...] = ("verified", "spoilt", "won", "absent")

_COPY = ("victim", "evidence", "extraction")
_TEST = ("verification", "access", "alpha")
_TOO_MUCH = 0.05
_PRECISION = 1e-9


def mark_table(models: Rows, verdicts: Rows) -> list[Row]:
    """Return what each kind of evidence costs its owner, and how often it is matched by whom.

    Parameters
    ----------
    models
        Rows of the table ``models``; victims with a match rate carry evidence.
    verdicts
        Rows of the table ``verdicts``; match rates of copies as they were stolen.

    Returns
    -------
    list of dict
        One row a victim and evidence: ``seeds``; ``accuracy``, ``unmarked_accuracy`` and
        ``cost`` (unmarked minus marked, repetition by repetition): means, with ``_least``
        and ``_most``; ``match_rate`` and ``unmarked_match_rate`` likewise;
        ``unmarked_p_least``, smallest p-value of an unmarked model; ``copies``: mean match
        rate by extraction; ``steps``.

    Examples
    --------
    >>> model = {"role": "victim", "accuracy": 0.88, "unmarked_accuracy": 0.9, "match_rate": 1.0}
    >>> verdict = {"extraction": "e", "removal": "none", "match_rate": 0.25}
    >>> row = mark_table([model], [verdict])[0]
    >>> round(row["cost"], 3), row["match_rate"], row["copies"]
    (0.02, 1.0, {'e': 0.25})
    """
    stolen = [row for row in verdicts if row.get("removal") in (None, "none")]
    copies = grouped(stolen, ("victim", "evidence"))
    found = []
    victims = [row for row in models if row.get("role") == "victim" and row.get("match_rate") is not None]
    for key, same in grouped(victims, ("victim", "evidence")).items():
        rows = distinct(same)
        made: Row = dict(zip(("victim", "evidence"), key, strict=True)) | {"seeds": len(rows)}
        made |= spread(rows, "accuracy") | spread(rows, "unmarked_accuracy")
        made |= spread([{"cost": _cost(row)} for row in rows], "cost")
        made |= spread(rows, "match_rate") | spread(rows, "unmarked_match_rate")
        made["unmarked_p_least"] = spread(rows, "unmarked_p_value")["unmarked_p_value_least"]
        made["copies"] = {
            str(name): spread(of, "match_rate")["match_rate"]
            for (name,), of in grouped(copies.get(key, []), ["extraction"]).items()
        }
        found.append({**made, "steps": steps_of(rows)})
    return found


def outcome_table(verdicts: Rows, removals: Rows, most_lost: float = _TOO_MUCH) -> list[Row]:
    """Return who won after each removal: the evidence, nobody, or the thief.

    Each repetition has one outcome. ``verified``: the copy is still found to be stolen.
    Otherwise ``absent`` if it was not found before the removal either, so that there was
    nothing to remove; ``spoilt`` if the removal cost more accuracy than ``most_lost``;
    ``won`` if it did not: the thief keeps a good copy without evidence.

    Parameters
    ----------
    verdicts, removals
        Rows of these tables, matched as `assay.study.trade_offs.trade_off_table` does.
    most_lost
        Accuracy that a thief is ready to lose, a share.

    Returns
    -------
    list of dict
        One row a victim, evidence, extraction, removal, verification, access and alpha:
        ``verdicts``, the numbers ``verified``, ``spoilt``, ``won`` and ``absent``, ``outcome``
        (the commonest; of equally common ones the worst for the owner); ``lost``, ``match``
        and ``p_median`` (medians; None if unknown); ``steps``.

    Examples
    --------
    >>> verdicts = [
    ...     {"extraction": "e", "removal": r, "p_value": p, "stolen": p < 0.01}
    ...     for r, p in [("none", 1e-9), ("tune", 0.5), ("prune", 0.5), ("noise", 1e-6)]
    ... ]
    >>> removals = [
    ...     {"extraction": "e", "removal": r, "accuracy_before": 0.9, "accuracy": a}
    ...     for r, a in [("tune", 0.88), ("prune", 0.5), ("noise", 0.8)]
    ... ]
    >>> [(row["removal"], row["outcome"]) for row in outcome_table(verdicts, removals)]
    [('none', 'verified'), ('tune', 'won'), ('prune', 'spoilt'), ('noise', 'verified')]
    """
    lost = washed_rows(removals)
    carried = {_place(row): bool(row["stolen"]) for row in verdicts if row.get("removal") in (None, "none")}
    found = []
    for key, rows in grouped(verdicts, (*_COPY, "removal", *_TEST)).items():
        made: Row = dict(zip((*_COPY, "removal", *_TEST), key, strict=True)) | {"verdicts": len(rows)}
        costs = [_lost(row, lost) for row in rows]
        kinds = [
            _outcome(row, cost, most_lost, carried=carried.get(_place(row), True))
            for row, cost in zip(rows, costs, strict=True)
        ]
        made |= {name: kinds.count(name) for name in OUTCOMES}
        made["outcome"] = max(OUTCOMES, key=lambda kind: (made[kind], _WORSE[kind]))
        made["lost"] = _median(costs)
        made["match"] = _median([number_of(row.get("match_rate")) for row in rows])
        made["p_median"] = statistics.median(whole_p_value(row) for row in rows)
        found.append({**made, "steps": steps_of(rows)})
    return found


_WORSE: dict[str, int] = {"verified": 0, "spoilt": 1, "absent": 2, "won": 3}


def _outcome(row: Mapping[str, Any], lost: float | None, most_lost: float, *, carried: bool) -> Outcome:
    if row["stolen"]:
        return "verified"
    if row.get("removal") in (None, "none") or not carried:
        return "absent"
    # What cannot be measured is no reason to call a copy spoilt.
    return "spoilt" if lost is not None and lost > most_lost + _PRECISION else "won"


def _lost(row: Mapping[str, Any], washed: Callable[[Mapping[str, Any]], Rows]) -> float | None:
    if row.get("removal") in (None, "none"):
        return 0.0
    values = [x for same in washed(row) if (x := lost_of(same)) is not None]
    return math.fsum(values) / len(values) if values else None


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in (*_COPY, *_TEST, "seed"))


def _cost(row: Mapping[str, Any]) -> float | None:
    marked, unmarked = number_of(row.get("accuracy")), number_of(row.get("unmarked_accuracy"))
    return None if marked is None or unmarked is None else unmarked - marked


def _median(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.median(known) if known else None
