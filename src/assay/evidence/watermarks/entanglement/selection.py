"""Choosing triggers by simulated theft of the finished model, and the test that fits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.errors import BudgetExceeded, EvidenceTampered, InvalidInput
from assay.evidence.base import Evidence, Finding
from assay.evidence.watermarks.examination import parts
from assay.evidence.watermarks.looks import Look, binomial_looks
from assay.ledger import Ledger
from assay.result import Assumption
from assay.statistics import clopper_pearson, match_t_test, spending, upper_rate

__all__ = ["FEWEST_MODELS", "examine_selected", "panel_bound", "select_triggers"]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
FEWEST_MODELS = 19  # below, the largest of them bounds no 95 % quantile
_FIRST = 8  # answers before the first look


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
    if len(answers) < FEWEST_MODELS:
        msg = (
            f"a bound on false positives needs {FEWEST_MODELS} independent models or more, got {len(answers)}"
        )
        raise InvalidInput(msg)
    return max(upper_rate(int((row == targets).sum()), len(targets), confidence) for row in answers)


def examine_selected(
    evidence: Evidence,
    oracle: Ledger,
    *,
    alpha: float,
    rng: int,  # noqa: ARG001 - nothing is drawn
    early: bool = True,
) -> Finding:
    """Ask the selected triggers and test the matches against the bound of the panel.

    The triggers are asked in the committed order, which was drawn at random after they were
    selected: the first of them are a random sample, and the bound is from all of them. Looks at
    the answers so far and their shares of alpha are fixed before the first query.

    Parameters
    ----------
    evidence
        A trigger set with a tensor ``panel``, int64 ``[models, triggers]``: what independent
        models answer that took no part in the selection.
    oracle
        The metered suspect.
    alpha
        Level that the test must be able to reach.
    rng
        Not used: nothing is drawn.
    early
        Stop as soon as the answers suffice; False asks all triggers and looks once.

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
    panel = _panel(evidence, len(whole.triggers))
    wanted = whole.targets[whole.mark.numpy()]
    limit, available = panel_bound(panel, wanted), len(wanted)
    most = available if oracle.remaining is None else min(available, oracle.remaining)
    if limit**available > alpha:
        msg = (
            f"{available} selected triggers cannot reach alpha = {alpha:g}, for independent models match up "
            f"to {limit:.2f} of them; select more or raise alpha"
        )
        raise InvalidInput(msg)
    if not most or limit**most > alpha:
        msg = (
            f"a budget of {most} queries cannot reach alpha = {alpha:g} with these triggers; nothing was sent"
        )
        raise BudgetExceeded(msg)
    looks = _plan(most, limit, alpha, early=early)
    hits, seen = np.zeros(0, dtype=bool), list[dict[str, Any]]()
    for look in looks:
        asked = slice(len(hits), look.queries)
        hits = np.append(hits, oracle.labels(whole.triggers[asked]).numpy() == wanted[asked])
        seen.append({"queries": look.queries, "weight": look.weight, "matches": int(hits.sum())})
        if binomial_looks(seen, limit).p_value <= alpha:
            break
    queries, matches = len(hits), int(hits.sum())
    rate, null = clopper_pearson(matches, queries), [float((row == wanted).mean()) for row in panel]
    unmarked = evidence.facts.get("unmarked_matches")
    return Finding(
        replace(binomial_looks(seen, limit), n={"triggers": queries, "independent models": len(panel)}),
        companions=() if unmarked is None else (match_t_test(matches, queries, int(unmarked), available),),
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
            Assumption(
                "the triggers were secret: they were not shown in an earlier dispute to whoever made the "
                "suspect",
                None,
                "a trigger set is spent once its bundle has been shown",
            ),
        ),
        samples={
            "key": [rate.value],
            "independent models": null,
            "hits": [float(hit) for hit in hits],
        },
        details={
            "matches": matches,
            "triggers": queries,
            "triggers_saved": most - queries,
            "looks": seen,
            "false_positive_bound": limit,
            "targets": [evidence.facts["classes"][t] for t in whole.targets],
        },
    )


def _plan(queries: int, limit: float, alpha: float, *, early: bool) -> list[Look]:
    """Return looks after 8 answers and after every doubling at which alpha can be reached."""
    times, turn = [], _FIRST
    while early and turn < queries:
        times.append(turn)
        turn *= 2
    times.append(queries)
    while True:
        looks = [*map(Look, times, spending(1.0, len(times), "geometric").tolist())]
        if len(looks) == 1 or limit ** looks[0].queries / looks[0].weight <= alpha:
            return looks
        del times[0]


def _panel(evidence: Evidence, triggers: int) -> IntArray:
    """Return the panel's answers, checked."""
    panel = evidence.tensors.get("panel")
    if (
        panel is None
        or panel.dtype != torch.int64
        or panel.ndim != 2  # noqa: PLR2004 - models and triggers
        or panel.shape[1] != triggers
        or len(panel) < FEWEST_MODELS
    ):
        msg = "the panel of this evidence does not fit its triggers"
        raise EvidenceTampered(msg)
    found: IntArray = panel.numpy()
    return found
