"""One small network that learns what a slow estimator says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from assay.data.dataset import Dataset
from assay.data.pools import POOLS, synthesise
from assay.errors import EvidenceTampered, InvalidInput
from assay.leakage.base import Estimator, Fitted, Method
from assay.leakage.features import FeatureKind, Features, choose_features
from assay.leakage.teachers import TeacherEnsemble
from assay.model import Model
from assay.nets import Recipe, build, train
from assay.observers import Observer, Observers
from assay.privacy.orders import FloatArray
from assay.registry import register

__all__ = ["Distilled"]

_BATCH = 512
_HELD_OUT = 0.2
_LEAST_ROWS = 20


@register("distilled", kind="leakage")
@dataclass(frozen=True, kw_only=True)
class Distilled(Method):
    """A regression of another estimator's log q on the victim's features.

    Costs one small matrix product on top of the inference. It learns ``sqrt(-log q)``,
    which is nearly the lead of the winner over its rivals and spreads queries evenly,
    from the private rows and from synthesised queries of other distributions; a fifth of
    both is held out, and ``facts["rank_correlation"]`` is measured on it.

    Parameters
    ----------
    features
        See `LinearHeads`.
    hidden
        Width of the hidden layer, at least 1.
    epochs
        Passes over the rows, at least 1.
    rows
        Most rows that the slow estimator is asked about, at least 20.
    broaden
        Share of those rows that are synthesised, in [0, 0.9].
    teachers, architecture
        Of the `TeacherEnsemble` that is fitted when no ``reference`` is given.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.data import load_data
    >>> from assay.leakage import LinearHeads
    >>> data, victim = load_data("iris"), TorchModel(build("mlp-4", (4,), 3))
    >>> slow = LinearHeads(teachers=5, features="inputs").fit(data)
    >>> fast = Distilled(epochs=5).fit(data, victim, reference=slow)
    >>> fast.log_q(data.x[:4]).shape, fast.sigma == slow.sigma
    ((4,), True)
    """

    name: ClassVar[str] = "distilled"

    features: FeatureKind = "auto"
    hidden: int = 128
    epochs: int = 60
    rows: int = 20_000
    broaden: float = 0.5
    teachers: int = 50
    architecture: str | None = None

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.epochs < 1 or self.rows < _LEAST_ROWS:
            msg = f"hidden and epochs must be at least 1 and rows at least {_LEAST_ROWS}"
            raise InvalidInput(msg)
        if not 0 <= self.broaden <= 0.9:  # noqa: PLR2004
            msg = f"broaden must lie in [0, 0.9], got {self.broaden}"
            raise InvalidInput(msg)

    def fit(
        self,
        data: Dataset,
        victim: Model | None = None,
        *,
        rng: int = 0,
        observers: Sequence[Observer] = (),
        checkpoint: str | Path | None = None,
        reference: Estimator | None = None,
        traffic: Tensor | None = None,
    ) -> Estimator:
        """Learn ``reference``, or a new `TeacherEnsemble`. See `Method.fit`.

        Rows of ``traffic``, if given, are learned from in place of private rows: the
        victim is surer of what it was trained on than of anything it will be asked.
        """
        self.check(data, victim)
        kind = choose_features(self.features, victim)
        if reference is None:
            slow = TeacherEnsemble(teachers=self.teachers, architecture=self.architecture)
            reference = slow.fit(data, victim, rng=rng, observers=observers, checkpoint=checkpoint)
        if reference.input_shape != data.input_shape or reference.num_classes != data.num_classes:
            msg = f"the reference {reference.name} judges other inputs or classes than those of {data.name}"
            raise InvalidInput(msg)
        x = self._material(data, traffic, rng)
        if len(x) < _LEAST_ROWS:
            msg = f"distilling needs at least {_LEAST_ROWS} rows, got {len(x)}"
            raise InvalidInput(msg)
        read, watch = Features(kind), Observers(observers)
        watch.on_start("distilled", len(x))
        rows, lead = [], []
        for start in range(0, len(x), _BATCH):
            part = x[start : start + _BATCH]
            rows.append(read(part, victim))
            lead.append(np.sqrt(-reference.log_q(part)))
            watch.on_step("distilled", min(start + _BATCH, len(x)))
        features, wanted = torch.cat(rows), np.concatenate(lead)
        top = float(max(wanted.max(), 1e-6))
        share = torch.from_numpy(wanted / top).float()
        train_rows = round((1 - _HELD_OUT) * len(x))  # the material is in random order
        head = build(f"mlp-{self.hidden}", (features.shape[1],), 2, rng)
        train(
            head,
            _unlabelled(features[:train_rows]),
            Recipe(
                epochs=self.epochs,
                batch_size=min(128, max(8, train_rows // 20)),
                optimizer="adam",
                lr=3e-3,
                weight_decay=0.0,
                schedule="cosine",
                precision="fp32",
            ),
            # A share of 1 as a probability: cross-entropy fits its mean, and the answer stays inside.
            targets=torch.stack([share, 1 - share], 1)[:train_rows],
            rng=rng,
            observers=observers,
        )
        facts = {
            "features": kind,
            "reference": reference.digest,
            "reference_name": reference.name,
            "data": data.digest,
            "seed": rng,
            "rows": train_rows,
            "scale": top,
            "width": int(features.shape[1]),
        }
        with torch.no_grad():
            guess = torch.softmax(head(features[train_rows:]), 1)[:, 0].numpy()
        flat = np.ptp(wanted[train_rows:]) == 0 or np.ptp(guess) == 0
        facts["rank_correlation"] = (
            0.0 if flat else round(float(spearmanr(guess, wanted[train_rows:]).statistic), 6)
        )
        watch.on_end("distilled", {"rank_correlation": facts["rank_correlation"]})
        tensors = {name: value.detach() for name, value in head.state_dict().items()}
        used = victim if kind != "inputs" else None
        return self.restore(Fitted(data.input_shape, data.num_classes, reference.sigma, tensors, facts, used))

    def restore(self, fitted: Fitted) -> Estimator:
        """Return the estimator with the stored head."""
        return _Distilled(self, fitted)

    def _material(self, data: Dataset, traffic: Tensor | None, rng: int) -> Tensor:
        """Return own and synthesised rows in random order."""
        own = data.x if traffic is None else traffic
        order = np.random.default_rng([rng, 2])
        keep = min(len(own), max(1, round(self.rows * (1 - self.broaden))))
        chosen = own[torch.from_numpy(order.permutation(len(own))[:keep])]
        other = round(keep * self.broaden / (1 - self.broaden))
        like = Dataset(chosen, torch.zeros(len(chosen), dtype=torch.int64), data.classes, data.value_range)
        parts = [chosen]
        for place, kind in enumerate(POOLS):
            count = other // len(POOLS)
            if count:
                parts.append(synthesise(like, kind, count, rng=rng + place).x)
        x = torch.cat(parts)
        return x[torch.from_numpy(order.permutation(len(x)))]


class _Distilled(Estimator):
    def __init__(self, method: Distilled, fitted: Fitted) -> None:
        super().__init__(method, fitted)
        self._read = Features(fitted.facts["features"])
        self.reads_scores = self._read.reads_scores
        self.keeps_victim = self._read.needs_network
        self._top = float(fitted.facts["scale"])
        with torch.device("meta"):
            head = build(f"mlp-{method.hidden}", (int(fitted.facts["width"]),), 2)
        try:
            head.load_state_dict(dict(fitted.tensors), assign=True)
        except RuntimeError as error:
            msg = f"the stored head does not fit its settings: {error}"
            raise EvidenceTampered(msg) from error
        self._head = head.eval().requires_grad_(requires_grad=False)

    def _measure(self, x: Tensor, scores: Tensor | None) -> FloatArray:
        features = self._read(x, self.fitted.victim, scores)
        lead = self._top * torch.softmax(self._head(features).double(), 1)[:, 0]
        ceiling = float(np.log1p(-1.0 / self.num_classes))
        return np.asarray(np.minimum(-(lead.numpy() ** 2), ceiling))


def _unlabelled(features: Tensor) -> Dataset:
    labels = torch.zeros(len(features), dtype=torch.int64)
    return Dataset(features, labels, ("sure", "unsure"), (-np.inf, np.inf), "features")
