"""The classic embeddings: distances to the decision boundary, a scorer, one test on rows.

The scorer learns from a *proxy victim*: reference models whose own random halves are
known, so that it is as blind to the secret split as the rows are, and the test on all
kept rows is exact. Without references it learns from the victim on half of the rows and
the other half is tested; the victim saw those rows too, so that this variant is exact
only up to what a scorer of a few numbers can memorise, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.errors import BudgetExceeded, InvalidInput
from assay.evidence.base import Evidence, Finding
from assay.evidence.dataset_inference.calibrated import calibrated_score_weights
from assay.evidence.dataset_inference.features import log_features
from assay.evidence.dataset_inference.paper_compat import published_aggregate
from assay.evidence.dataset_inference.references import References
from assay.evidence.dataset_inference.scorers import PaperRegressor, RidgeLogistic, load_scorer
from assay.evidence.dataset_inference.secret import Secret
from assay.evidence.dataset_inference.stored import RANDOM_SPLIT, least_rows, secret_parts, stored_secret
from assay.ledger import Ledger
from assay.model import Access, Model
from assay.observers import Observer
from assay.result import Assumption

if TYPE_CHECKING:
    from assay.evidence.dataset_inference.scheme import DatasetInference

__all__ = ["examine", "prepare"]

_PROXIES = 2  # a second proxy halves the scorer's noise; more cost more than they bring


def prepare(
    scheme: DatasetInference,
    victim: Model,
    pool: Dataset,
    coin: Tensor,
    references: References | None,
    rng: int,
    observers: Sequence[Observer],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Choose rows, embed the proxy victims on them and fit the scorer."""
    if not all(np.isfinite(pool.value_range)):
        msg = f"{scheme.embedding} moves inputs within their value range, which must be finite"
        raise InvalidInput(msg)
    hidden = torch.ones(len(pool), dtype=torch.bool)
    if references is not None and references.networks:
        chosen = torch.from_numpy(calibrated_score_weights(references).order()[: scheme.keep].copy())
        base = _baseline(references, chosen, np.ones(len(references), dtype=bool))
        features, sides = [], []
        for index, network in enumerate(references.networks[:_PROXIES]):
            proxy = TorchModel(network, pool.input_shape, pool.num_classes, name=f"reference {index}")
            embedded = _embed(scheme, proxy, pool.subset(chosen), rng, observers)
            # Without its own margin: a suspect's is not in the baseline either.
            others = np.arange(len(references)) != index
            features.append(torch.cat([embedded, _baseline(references, chosen, others)], 1))
            sides.append(torch.from_numpy(references.members[index]).index_select(0, chosen))
        kept = chosen
        fitted_on = "references"
    else:
        chosen = torch.randperm(len(pool), generator=torch.Generator().manual_seed(rng))[: 2 * scheme.keep]
        fit, kept = chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]
        base = torch.empty(len(kept), 0)
        hidden[fit] = False  # these coins are used up by the scorer
        features = [_embed(scheme, victim, pool.subset(fit), rng, observers)]
        sides = [coin[fit]]
        fitted_on = "victim"
    scorer = (RidgeLogistic() if scheme.scorer == "ridge" else PaperRegressor()).fit(
        torch.cat(features), torch.cat(sides), rng
    )
    secret = Secret.of(pool, coin, kept, hidden, stratify=scheme.stratify)
    tensors, facts = secret_parts(secret)
    tensors |= {"x": pool.x[kept], "y": pool.y[kept], "baseline": base}
    tensors |= {f"scorer.{key}": value for key, value in scorer.state().items()}
    return tensors, {
        **facts,
        "fitted_on": fitted_on,
        "references": 0 if references is None else len(references),
    }


def examine(
    scheme: DatasetInference,
    evidence: Evidence,
    oracle: Ledger,
    alpha: float,
    rng: int,
    observers: Sequence[Observer],
) -> Finding:
    """Embed the suspect on the kept rows that the budget covers, score, test."""
    secret = stored_secret(evidence)
    x, y, base = (evidence.tensors[name] for name in ("x", "y", "baseline"))
    state = {k.removeprefix("scorer."): v for k, v in evidence.tensors.items() if k.startswith("scorer.")}
    scorer = load_scorer(state)
    low, high = evidence.facts["value_range"]
    worst = _worst_case(scheme, oracle.num_classes)
    least = least_rows(alpha)
    if oracle.remaining is not None and oracle.remaining < least * worst:
        msg = (
            f"a budget of {oracle.remaining} queries covers {oracle.remaining // worst} rows of "
            f"{scheme.embedding} at up to {worst} queries each; at least {least} rows "
            f"({least * worst} queries) are needed for alpha = {alpha:g}"
        )
        raise BudgetExceeded(msg)

    def score(step: slice) -> NDArray[np.float64]:
        features = _features(scheme, oracle, x[step], y[step], (low, high), rng)
        return scorer.score(torch.cat([features, base[step]], 1))

    def room() -> int:
        return len(x) if oracle.remaining is None else oracle.remaining // worst

    outcome = scheme.decider(alpha, rng).run(secret, score, room, observers)
    details: dict[str, Any] = {
        "embedding": scheme.embedding,
        "rows_kept": len(x),
        "rows_asked": outcome.asked,
        "fitted_on": evidence.facts["fitted_on"],
    }
    if scheme.paper_compat:
        fewest = min(len(outcome.private), len(outcome.control))
        aggregate = published_aggregate(outcome.private, outcome.control, rng=rng, rows=min(10, fewest))
        details["published_aggregate"] = aggregate.to_dict()
    return Finding(
        result=outcome.result,
        companions=outcome.companions,
        assumptions=_assumptions(evidence),
        samples={"private": outcome.private, "control": outcome.control, "log_wealth": outcome.wealth},
        details=details,
    )


def _worst_case(scheme: DatasetInference, num_classes: int) -> int:
    return (
        scheme.walk.worst_case()
        if scheme.embedding == "blind-walk"
        else scheme.descent.worst_case(num_classes)
    )


def _embed(
    scheme: DatasetInference, model: Model, rows: Dataset, rng: int, observers: Sequence[Observer]
) -> Tensor:
    needs = Access.WEIGHTS if scheme.embedding == "mingd" else Access.LABELS
    with Ledger(model, needs, observers=observers) as oracle:
        return _features(scheme, oracle, rows.x, rows.y, rows.value_range, rng)


def _features(
    scheme: DatasetInference, oracle: Ledger, x: Tensor, y: Tensor, value_range: tuple[float, float], rng: int
) -> Tensor:
    if scheme.embedding == "blind-walk":
        return log_features(scheme.walk.embed(oracle, x, y, value_range, rng))
    return log_features(scheme.descent.embed(oracle.module, x, y, value_range, rng))


def _baseline(references: References, chosen: Tensor, use: NDArray[np.bool_]) -> Tensor:
    """Return the mean margins of non-members and members, so that the scorer can subtract difficulty."""
    index = chosen.numpy()
    margin, members = references.margin[use][:, index], references.members[use][:, index]
    columns = []
    for mask in (~members, members):
        total = np.maximum(mask.sum(0), 1)
        columns.append((margin * mask).sum(0) / total)
    return torch.from_numpy(np.stack(columns, 1)).float()


def _assumptions(evidence: Evidence) -> tuple[Assumption, ...]:
    if evidence.facts["fitted_on"] == "victim":
        blind, how = None, "the scorer was fitted on the victim, on other rows"
    else:
        blind, how = True, "the scorer was fitted on references trained on other random halves"
    return (
        Assumption(RANDOM_SPLIT, None, f"commitment {evidence.commitment[:16]}..."),
        Assumption("rows and scorer were fixed without looking at the draw of the rows tested", blind, how),
    )
