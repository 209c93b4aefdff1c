"""Linear teachers on the victim's features: the fast ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from assay.data.dataset import Dataset
from assay.errors import EvidenceTampered, InvalidInput
from assay.leakage.base import Estimator, Fitted, Method, check_ratio
from assay.leakage.compare import rank_agreement
from assay.leakage.features import FeatureKind, Features, choose_features
from assay.leakage.logistic import fit_logistic
from assay.leakage.parts import disjoint_parts
from assay.leakage.scale import RATIO
from assay.leakage.teachers import measured_accuracy, tested_rows
from assay.leakage.votes import VotingEstimator, tally
from assay.model import Model
from assay.observers import Observer, Observers
from assay.registry import register

__all__ = ["LinearHeads"]

_BATCH = 512
_ROWS_EACH, _FEWEST, _MOST = 40, 10, 250


@register("heads", kind="leakage")
@dataclass(frozen=True, kw_only=True)
class LinearHeads(Method):
    """Teachers that share the victim's features: one logistic regression for each part of the data.

    The whole ensemble is one matrix product on top of an inference that the server runs
    anyway. The features were trained on all rows, so that the teachers are not disjoint
    as those of PATE are; what is kept is the ranking of queries, see `rank_agreement`.

    Parameters
    ----------
    teachers
        Number of teachers T, at least 2; None takes one for every 40 rows, from 10 to 250.
    features
        ``"embeddings"``, ``"scores"`` (their logarithms), ``"both"``, ``"inputs"`` (no
        victim needed) or ``"auto"``: the first of embeddings, scores and inputs there is.
    l2
        Penalty on the weights against the summed loss, > 0.
    steps
        Most gradient steps.
    sigma, votes, force
        See `TeacherEnsemble`. Soft votes are the default here: heads on good features are
        so sure that most hard votes are unanimous.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    Examples
    --------
    >>> from assay.data import load_data
    >>> data = load_data("iris")
    >>> heads = LinearHeads(teachers=5, features="inputs").fit(data)
    >>> heads.log_q(data.x[:4]).shape, len(heads.facts["accuracy"])
    ((4,), 5)
    """

    name: ClassVar[str] = "heads"

    teachers: int | None = None
    features: FeatureKind = "auto"
    l2: float = 1.0
    steps: int = 500
    sigma: float | None = None
    votes: Literal["hard", "soft"] = "soft"
    force: bool = False

    def __post_init__(self) -> None:
        if self.teachers is not None:
            self.noise_for(self.teachers)
        if self.votes not in {"hard", "soft"}:
            msg = f"votes must be 'hard' or 'soft', got {self.votes!r}"
            raise InvalidInput(msg)
        if not 0 < self.l2 < np.inf or self.steps < 1:
            msg = f"l2 must be above 0 and steps at least 1, got {self.l2} and {self.steps}"
            raise InvalidInput(msg)

    def noise_for(self, teachers: int) -> float:
        """Return the standard deviation of the noise on votes; raise `InvalidInput` if it does not suit."""
        sigma = RATIO * teachers if self.sigma is None else self.sigma
        check_ratio(sigma, teachers, force=self.force)
        return sigma

    def fit(
        self,
        data: Dataset,
        victim: Model | None = None,
        *,
        rng: int = 0,
        observers: Sequence[Observer] = (),
        checkpoint: str | Path | None = None,  # noqa: ARG002 - a fit takes seconds
        reference: Estimator | None = None,
        traffic: Tensor | None = None,
    ) -> Estimator:
        """Fit all heads at once. See `Method.fit`.

        With ``reference`` (the full ensemble) and ``traffic`` (queries of both kinds that
        nobody was trained on), ``facts["rank_correlation"]`` says how well the heads keep
        its ranking.
        """
        self.check(data, victim)
        kind = choose_features(self.features, victim)
        count = self.teachers or min(max(len(data) // _ROWS_EACH, _FEWEST), _MOST)
        sigma = self.noise_for(count)
        parts = disjoint_parts(data, count, rng)
        read, watch = Features(kind), Observers(observers)
        watch.on_start("features", len(data))
        rows = []
        for x, _ in data.batches(_BATCH):
            rows.append(read(x, victim))
            watch.on_step("features", min(len(rows) * _BATCH, len(data)))
        features = torch.cat(rows)
        mean, scale = features.mean(0), features.std(0)
        scale = torch.where(scale > 1e-6, scale, torch.ones_like(scale))  # noqa: PLR2004 - constant columns
        if kind == "inputs":  # one scale for all: pixels of the rim would otherwise be blown up
            scale = torch.full_like(scale, float(features.std().clamp_min(1e-6)))
        features = (features - mean) / scale
        weight, bias = fit_logistic(features, data.y, parts, data.num_classes, l2=self.l2, steps=self.steps)
        tested = tested_rows(len(data), rng)
        answers = _Product(weight, bias)(features[tested]).argmax(1).T
        accuracy = [
            measured_accuracy(a, data.y[tested], tested, part) for a, part in zip(answers, parts, strict=True)
        ]
        watch.on_end("features", {"accuracy": float(np.mean(accuracy))})
        facts = {
            "features": kind,
            "teachers": count,
            "data": data.digest,
            "seed": rng,
            "rows": [len(part) for part in parts],
            "accuracy": accuracy,
            "mean_accuracy": float(np.mean(accuracy)),
        }
        tensors = {"weight": weight, "bias": bias, "mean": mean, "scale": scale}
        used = victim if kind != "inputs" else None
        shape = (data.input_shape, data.num_classes, sigma)
        fitted = self.restore(Fitted(*shape, tensors, facts, used))
        if reference is None or traffic is None:
            return fitted
        facts["rank_correlation"] = round(rank_agreement(fitted, reference, traffic), 6)
        return self.restore(Fitted(*shape, tensors, facts, used))

    def restore(self, fitted: Fitted) -> Estimator:
        """Return the ensemble with stored weights."""
        return _Heads(self, fitted)


class _Heads(VotingEstimator):
    def __init__(self, method: LinearHeads, fitted: Fitted) -> None:
        super().__init__(method, fitted)
        self._read = Features(fitted.facts["features"])
        self.reads_scores = self._read.reads_scores
        self.keeps_victim = self._read.needs_network
        self._soft = method.votes == "soft"
        weight, bias = fitted.tensors["weight"], fitted.tensors["bias"]
        self._mean, self._scale = fitted.tensors["mean"], fitted.tensors["scale"]
        width = len(self._mean)
        if (
            weight.shape != (int(fitted.facts["teachers"]), width, self.num_classes)
            or bias.shape != weight.shape[::2]
        ):
            msg = "the stored heads do not fit the number of teachers, features and classes"
            raise EvidenceTampered(msg)
        self._product = _Product(weight, bias)

    def _votes(self, x: Tensor, scores: Tensor | None) -> Tensor:
        features = (self._read(x, self.fitted.victim, scores) - self._mean) / self._scale
        return tally(self._product(features), soft=self._soft)


class _Product:
    """All heads as one matrix product, ``[n, d]`` to ``[n, classes, teachers]``."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        teachers, width, classes = weight.shape
        self._split = (classes, teachers)
        self._weight = weight.permute(1, 2, 0).reshape(width, classes * teachers).contiguous()
        self._bias = bias.T.reshape(-1)

    def __call__(self, features: Tensor) -> Tensor:
        logits = torch.addmm(self._bias, features, self._weight)
        return logits.view(len(features), *self._split)
