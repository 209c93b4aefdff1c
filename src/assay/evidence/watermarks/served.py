"""One suspect against the wrong answers of a service: how often it repeats them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from assay.errors import BudgetExceeded, InvalidInput
from assay.evidence.base import Evidence, Finding
from assay.evidence.watermarks.keys import queries_needed, randomisation_p_value
from assay.evidence.watermarks.looks import plan_looks
from assay.ledger import Ledger
from assay.result import Assumption, Effect, TestResult
from assay.statistics import binomial_test, clopper_pearson, group_sequential

__all__ = ["examine_served"]

IntArray = NDArray[np.int64]
_DRAW = "given the suspect's answers, every other class was equally likely to be shown for each marked input"
_MARK = "given the suspect's answers, each answered input was equally likely to be marked"
_DECOYS_SHOWN = 999


def examine_served(
    evidence: Evidence,
    oracle: Ledger,
    shown: dict[str, IntArray],
    *,
    alpha: float,
    rng: int,
    early: bool,
) -> Finding:
    """Ask about marked inputs, in the order in which they were recorded, and count what was shown.

    Parameters
    ----------
    evidence
        With tensors ``inputs``, ``unmarked`` and ``never`` (float32 ``[n, *shape]``), and
        the classes that the service would have answered without marks: ``predicted``,
        ``unmarked_predicted`` and ``never_predicted`` (int64 ``[n]``).
    oracle
        The metered suspect.
    shown
        The wrong classes that the key drew for ``inputs`` and ``never``, int64 ``[n]``.
    alpha
        Level that the test must be able to reach.
    rng
        Seed of the decoy rates shown in plots.
    early
        Look at the answers several times, at a price that is paid.

    Raises
    ------
    BudgetExceeded, InvalidInput
        If budget or marks cannot reach ``alpha``.
    """
    if len(evidence.facts["classes"]) == 2:  # noqa: PLR2004 - the wrong answer is no draw then
        result, details, samples = _which_were_marked(evidence, oracle, alpha)
    else:
        result, details, samples = _which_class(
            evidence, oracle, shown["inputs"], alpha=alpha, rng=rng, early=early
        )
    companions = _forwarded(evidence, oracle, shown["never"])
    return Finding(result, companions, _assumptions(evidence), samples, details)


def _which_class(
    evidence: Evidence, oracle: Ledger, wrong: IntArray, *, alpha: float, rng: int, early: bool
) -> tuple[TestResult, dict[str, object], dict[str, list[float]]]:
    x, predicted = evidence.tensors["inputs"], evidence.tensors["predicted"].numpy()
    classes = len(evidence.facts["classes"])
    queries = len(x) if oracle.remaining is None else min(len(x), oracle.remaining)
    needed = queries_needed(alpha, classes - 1)
    _check_reach(needed, len(x), queries, alpha)
    looks = plan_looks(queries, [classes - 1] * len(x), alpha, early=early)
    others = [[c for c in range(classes) if c != label] for label in predicted.tolist()]
    answers = np.empty(0, dtype=np.int64)
    p_values: list[float] = []
    weights = [look.weight for look in looks]
    for look in looks:
        answers = np.concatenate([answers, oracle.labels(x[len(answers) : look.queries]).numpy()])
        p_values.append(
            randomisation_p_value(
                np.eye(classes, dtype=np.int64)[answers], wrong[: look.queries], others[: look.queries]
            )
        )
        if group_sequential(p_values, weights) <= alpha:
            break
    asked = len(answers)
    hits, repeats = int((answers == wrong[:asked]).sum()), int((answers == predicted[:asked]).sum())
    rate, chance = clopper_pearson(hits, asked), (asked - repeats) / asked / (classes - 1)
    result = TestResult(
        test="shown-class-randomisation",
        null=_DRAW,
        statistic=rate.value,
        p_value=group_sequential(p_values, weights),
        n={"marked": asked},
        effect=Effect("hit-rate-above-decoys", rate.value - chance, rate.low - chance, rate.high - chance),
        exact=True,
    )
    source = np.random.default_rng(rng)
    decoys = source.binomial(asked - repeats, 1 / (classes - 1), _DECOYS_SHOWN) / asked
    details: dict[str, object] = {
        "hits": hits,
        "asked": asked,
        "marks": len(x),
        "answered_as_unmarked": repeats,
        "looks": [
            {"queries": look.queries, "weight": look.weight, "p_value": p}
            for look, p in zip(looks, p_values, strict=False)
        ],
        "queries_saved": queries - asked,
    }
    return result, details, {"key": [rate.value], "decoys": decoys.tolist()}


def _which_were_marked(
    evidence: Evidence, oracle: Ledger, alpha: float
) -> tuple[TestResult, dict[str, object], dict[str, list[float]]]:
    """Compare how often marked and unmarked inputs are answered otherwise than predicted."""
    from scipy.stats import hypergeom

    held = evidence.tensors
    marks, plain = len(held["inputs"]), len(held["unmarked"])
    if 1 / math.comb(marks + plain, marks) > alpha:
        msg = (
            f"{marks} marked and {plain} unmarked inputs of two classes cannot give a p-value of {alpha:g}; "
            "record more answers or raise alpha"
        )
        raise InvalidInput(msg)
    if oracle.remaining is not None and oracle.remaining < marks + plain:
        share = oracle.remaining / (marks + plain)
        marks, plain = int(marks * share), int(plain * share)
        if 1 / math.comb(marks + plain, marks) > alpha:
            msg = f"a budget of {oracle.remaining} queries cannot reach alpha = {alpha:g}; nothing was sent"
            raise BudgetExceeded(msg)
    odd = [
        oracle.labels(held[name][:n]).numpy() != held[f"{prefix}predicted"][:n].numpy()
        for name, prefix, n in (("inputs", "", marks), ("unmarked", "unmarked_", plain))
    ]
    hits, others = int(odd[0].sum()), int(odd[1].sum())
    p = float(hypergeom.sf(hits - 1, marks + plain, hits + others, marks))
    rate, chance = clopper_pearson(hits, marks), (hits + others) / (marks + plain)
    result = TestResult(
        test="marked-rows-randomisation",
        null=_MARK,
        statistic=rate.value,
        p_value=min(1.0, max(p, float(np.finfo(np.float64).tiny))),
        n={"marked": marks, "unmarked": plain},
        effect=Effect("hit-rate-above-decoys", rate.value - chance, rate.low - chance, rate.high - chance),
        exact=True,
    )
    details: dict[str, object] = {"hits": hits, "asked": marks, "unmarked_answered_otherwise": others}
    return result, details, {}


def _forwarded(evidence: Evidence, oracle: Ledger, wrong: IntArray) -> tuple[TestResult, ...]:
    """Test marks that nobody was shown: who repeats them asks the service, or has its key."""
    x, classes = evidence.tensors["never"], len(evidence.facts["classes"])
    most = len(x) if oracle.remaining is None else min(len(x), oracle.remaining)
    if not most or classes == 2:  # noqa: PLR2004 - every disagreement is a hit then
        return ()
    answers = oracle.labels(x[:most]).numpy()
    free = answers != evidence.tensors["never_predicted"][:most].numpy()
    test = binomial_test(int((answers == wrong[:most]).sum()), int(free.sum()), 1 / (classes - 1))
    return (
        TestResult(
            test="never-shown",
            null="the suspect does not get its answers from the service itself",
            statistic=test.statistic,
            p_value=test.p_value,
            n={"never shown": most},
            effect=test.effect,
            exact=True,
            reason=test.reason,
        ),
    )


def _check_reach(needed: int, marks: int, queries: int, alpha: float) -> None:
    if needed > marks:
        msg = (
            f"{marks} marked inputs cannot give a p-value of {alpha:g}; {needed} are needed: record more "
            "answers, or raise alpha"
        )
        raise InvalidInput(msg)
    if needed > queries:
        msg = (
            f"a budget of {queries} queries cannot reach alpha = {alpha:g}; at least {needed} are needed; "
            "nothing was sent"
        )
        raise BudgetExceeded(msg)


def _assumptions(evidence: Evidence) -> tuple[Assumption, ...]:
    facts = evidence.facts
    return (
        Assumption(
            "the key was drawn at random, and the commitment of the defence published before the suspect "
            "was trained",
            None,
            f"compare {facts.get('defence')} with what the service published",
        ),
        Assumption(
            "the owner did not choose the shown classes, nor which inputs are marked",
            holds=True,
            evidence="both were computed again from the key by HMAC-SHA-256 for every input",
        ),
        Assumption(
            "the inputs are all that were marked among those answered, not a choice made after the suspect "
            "was seen",
            None,
            f"journal with SHA-256 {facts['journal']}"
            if "journal" in facts
            else "compare with the service's journal, or with the time stamp of this commitment",
        ),
        Assumption(
            "the key was secret: it was not shown in an earlier dispute", None, "a shown key is spent"
        ),
    )
