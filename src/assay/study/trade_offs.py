"""What thieves pay and what they get: copies by queries, washed copies by the accuracy they lose."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from assay.errors import InvalidInput
from assay.study.columns import Row, Rows, distinct, grouped, number_of, spread, steps_of
from assay.study.power_summary import whole_p_value

__all__ = [
    "extraction_table",
    "fidelity_curve",
    "lost_of",
    "merge_shared",
    "model_table",
    "pareto_front",
    "removal_table",
    "trade_off_table",
    "washed_rows",
]

_COPY = ("victim", "evidence", "extraction")
_WASHED = (*_COPY, "removal")
_MODEL = ("role", "victim", "panel", "data", "architecture")
_SUSPECT = (*_WASHED, "verification", "access", "alpha")
_TESTED = ("victim", "evidence", "verification", "access", "alpha")
_SMALLEST = 1e-300


def model_table(models: Rows) -> list[Row]:
    """Return mean, least and largest accuracy by role, victim, panel, data and architecture.

    A model that stands under several kinds of evidence counts once.

    Examples
    --------
    >>> row = model_table([{"role": "victim", "accuracy": 0.8}, {"role": "victim", "accuracy": 0.9}])[0]
    >>> row["models"], round(row["accuracy"], 2), row["accuracy_least"], row["train_accuracy"]
    (2, 0.85, 0.8, None)
    """
    groups = {key: distinct(rows) for key, rows in grouped(models, _MODEL).items()}
    return [
        {
            **dict(zip(_MODEL, key, strict=True)),
            "models": len(rows),
            **spread(rows, "accuracy"),
            **spread(rows, "train_accuracy"),
            "steps": steps_of(rows),
        }
        for key, rows in groups.items()
    ]


def extraction_table(extractions: Rows) -> list[Row]:
    """Return what the copies of each victim, evidence and extraction are worth, over the repetitions.

    Returns
    -------
    list of dict
        ``copies``, ``attack``, ``queries`` and ``round_trips`` (medians), ``fidelity``,
        ``accuracy`` and ``victim_accuracy`` (means, with ``_least`` and ``_most``),
        ``front``: no other extraction of the same victim and evidence that asks the victim
        gives more fidelity for as few queries; ``steps``.

    Examples
    --------
    >>> rows = [
    ...     {"extraction": "cheap", "queries": 100, "fidelity": 0.8},
    ...     {"extraction": "dear", "queries": 900, "fidelity": 0.9},
    ...     {"extraction": "poor", "queries": 900, "fidelity": 0.7},
    ... ]
    >>> [(row["extraction"], row["front"]) for row in extraction_table(rows)]
    [('cheap', True), ('dear', True), ('poor', False)]
    """
    found = []
    for key, rows in grouped(merge_shared(extractions), _COPY).items():
        made: Row = dict(zip(_COPY, key, strict=True))
        made |= {"attack": rows[0].get("attack"), "copies": len(rows)}
        made |= {name: _median(rows, name) for name in ("queries", "round_trips")}
        for name in ("fidelity", "accuracy", "victim_accuracy"):
            made |= spread(rows, name)
        found.append(made | {"front": False, "steps": steps_of(rows)})
    for same in grouped(found, ("victim", "evidence")).values():
        # Who has the model or its data asks nothing, and is no choice for a thief who has not.
        _mark_front(same, [(row["queries"] or None, _minus(row["fidelity"])) for row in same])
    return found


def removal_table(removals: Rows) -> list[Row]:
    """Return what each removal costs the thief, over the repetitions.

    Returns
    -------
    list of dict
        ``copies``; ``accuracy_before``, ``accuracy``, ``lost`` (before minus after, row by
        row) and ``fidelity``: means, with ``_least`` and ``_most``; ``steps``.

    Examples
    --------
    >>> rows = [{"extraction": "e", "removal": "r", "accuracy_before": 0.9, "accuracy": 0.8}]
    >>> round(removal_table(rows)[0]["lost"], 2)
    0.1
    """
    found = []
    for key, rows in grouped(merge_shared(removals), _WASHED).items():
        made: Row = dict(zip(_WASHED, key, strict=True))
        made["copies"] = len(rows)
        for name in ("accuracy_before", "accuracy"):
            made |= spread(rows, name)
        made |= spread([{"lost": lost_of(row)} for row in rows], "lost")
        made |= spread(rows, "fidelity")
        found.append({**made, "steps": steps_of(rows)})
    return found


def trade_off_table(verdicts: Rows, removals: Rows) -> list[Row]:
    """Return, for each way to wash a copy, the accuracy that it costs and the evidence that it leaves.

    Parameters
    ----------
    verdicts, removals
        Rows of these tables. A verdict belongs to the removal of the same victim,
        evidence, extraction, removal and seed, where a removal without evidence belongs
        to any that is registered, not trained in; removal ``"none"`` costs nothing.

    Returns
    -------
    list of dict
        One row a victim, evidence, extraction, removal, verification, access and alpha:
        ``verdicts``, ``lost`` (median accuracy lost; None if no removal is known),
        ``evidence_left`` (median of -log10 p, over everything that could be asked where that
        was measured), ``match`` (median match rate; None if unknown), ``share`` (still found
        to be stolen),
        ``front``: no other removal of the same copy costs as little and leaves as little;
        ``steps``.

    Examples
    --------
    >>> verdicts = [
    ...     {"extraction": "e", "removal": r, "p_value": p, "stolen": p < 0.01}
    ...     for r, p in [("none", 1e-9), ("prune", 1e-3), ("noise", 1e-6)]
    ... ]
    >>> removals = [
    ...     {"extraction": "e", "removal": r, "accuracy_before": 0.9, "accuracy": a}
    ...     for r, a in [("prune", 0.88), ("noise", 0.8)]
    ... ]
    >>> table = trade_off_table(verdicts, removals)
    >>> [(row["removal"], round(row["evidence_left"]), row["front"]) for row in table]
    [('none', 9, True), ('prune', 3, True), ('noise', 6, False)]
    """
    washed = washed_rows(removals)
    found = []
    for key, rows in grouped(verdicts, _SUSPECT).items():
        made: Row = dict(zip(_SUSPECT, key, strict=True))
        lost, steps = [], steps_of(rows)
        for row in rows:
            if row.get("removal") in (None, "none"):
                lost.append(0.0)
                continue
            same = washed(row)
            lost += [x for removal in same if (x := lost_of(removal)) is not None]
            steps += steps_of(same)
        left = [-math.log10(max(whole_p_value(row), _SMALLEST)) for row in rows]
        made |= {
            "verdicts": len(rows),
            "lost": statistics.median(lost) if lost else None,
            "evidence_left": statistics.median(left) + 0.0,  # -log10(1) is -0.0
            "match": _median(rows, "match_rate"),
            "share": sum(bool(row["stolen"]) for row in rows) / len(rows),
            "front": False,
            "steps": list(dict.fromkeys(steps)),
        }
        found.append(made)
    for same in grouped(
        found, ("victim", "evidence", "extraction", "verification", "access", "alpha")
    ).values():
        _mark_front(same, [(row["lost"], row["evidence_left"]) for row in same])
    return [dict(row) for same in grouped(found, _TESTED).values() for row in same]


def merge_shared(rows: Rows) -> list[Row]:
    """Return copies that serve several kinds of evidence once, with the names of all of them.

    Evidence that is registered leaves the victim as it is, so that its copies are the
    same steps whatever the evidence.

    Examples
    --------
    >>> rows = [{"victim": "v", "evidence": e, "step": s} for e, s in [("a", "1"), ("b", "1"), ("c", "2")]]
    >>> [row["evidence"] for row in merge_shared(rows)]
    ['a, b', 'c']
    """
    found: list[Row] = []
    for victims in grouped(rows, ["victim"]).values():
        shared: dict[Any, list[str | None]] = {}
        kinds = grouped(victims, ["evidence"])
        for (evidence,), same in kinds.items():
            steps = frozenset(steps_of(same))
            shared.setdefault(steps or (evidence,), []).append(evidence)
        for names in shared.values():
            text = ", ".join(filter(None, names)) or None
            found += [{**row, "evidence": text} for row in kinds[names[0],]]
    return found


def fidelity_curve(extractions: Rows) -> list[Row]:
    """Return how fidelity and accuracy of one extraction's copies grow with queries.

    Points of several repetitions at the same number of queries are averaged. A copy
    without a curve is one point.

    Parameters
    ----------
    extractions
        Rows of one setting.

    Returns
    -------
    list of dict
        ``queries``, ``copies``, ``fidelity`` and ``accuracy`` (means, with ``_least`` and
        ``_most``), by increasing queries.

    Examples
    --------
    >>> rows = [{"curve": [[100, 0.6, 0.5], [200, 0.8, 0.7]]}, {"curve": [[100, 0.8, 0.7]]}]
    >>> [(point["queries"], point["copies"], round(point["fidelity"], 2)) for point in fidelity_curve(rows)]
    [(100, 2, 0.7), (200, 1, 0.8)]
    """
    points = []
    for row in extractions:
        curve = row.get("curve") or [[row.get("queries"), row.get("fidelity"), row.get("accuracy")]]
        points += [dict(zip(("queries", "fidelity", "accuracy"), point, strict=True)) for point in curve]
    known = [point for point in points if number_of(point["queries"]) is not None]
    return [
        {"queries": queries, "copies": len(same), **spread(same, "fidelity"), **spread(same, "accuracy")}
        for (queries,), same in sorted(grouped(known, ("queries",)).items())
    ]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return which points no other point dominates; less is better on both axes.

    Equal points are both on the front.

    Parameters
    ----------
    points
        Pairs of finite numbers.

    Raises
    ------
    InvalidInput
        If a number is not finite.

    Examples
    --------
    >>> pareto_front([(0, 3), (1, 1), (2, 2), (3, 0), (3, 1)])
    [True, True, False, True, False]
    """
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
        msg = "a Pareto front needs finite numbers"
        raise InvalidInput(msg)
    front, best, last = [False] * len(points), math.inf, None
    for index in sorted(range(len(points)), key=points.__getitem__):
        point = points[index]
        if point[1] < best or point == last:
            front[index], best, last = True, point[1], point
    return front


def washed_rows(removals: Rows) -> Callable[[Mapping[str, Any]], Rows]:
    """Return a function from a verdict to the removals that made its suspect.

    Examples
    --------
    >>> of = washed_rows([{"extraction": "e", "removal": "r", "seed": 0, "accuracy": 0.8}])
    >>> of({"extraction": "e", "removal": "r", "seed": 0, "evidence": "kept back"})[0]["accuracy"]
    0.8
    """
    names = (*_WASHED, "seed")
    washed = grouped(removals, names)

    def of(verdict: Mapping[str, Any]) -> Rows:
        for evidence in (verdict.get("evidence"), None, "", "none"):
            place = tuple(evidence if name == "evidence" else verdict.get(name) for name in names)
            if found := washed.get(place):
                return found
        return []

    return of


def _mark_front(rows: Sequence[Mapping[str, Any]], points: Sequence[tuple[Any, Any]]) -> None:
    """Set ``front`` of the rows; those without both numbers are on none."""
    known = [i for i, (x, y) in enumerate(points) if number_of(x) is not None and number_of(y) is not None]
    for i, good in zip(known, pareto_front([points[i] for i in known]), strict=True):
        row = rows[i]
        assert isinstance(row, dict)
        row["front"] = good


def lost_of(row: Mapping[str, Any]) -> float | None:
    """Return the accuracy that a removal cost; None if it was not measured.

    Examples
    --------
    >>> lost_of({"accuracy_before": 0.75, "accuracy": 0.5}), lost_of({})
    (0.25, None)
    """
    before, after = number_of(row.get("accuracy_before")), number_of(row.get("accuracy"))
    return None if before is None or after is None else before - after


def _median(rows: Rows, column: str) -> float | None:
    values = [v for row in rows if (v := number_of(row.get(column))) is not None]
    return statistics.median(values) if values else None


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
