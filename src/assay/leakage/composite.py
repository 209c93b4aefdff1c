"""Several estimators as one: the largest of them, or their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, cast

import numpy as np
import torch
from torch import Tensor

from assay.data.dataset import Dataset
from assay.errors import EvidenceTampered, InvalidInput
from assay.leakage.base import Estimator, Fitted, Method
from assay.model import Model
from assay.observers import Observer
from assay.privacy.orders import FloatArray
from assay.registry import create, register

__all__ = ["Composite"]

_KNOTS = 257
_LEAST_ROWS = 20


@register("composite", kind="leakage")
@dataclass(frozen=True, kw_only=True)
class Composite(Method):
    """Joins estimators, so that fooling one of them is not enough.

    Parameters
    ----------
    members
        Registered names, fitted with their defaults by `fit`; at least 2. `join` takes
        fitted estimators of any settings.
    mode
        ``"max"``: a query leaks what the most alarmed member says. ``"mean"``.
    calibrated
        Put every member on the scale of the first by the ranks of ordinary queries
        before they are joined. Without it they are joined as they are.

    Raises
    ------
    InvalidInput
        For fewer than 2 members or an unknown mode.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.data import load_data
    >>> from assay.nets import build
    >>> data, victim = load_data("iris"), TorchModel(build("mlp-4", (4,), 3))
    >>> both = Composite(members=("gap", "entropy")).fit(data, victim)
    >>> both.log_q(data.x[:4]).shape
    (4,)
    """

    name: ClassVar[str] = "composite"

    members: tuple[str, ...] = ("heads", "gap")
    mode: Literal["max", "mean"] = "max"
    calibrated: bool = True

    def __post_init__(self) -> None:
        if len(self.members) < 2 or self.name in self.members:  # noqa: PLR2004
            msg = f"a composite needs at least 2 members other than composites, got {self.members}"
            raise InvalidInput(msg)
        if self.mode not in {"max", "mean"}:
            msg = f"mode must be 'max' or 'mean', got {self.mode!r}"
            raise InvalidInput(msg)

    def fit(
        self,
        data: Dataset,
        victim: Model | None = None,
        *,
        rng: int = 0,
        observers: Sequence[Observer] = (),
        checkpoint: str | Path | None = None,
        traffic: Tensor | None = None,
    ) -> Estimator:
        """Fit every member with its defaults and join them. See `Method.fit` and `join`."""
        self.check(data, victim)
        fitted = []
        for name in self.members:
            method = cast("Method", create(name, "leakage"))
            folder = None if checkpoint is None else Path(checkpoint) / name
            fitted.append(method.fit(data, victim, rng=rng, observers=observers, checkpoint=folder))
        return self.join(fitted, data.x if traffic is None else traffic)

    def join(self, members: Sequence[Estimator], x: Tensor) -> Estimator:
        """Join fitted estimators; ``x`` are ordinary queries, at least 20, that set the common scale.

        Raises
        ------
        InvalidInput
            If the members are not those named, judge different models, or queries are few.
        """
        if tuple(m.name for m in members) != self.members:
            msg = f"the members must be {', '.join(self.members)}, got {', '.join(m.name for m in members)}"
            raise InvalidInput(msg)
        first = members[0]
        if any((m.input_shape, m.num_classes) != (first.input_shape, first.num_classes) for m in members):
            msg = "the members judge models of different inputs or classes"
            raise InvalidInput(msg)
        if len(x) < _LEAST_ROWS:
            msg = f"the common scale needs at least {_LEAST_ROWS} queries, got {len(x)}"
            raise InvalidInput(msg)
        ceiling = np.log1p(-1.0 / first.num_classes)
        tensors = {}
        if self.calibrated:
            for place, member in enumerate(members):
                lead, rank = _ranks(member.log_q(x), ceiling)
                tensors[f"lead-{place}"] = torch.from_numpy(lead)
                tensors[f"rank-{place}"] = torch.from_numpy(rank)
        return self.restore(
            Fitted(
                first.input_shape,
                first.num_classes,
                first.sigma,
                tensors,
                {"members": list(self.members), "rows": len(x)},
                members=tuple(members),
            )
        )

    def restore(self, fitted: Fitted) -> Estimator:
        """Return the composite of loaded members."""
        return _Composite(self, fitted)


class _Composite(Estimator):
    def __init__(self, method: Composite, fitted: Fitted) -> None:
        super().__init__(method, fitted)
        self._members, self._mode = fitted.members, method.mode
        self.reads_scores = any(m.reads_scores for m in fitted.members)
        self._scales: list[tuple[FloatArray, FloatArray]] = []
        if method.calibrated:
            for place in range(len(fitted.members)):
                lead, rank = (fitted.tensors[f"{n}-{place}"].double().numpy() for n in ("lead", "rank"))
                rising = len(lead) == len(rank) > 1 and bool(
                    np.all(np.diff(lead) > 0) & np.all(np.diff(rank) > 0)
                )
                if not rising:
                    msg = "the stored scales of the composite are not rising"
                    raise EvidenceTampered(msg)
                self._scales.append((lead, rank))

    def _measure(self, x: Tensor, scores: Tensor | None) -> FloatArray:
        values = np.stack([m.log_q(x, scores=scores) for m in self._members])
        join = np.max if self._mode == "max" else np.mean
        if not self._scales:
            return np.asarray(join(values, axis=0))
        ranks = np.stack(
            [
                np.interp(-np.sqrt(-v), lead, rank)
                for v, (lead, rank) in zip(values, self._scales, strict=True)
            ]
        )
        lead, rank = self._scales[0]
        return np.asarray(-(np.interp(join(ranks, axis=0), rank, lead) ** 2))


def _ranks(log_q: FloatArray, ceiling: float) -> tuple[FloatArray, FloatArray]:
    """Return knots of the distribution of -sqrt(-log q), both strictly rising.

    The last knot is the most that can leak, with rank 1, and the first one the least: so
    that queries outside all that was seen are still told apart.
    """
    values, counts = np.unique(-np.sqrt(-log_q), return_counts=True)
    rank = (np.cumsum(counts) - counts / 2) / counts.sum()
    if len(values) > _KNOTS:
        keep = np.unique(np.linspace(0, len(values) - 1, _KNOTS).round().astype(np.int64))
        values, rank = values[keep], rank[keep]
    low, high = min(-26.5, values[0] - 1.0), -np.sqrt(-ceiling)
    inside = values < high
    values = np.concatenate([[low], values[inside], [high]])
    return values, np.concatenate([[0.0], rank[inside], [1.0]])
