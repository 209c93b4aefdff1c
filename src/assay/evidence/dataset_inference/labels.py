"""Informative rows: choose them with references, ask one answer about each, bet or permute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.data.dataset import Dataset
from assay.errors import BudgetExceeded
from assay.evidence.base import Evidence, Finding
from assay.evidence.dataset_inference.calibrated import calibrated_label_weights, calibrated_score_weights
from assay.evidence.dataset_inference.informative import Weights
from assay.evidence.dataset_inference.references import References, margins
from assay.evidence.dataset_inference.secret import Secret
from assay.evidence.dataset_inference.stored import RANDOM_SPLIT, least_rows, secret_parts, stored_secret
from assay.ledger import Ledger
from assay.model import Access
from assay.observers import Observer
from assay.result import Assumption, TestResult

if TYPE_CHECKING:
    from assay.evidence.dataset_inference.scheme import DatasetInference

__all__ = ["examine", "prepare"]


def prepare(
    scheme: DatasetInference, pool: Dataset, coin: Tensor, references: References
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Keep the most informative rows, with what an answer about each is worth."""
    by_label, by_score = calibrated_label_weights(references), calibrated_score_weights(references)
    # Rows are shared by both kinds of access; each kind asks them in its own order.
    first = by_label.order() if scheme.access != "scores" else by_score.order()
    kept = torch.from_numpy(first[: scheme.keep].copy())
    everything = torch.ones(len(pool), dtype=torch.bool)
    secret = Secret.of(pool, coin, kept, everything, stratify=scheme.stratify)
    tensors, facts = secret_parts(secret)
    tensors |= {"x": pool.x[kept], "y": pool.y[kept]}
    for name, weights in (("label", by_label), ("score", by_score)):
        tensors[f"{name}_slope"] = torch.from_numpy(weights.slope[kept])
        tensors[f"{name}_centre"] = torch.from_numpy(weights.centre[kept])
        tensors[f"{name}_information"] = torch.from_numpy(weights.information[kept])
    return tensors, {**facts, "references": len(references)}


def examine(
    scheme: DatasetInference,
    evidence: Evidence,
    oracle: Ledger,
    alpha: float,
    rng: int,
    observers: Sequence[Observer],
) -> Finding:
    """Ask about the kept rows, best first, until the evidence suffices or rows or budget end."""
    kind = "score" if Access.SCORES in oracle.access else "label"
    weights = Weights(
        *(evidence.tensors[f"{kind}_{part}"].numpy() for part in ("slope", "centre", "information"))
    )
    least = least_rows(alpha)
    # Rows on which references that trained on them did no better would cost a query and tell nothing.
    order = weights.order()[: max(int((weights.information > 0).sum()), least)]
    secret = stored_secret(evidence)
    secret = Secret(secret.coin[order], secret.strata[order], secret.totals)
    rows = len(order) if oracle.remaining is None else min(len(order), oracle.remaining)
    if rows < least:
        msg = (
            f"{rows} queries can never reach alpha = {alpha:g}; at least {least} are needed "
            "(a few dozen for copies, some hundreds for query theft)"
        )
        raise BudgetExceeded(msg)
    x, y = evidence.tensors["x"][order], evidence.tensors["y"][order]
    slope, centre = weights.slope[order], weights.centre[order]
    correct: list[bool] = []

    def score(step: slice) -> NDArray[np.float64]:
        answer = _answer(oracle, x[step], y[step], kind)
        correct.extend((answer > 0).tolist())
        return slope[step] * (answer - centre[step])

    def room() -> int:
        return len(order) if oracle.remaining is None else oracle.remaining

    outcome = scheme.decider(alpha, rng).run(secret, score, room, observers)
    return Finding(
        result=outcome.result,
        companions=outcome.companions,
        assumptions=_assumptions(evidence, outcome.result, stopped=outcome.asked < rows),
        samples={"private": outcome.private, "control": outcome.control, "log_wealth": outcome.wealth},
        details={
            "embedding": "informative",
            "access": kind,
            "rows_kept": len(order),
            "rows_asked": outcome.asked,
            "suspect_correct": sum(correct) / len(correct),
            "references": evidence.facts.get("references", 0),
        },
    )


def _answer(oracle: Ledger, x: Tensor, y: Tensor, kind: str) -> NDArray[np.float64]:
    """Return 1 and 0 for right and wrong labels, or margins, which are positive where right."""
    if kind == "label":
        return (oracle.labels(x) == y).double().numpy()
    return margins(oracle.scores(x), y).double().numpy()


def _assumptions(evidence: Evidence, result: TestResult, *, stopped: bool) -> tuple[Assumption, ...]:
    revealed = f"{result.n['private']} private and {result.n['control']} control rows revealed"
    martingale = "the wealth is a martingale under the null (Ville's inequality)"
    one = "one test on all rows asked"
    return (
        Assumption(RANDOM_SPLIT, None, f"commitment {evidence.commitment[:16]}..., {revealed}"),
        Assumption(
            statement="rows, weights and order were fixed without looking at the draw",
            holds=True,
            evidence=f"chosen by {evidence.facts['references']} references trained on other random halves",
        ),
        Assumption(
            statement="stopping early does not change the error rate",
            holds=True,
            evidence=f"stopped early: {'yes' if stopped else 'no'}; "
            + (martingale if result.test == "coin-betting" else one),
        ),
    )
