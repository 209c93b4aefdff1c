"""One suspect against one trigger set: ask, count, rank the key among all keys."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from assay.errors import BudgetExceeded, EvidenceTampered, InvalidInput
from assay.evidence.base import Evidence, Finding
from assay.evidence.watermarks.keys import key_targets, queries_needed, randomisation_p_value
from assay.ledger import Ledger
from assay.result import Assumption, Effect, TestResult
from assay.statistics import binomial_test, clopper_pearson, upper_rate

__all__ = ["examine_triggers"]

_NULL = "given the suspect's answers, every assignment of target classes to marks is equally likely"
_DECOYS_SHOWN = 999


def examine_triggers(evidence: Evidence, oracle: Ledger, *, alpha: float, rng: int) -> Finding:
    """Ask as many triggers as the budget allows and rank the key among all keys.

    Parameters
    ----------
    evidence
        With tensors ``triggers`` (float32 ``[n, *shape]``, the marks taking turns, so that
        any first part of them uses all marks alike) and ``mark`` (int64 ``[n]``), and facts
        ``marks`` and ``key``.
    oracle
        The metered suspect.
    alpha
        Level that the test must be able to reach.
    rng
        Seed of the decoy rates shown in plots; the p-value is exact and needs none.

    Returns
    -------
    Finding
        Effect: match rate minus the mean match rate of all keys, which is one in the
        number of classes whatever the suspect answers; the Clopper-Pearson interval takes
        the triggers as independent given the marks.

    Raises
    ------
    BudgetExceeded
        If so few triggers cannot reach ``alpha`` even when all match.
    InvalidInput
        If these marks cannot.
    EvidenceTampered
        If the bundle's parts do not fit together.
    """
    triggers, mark, marks, classes = _parts(evidence)
    targets = key_targets(evidence.facts["key"], triggers, marks, classes)
    queries = len(triggers) if oracle.remaining is None else min(len(triggers), oracle.remaining)
    _check_reach(alpha, queries, marks, classes)
    answers = oracle.labels(triggers[:queries]).numpy()
    asked = mark[:queries].numpy()
    counts = np.zeros((marks, classes), dtype=np.int64)
    np.add.at(counts, (asked, answers), 1)
    hits = answers == targets[asked]
    matches, chance = int(hits.sum()), 1 / classes
    rate = clopper_pearson(matches, queries)
    result = TestResult(
        test="key-randomisation",
        null=_NULL,
        statistic=rate.value,
        p_value=randomisation_p_value(counts, targets),
        n={"triggers": queries, "marks": len(np.unique(asked))},
        effect=Effect("match-rate-above-decoys", rate.value - chance, rate.low - chance, rate.high - chance),
        exact=True,
    )
    drawn = np.random.default_rng(rng).integers(classes, size=(_DECOYS_SHOWN, marks))
    decoys = counts[np.arange(marks), drawn].sum(1) / queries
    return Finding(
        result,
        companions=_companions(evidence, matches, queries),
        assumptions=_assumptions(marks, classes),
        samples={"key": [rate.value], "decoys": [float(v) for v in decoys]},
        details={
            "matches": matches,
            "triggers": queries,
            "targets": [evidence.facts["classes"][t] for t in targets],
            "mark_match_rates": [
                float(hits[asked == j].mean()) if (asked == j).any() else None for j in range(marks)
            ],
            "decoy_match_rate": chance,
            "smallest_p_value": classes ** -len(np.unique(asked)),
            "secret_bits": marks * math.log2(classes),
        },
    )


def _parts(evidence: Evidence) -> tuple[Tensor, Tensor, int, int]:
    """Return triggers, their marks, and the numbers of marks and classes, checked."""
    try:
        triggers, mark = evidence.tensors["triggers"], evidence.tensors["mark"]
        marks, classes = int(evidence.facts["marks"]), len(evidence.facts["classes"])
        shape = tuple(evidence.facts["input_shape"])
        whole = (
            triggers.dtype == torch.float32
            and tuple(triggers.shape[1:]) == shape
            and mark.dtype == torch.int64
            and mark.shape == triggers.shape[:1]
            and len(mark) > 0
            and 0 <= int(mark.min()) <= int(mark.max()) < marks <= len(mark)
            and evidence.facts["key"]
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = f"the evidence is no trigger set: {error!r} is missing or malformed"
        raise EvidenceTampered(msg) from error
    if not whole:
        msg = "the triggers, marks and key of this evidence do not fit together; it was not written by Assay"
        raise EvidenceTampered(msg)
    return triggers, mark, marks, classes


def _check_reach(alpha: float, queries: int, marks: int, classes: int) -> None:
    """Refuse a test that could not say "stolen" whatever the suspect answers."""
    needed = queries_needed(alpha, classes)
    if needed > marks:
        msg = (
            f"{marks} marks of {classes} classes cannot give a p-value of {alpha:g} or less, only "
            f"{classes**-marks:.3g}; embed at least {needed} marks or raise alpha"
        )
        raise InvalidInput(msg)
    if needed > queries:
        msg = (
            f"a budget of {queries} queries cannot reach alpha = {alpha:g} with {classes} classes; at least "
            f"{needed} triggers are needed, and {marks} use every mark once; nothing was sent"
        )
        raise BudgetExceeded(msg)


def _companions(evidence: Evidence, matches: int, queries: int) -> tuple[TestResult, ...]:
    """Test against the rate of the unmarked control model, where one was trained."""
    unmarked = evidence.facts.get("unmarked_matches")
    if unmarked is None:
        return ()
    return (binomial_test(matches, queries, upper_rate(int(unmarked), len(evidence.tensors["triggers"]))),)


def _assumptions(marks: int, classes: int) -> tuple[Assumption, ...]:
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
            f"{marks} targets suit takes about 2**{marks * math.log2(classes):.0f} of them",
        ),
        Assumption(
            "the key was secret: it was not shown in an earlier dispute to whoever made the suspect",
            None,
            "a trigger set is spent once its bundle has been shown",
        ),
    )
