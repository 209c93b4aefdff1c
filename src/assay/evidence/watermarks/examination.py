"""One suspect against one trigger set: ask, count, rank the key among all keys."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from assay.errors import BudgetExceeded, EvidenceTampered, InvalidInput
from assay.evidence.base import Evidence, Finding
from assay.evidence.watermarks.keys import (
    Choices,
    IntArray,
    draw_choices,
    key_targets,
    queries_needed,
    randomisation_p_value,
)
from assay.evidence.watermarks.looks import Look, binomial_looks, plan_looks, smallest_p_value
from assay.ledger import Ledger
from assay.result import Assumption, Effect, TestResult
from assay.statistics import clopper_pearson, group_sequential, match_t_test, upper_rate

__all__ = ["Parts", "examine_triggers", "parts"]

_NULL = "given the suspect's answers, every assignment of target classes to marks is equally likely"
_DECOYS_SHOWN = 999


@dataclass(frozen=True, eq=False)
class Parts:
    """What the bundle of a trigger set holds, checked.

    Parameters
    ----------
    triggers
        Inputs to ask, float32 ``[n, *shape]``.
    mark
        Mark of each, int64 ``[n]``.
    classes
        Number of classes.
    choices
        Candidate classes of each mark; None where every class is one.
    targets
        Target of each mark, int64 ``[marks]``.
    """

    triggers: Tensor
    mark: Tensor
    classes: int
    choices: Choices | None
    targets: IntArray

    @property
    def sizes(self) -> list[int]:
        """Number of candidates of each mark."""
        marks = len(self.targets)
        return [self.classes] * marks if self.choices is None else [len(c) for c in self.choices]


def examine_triggers(
    evidence: Evidence, oracle: Ledger, *, alpha: float, rng: int, early: bool = True
) -> Finding:
    """Ask triggers until the key's rank among all keys is significant, or the budget is spent.

    The looks at the answers so far, and the share of alpha that each may spend, are fixed
    before the first query (`plan_looks`); the p-value is the smallest one of the looks
    taken, each divided by its share, which the union bound keeps valid.

    Parameters
    ----------
    evidence
        With tensors ``triggers`` (float32 ``[n, *shape]``, the marks taking turns, so that
        any first part of them uses all marks alike) and ``mark`` (int64 ``[n]``), and facts
        ``marks`` and ``key``. A fact ``choices``, candidate classes of each mark, says among
        which classes the key drew the targets; without it, among all.
    oracle
        The metered suspect.
    alpha
        Level that the test must be able to reach.
    rng
        Seed of the decoy rates shown in plots; the p-value is exact and needs none.
    early
        Stop as soon as the answers suffice; False asks all triggers and looks once.

    Returns
    -------
    Finding
        Effect: match rate minus the mean match rate of all keys; the Clopper-Pearson
        interval takes the triggers as independent given the marks. Without candidate sets
        that mean is one in the number of classes whatever the suspect answers.

    Raises
    ------
    BudgetExceeded
        If so few triggers cannot reach ``alpha`` even when all match.
    InvalidInput
        If these marks cannot.
    EvidenceTampered
        If the bundle's parts do not fit together.
    """
    whole = parts(evidence)
    available = len(whole.triggers)
    most = available if oracle.remaining is None else min(available, oracle.remaining)
    _check_reach(alpha, most, whole.sizes)
    looks = plan_looks(most, whole.sizes, alpha, early=early)
    counts, hits, p_values = _ask(whole, oracle, looks, alpha)
    taken = looks[: len(p_values)]
    queries, matches = len(hits), int(hits.sum())
    asked = whole.mark[:queries].numpy()
    chance = _chance(counts, whole) / queries
    rate = clopper_pearson(matches, queries)
    result = TestResult(
        test="key-randomisation",
        null=_NULL,
        statistic=rate.value,
        p_value=group_sequential(p_values, [look.weight for look in looks]),
        n={"triggers": queries, "marks": len(np.unique(asked))},
        effect=Effect("match-rate-above-decoys", rate.value - chance, rate.low - chance, rate.high - chance),
        exact=True,
    )
    seen = [
        {"queries": k.queries, "weight": k.weight, "matches": int(hits[: k.queries].sum())} for k in taken
    ]
    return Finding(
        result,
        companions=_companions(evidence, seen),
        assumptions=_assumptions(len(whole.sizes), sum(map(math.log2, whole.sizes))),
        samples={
            "key": [rate.value],
            "decoys": _decoy_rates(counts, whole, queries, rng),
            "hits": [float(hit) for hit in hits],
        },
        details={
            "matches": matches,
            "triggers": queries,
            "triggers_saved": most - queries,
            "looks": seen,
            "targets": [evidence.facts["classes"][t] for t in whole.targets],
            "mark_match_rates": [
                float(hits[asked == j].mean()) if (asked == j).any() else None
                for j in range(len(whole.targets))
            ],
            "decoy_match_rate": chance,
            # Near 1: the suspect answers nearly everything alike, as a collapsed copy does.
            "commonest_answer_rate": float(counts.sum(0).max() / queries),
            "smallest_p_value": smallest_p_value(looks[-1], whole.sizes),
            "secret_bits": sum(map(math.log2, whole.sizes)),
        },
    )


def parts(evidence: Evidence) -> Parts:
    """Return the parts of a trigger set, checked.

    Raises
    ------
    EvidenceTampered
        If they are missing or do not fit together.
    """
    try:
        triggers, mark = evidence.tensors["triggers"], evidence.tensors["mark"]
        marks, classes = int(evidence.facts["marks"]), len(evidence.facts["classes"])
        key, choices = evidence.facts["key"], evidence.facts.get("choices")
        whole = (
            triggers.dtype == torch.float32
            and tuple(triggers.shape[1:]) == tuple(evidence.facts["input_shape"])
            and mark.dtype == torch.int64
            and mark.shape == triggers.shape[:1]
            and len(mark) > 0
            and 0 <= int(mark.min()) <= int(mark.max()) < marks <= len(mark)
            and (choices is None or (len(choices) == marks and all(_candidates(c, classes) for c in choices)))
            and key
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = f"the evidence is no trigger set: {error!r} is missing or malformed"
        raise EvidenceTampered(msg) from error
    if not whole:
        msg = (
            "the triggers, marks, candidates and key of this evidence do not fit together; it was not "
            "written by Assay"
        )
        raise EvidenceTampered(msg)
    if choices is None:
        return Parts(triggers, mark, classes, None, key_targets(key, triggers, marks, classes))
    return Parts(triggers, mark, classes, choices, draw_choices(key, triggers, choices))


def _candidates(given: list[int], classes: int) -> bool:
    """Say whether these are distinct classes, at least one."""
    return 0 < len(given) == len(set(given)) and all(type(c) is int and 0 <= c < classes for c in given)


def _ask(
    whole: Parts, oracle: Ledger, looks: tuple[Look, ...], alpha: float
) -> tuple[IntArray, np.ndarray, list[float]]:
    """Return the answers of each mark, which triggers matched, and the p-value at each look taken."""
    counts = np.zeros((len(whole.targets), whole.classes), dtype=np.int64)
    hits, p_values, start = np.zeros(0, dtype=bool), [], 0
    for look in looks:
        asked = whole.mark[start : look.queries].numpy()
        answers = oracle.labels(whole.triggers[start : look.queries]).numpy()
        np.add.at(counts, (asked, answers), 1)
        hits, start = np.append(hits, answers == whole.targets[asked]), look.queries
        p_values.append(randomisation_p_value(counts, whole.targets, whole.choices))
        if p_values[-1] / look.weight <= alpha:
            break
    return counts, hits, p_values


def _chance(counts: IntArray, whole: Parts) -> float:
    """Return the mean number of matches of all keys."""
    if whole.choices is None:
        return float(counts.sum() / whole.classes)
    return float(sum(row[list(c)].mean() for row, c in zip(counts, whole.choices, strict=True)))


def _decoy_rates(counts: IntArray, whole: Parts, queries: int, rng: int) -> list[float]:
    source = np.random.default_rng(rng)
    drawn = source.integers(whole.sizes, size=(_DECOYS_SHOWN, len(counts)))
    if whole.choices is not None:
        columns = [np.array(c)[d] for c, d in zip(whole.choices, drawn.T, strict=True)]
        drawn = np.stack(columns, axis=1)
    matched = counts[np.arange(len(counts)), drawn].sum(1)
    return [float(v) for v in matched / queries]


def _check_reach(alpha: float, queries: int, sizes: list[int]) -> None:
    """Refuse a test that could not say "stolen" whatever the suspect answers."""
    needed = queries_needed(alpha, sizes)
    if needed > len(sizes):
        msg = (
            f"{len(sizes)} marks of {max(sizes)} classes cannot give a p-value of {alpha:g} or less, only "
            f"{1 / math.prod(sizes):.3g}; embed at least {_enough(alpha, sizes)} marks or raise alpha"
        )
        raise InvalidInput(msg)
    if needed > queries:
        msg = (
            f"a budget of {queries} queries cannot reach alpha = {alpha:g} with {max(sizes)} classes a mark; "
            f"at least {needed} triggers are needed, and {len(sizes)} use every mark once; nothing was sent"
        )
        raise BudgetExceeded(msg)


def _enough(alpha: float, sizes: list[int]) -> int:
    """Return how many marks with candidates like these would do."""
    return math.ceil(len(sizes) * math.log(alpha) / -math.log(max(2, math.prod(sizes))) - 1e-9)


def _companions(evidence: Evidence, looks: list[dict[str, float]]) -> tuple[TestResult, ...]:
    """Test against the rate of the unmarked control model, where one was trained."""
    unmarked = evidence.facts.get("unmarked_matches")
    if unmarked is None:
        return ()
    last, asked = looks[-1], len(evidence.tensors["triggers"])
    return (
        binomial_looks(looks, upper_rate(int(unmarked), asked)),
        match_t_test(int(last["matches"]), int(last["queries"]), int(unmarked), asked),
    )


def _assumptions(marks: int, bits: float) -> tuple[Assumption, ...]:
    return (
        Assumption(
            "the key was drawn at random, and its commitment published before the suspect was trained",
            None,
            "compare the commitment of this verdict with the published, time-stamped one",
        ),
        Assumption(
            "nobody chose the targets",
            holds=True,
            evidence="they follow from the key and the trigger inputs by SHA-256; trying keys until all "
            f"{marks} targets suit takes about 2**{bits:.0f} of them",
        ),
        Assumption(
            "the key was secret: it was not shown in an earlier dispute to whoever made the suspect",
            None,
            "a trigger set is spent once its bundle has been shown",
        ),
    )
