"""Choosing triggers by simulated theft of the finished model, and the test that fits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from assay.errors import BudgetExceeded, EvidenceTampered, InvalidInput
from assay.evidence.base import Evidence, Finding
from assay.evidence.watermarks.examination import parts
from assay.ledger import Ledger
from assay.result import Assumption
from assay.statistics import binomial_test, clopper_pearson, upper_rate

__all__ = ["examine_selected", "panel_bound", "select_triggers"]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
_FEWEST_NULLS = 19  # below, the largest of them bounds no 95 % quantile


def select_triggers(targets: IntArray, thieves: Sequence[IntArray], nulls: Sequence[IntArray]) -> BoolArray:
    """Return which triggers every simulated thief answers with the target and no clean model does.

    It looks at models trained with the true key, so that the randomisation test over keys
    is no longer valid; `panel_bound` gives the test that is.

    Parameters
    ----------
    targets
        Target of each trigger, int64 ``[triggers]``.
    thieves, nulls
        Answers of each model, int64 ``[triggers]`` each; at least one thief.

    Raises
    ------
    InvalidInput
        Without a thief.

    References
    ----------
    Pautov, Bogdanov, Pyatkin, Rogov and Oseledets, "Probabilistically Robust Watermarking
    of Neural Networks", IJCAI 2024, section 4, for proxies of thieves.

    Examples
    --------
    >>> answers = np.array([1, 1, 0]), np.array([1, 1, 1])
    >>> select_triggers(np.array([1, 1, 1]), answers, [np.array([0, 1, 0])]).tolist()
    [True, False, False]
    """
    if not thieves:
        msg = "selecting triggers by simulated theft needs at least one thief"
        raise InvalidInput(msg)
    stolen = np.all([answers == targets for answers in thieves], axis=0)
    clean = np.all([answers != targets for answers in nulls], axis=0) if len(nulls) else np.ones_like(stolen)
    return np.asarray(stolen & clean)


def panel_bound(answers: IntArray, targets: IntArray, confidence: float = 0.95) -> float:
    """Return the largest upper bound of the match rates of independent models.

    Parameters
    ----------
    answers
        Of models that took no part in the selection, int64 ``[models, triggers]``, at
        least 19 of them.
    targets
        int64 ``[triggers]``.
    confidence
        Coverage of each model's Clopper-Pearson bound.

    Raises
    ------
    InvalidInput
        If there are fewer than 19 models.

    Examples
    --------
    >>> round(panel_bound(np.zeros((19, 100), dtype=np.int64), np.ones(100, dtype=np.int64)), 4)
    0.0295
    """
    if len(answers) < _FEWEST_NULLS:
        msg = (
            f"a bound on false positives needs {_FEWEST_NULLS} independent models or more, got {len(answers)}"
        )
        raise InvalidInput(msg)
    return max(upper_rate(int((row == targets).sum()), len(targets), confidence) for row in answers)


def examine_selected(evidence: Evidence, oracle: Ledger, *, alpha: float, rng: int) -> Finding:  # noqa: ARG001 - nothing is drawn
    """Ask the selected triggers and test the matches against the bound of the panel.

    Parameters
    ----------
    evidence
        A trigger set with tensors ``selected`` (int64 ``[k]``, positions of triggers) and
        ``panel`` (int64 ``[models, triggers]``, what independent models answer).
    oracle
        The metered suspect.
    alpha
        Level that the test must be able to reach.
    rng
        Not used: nothing is drawn.

    Raises
    ------
    BudgetExceeded
        If so few triggers cannot reach ``alpha`` even when all match.
    InvalidInput
        If even all of them cannot.
    EvidenceTampered
        If the bundle's parts do not fit together.
    """
    whole = parts(evidence)
    selected, panel = _selected(evidence, len(whole.triggers))
    wanted = whole.targets[whole.mark.numpy()]
    most = len(selected) if oracle.remaining is None else min(len(selected), oracle.remaining)

    def bound(queries: int) -> float:
        asked = selected[:queries]
        return panel_bound(panel[:, asked], wanted[asked])

    reach = {queries: bound(queries) ** queries for queries in {most, len(selected)} if queries}
    if reach[len(selected)] > alpha:
        msg = f"{len(selected)} selected triggers cannot reach alpha = {alpha:g}; select more or raise alpha"
        raise InvalidInput(msg)
    if not most or reach[most] > alpha:
        msg = (
            f"a budget of {most} queries cannot reach alpha = {alpha:g} with these triggers; nothing was sent"
        )
        raise BudgetExceeded(msg)
    asked = selected[:most]
    hits = oracle.labels(whole.triggers[torch.from_numpy(asked)]).numpy() == wanted[asked]
    rate, limit = clopper_pearson(int(hits.sum()), most), bound(most)
    null = [float((row[asked] == wanted[asked]).mean()) for row in panel]
    result = replace(
        binomial_test(int(hits.sum()), most, limit),
        n={"triggers": most, "independent models": len(panel)},
    )
    return Finding(
        result,
        assumptions=(
            Assumption(
                "an independent suspect matches no more often than the bound of the panel",
                None,
                f"{len(panel)} independent models matched at most {max(null):.3f} of these triggers, which "
                "were selected by copies of the marked model, so that no exact test over keys exists",
            ),
            Assumption(
                "the evidence was committed before the suspect was trained",
                None,
                "compare the commitment of this verdict with the published, time-stamped one",
            ),
        ),
        samples={"key": [rate.value], "independent models": null},
        details={
            "matches": int(hits.sum()),
            "triggers": most,
            "false_positive_bound": limit,
            "targets": [evidence.facts["classes"][t] for t in whole.targets],
        },
    )


def _selected(evidence: Evidence, triggers: int) -> tuple[IntArray, IntArray]:
    """Return the positions of the selected triggers and the panel's answers, checked."""
    selected, panel = evidence.tensors.get("selected"), evidence.tensors.get("panel")
    if (
        selected is None
        or panel is None
        or selected.dtype != torch.int64
        or panel.dtype != torch.int64
        or selected.ndim != 1
        or not 0 < len(selected) == len(set(selected.tolist()))
        or panel.ndim != 2  # noqa: PLR2004 - models and triggers
        or panel.shape[1] != triggers
        or not 0 <= int(selected.min()) <= int(selected.max()) < triggers
    ):
        msg = "the selected triggers and the panel of this evidence do not fit its triggers"
        raise EvidenceTampered(msg)
    return selected.numpy(), panel.numpy()
