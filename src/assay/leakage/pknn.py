"""Nearest neighbours as voters (private kNN): no teacher is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from assay.data.dataset import Dataset
from assay.errors import EvidenceTampered, InvalidInput
from assay.leakage.base import Estimator, Fitted, Method, check_ratio
from assay.leakage.cells import Cells, fit_centres
from assay.leakage.features import Features, choose_features
from assay.leakage.votes import VotingEstimator
from assay.model import Model
from assay.observers import Observer, Observers
from assay.registry import register

__all__ = ["NearestNeighbours"]

_BATCH = 512
_SAMPLE = 256
_PUBLISHED_RATIO = 28 / 300
_DOUBLE_LIMIT = 2**24  # numbers; above it float64 copies of the reference rows would fill the memory


@register("pknn", kind="leakage")
@dataclass(frozen=True, kw_only=True)
class NearestNeighbours(Method):
    """Leakage as disagreement among the private rows nearest to the query.

    The k nearest training rows, in the victim's log scores (or features), vote with
    their labels. One matrix product and a partial sort for each batch.

    Parameters
    ----------
    k
        Voters; at most the rows of an average class, unless forced.
    sigma
        Standard deviation of the noise on votes; None takes 28/300 of k as published.
    features
        ``"scores"`` (logarithms, as published), ``"embeddings"`` or ``"inputs"``.
    index
        ``"exact"`` compares a query with every private row; ``"cells"`` with those in the
        nearest cells, for millions of rows (needs faiss). How many of the true neighbours
        that finds on private rows is reported as ``recall``.
    cells, probes
        For ``"cells"``: how many there are (None: about ``4 sqrt(n)``), and how many are
        looked into.
    force
        Accept any k, and sigma/k outside 0.02 to 0.1.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    References
    ----------
    Zhu, Yu, Chandraker and Wang, "Private-kNN: Practical Differential Privacy for
    Computer Vision", CVPR 2020. Dziedzic et al., ICLR 2022, section 4 and appendix. Jegou,
    Douze and Schmid, "Product Quantization for Nearest Neighbor Search", PAMI 2011, section 4.

    Examples
    --------
    >>> from assay.data import load_data
    >>> data = load_data("iris")
    >>> estimator = NearestNeighbours(k=30, features="inputs").fit(data)
    >>> estimator.votes(data.x[:1]).tolist()
    [[30.0, 0.0, 0.0]]
    """

    name: ClassVar[str] = "pknn"

    k: int = 300
    sigma: float | None = None
    features: Literal["scores", "embeddings", "inputs"] = "scores"
    index: Literal["exact", "cells"] = "exact"
    cells: int | None = None
    probes: int = 64
    force: bool = False

    def __post_init__(self) -> None:
        check_ratio(self.noise, self.k, force=self.force)
        if self.features not in {"scores", "embeddings", "inputs"}:
            msg = f"features must be 'scores', 'embeddings' or 'inputs', got {self.features!r}"
            raise InvalidInput(msg)
        if self.index not in {"exact", "cells"} or self.probes < 1:
            msg = f"index must be 'exact' or 'cells' with at least 1 probe, got {self.index!r}, {self.probes}"
            raise InvalidInput(msg)

    @property
    def noise(self) -> float:
        """Standard deviation of the noise on votes."""
        return _PUBLISHED_RATIO * self.k if self.sigma is None else self.sigma

    def fit(
        self,
        data: Dataset,
        victim: Model | None = None,
        *,
        rng: int = 0,
        observers: Sequence[Observer] = (),
        checkpoint: str | Path | None = None,  # noqa: ARG002 - one pass over the data
    ) -> Estimator:
        """Read the features of every private row. See `Method.fit`."""
        self.check(data, victim)
        kind = choose_features(self.features, victim)
        fair = len(data) // data.num_classes
        if self.k > len(data) or (self.k > fair and not self.force):
            msg = (
                f"k = {self.k} neighbours are more than the {fair} rows of an average class of {data.name}, "
                f"so that every query would meet other classes; use k = {max(2, fair // 2)}"
            )
            raise InvalidInput(msg)
        read, watch = Features(kind), Observers(observers)
        watch.on_start("features", len(data))
        rows = []
        for x, _ in data.batches(_BATCH):
            rows.append(read(x, victim))
            watch.on_step("features", min(len(rows) * _BATCH, len(data)))
        watch.on_end("features")
        tensors = {"rows": torch.cat(rows), "labels": data.y.clone()}
        facts: dict[str, Any] = {"features": kind, "data": data.digest, "seed": rng, "rows": len(data)}
        if self.index == "cells":
            tensors["centres"] = fit_centres(tensors["rows"], self.cells, rng=rng)
        used = victim if kind != "inputs" else None
        fitted = Fitted(data.input_shape, data.num_classes, self.noise, tensors, facts, used)
        if self.index == "cells":
            chosen = np.random.default_rng([rng, 6]).choice(len(data), min(_SAMPLE, len(data)), replace=False)
            found = _Neighbours(self, fitted).recall(torch.from_numpy(np.sort(chosen)))
            fitted = replace(fitted, facts=facts | {"recall": round(found, 4)})
        return self.restore(fitted)

    def restore(self, fitted: Fitted) -> Estimator:
        """Return the estimator with stored rows."""
        return _Neighbours(self, fitted)


class _Neighbours(VotingEstimator):
    def __init__(self, method: NearestNeighbours, fitted: Fitted) -> None:
        super().__init__(method, fitted)
        self._read = Features(fitted.facts["features"])
        self.reads_scores = self._read.reads_scores
        self.keeps_victim = self._read.needs_network
        rows, labels = fitted.tensors["rows"], fitted.tensors["labels"]
        outside = len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= self.num_classes)
        if rows.ndim != 2 or labels.shape != rows.shape[:1] or len(rows) < method.k or outside:  # noqa: PLR2004
            msg = "the stored neighbours do not fit their labels, k or the classes"
            raise EvidenceTampered(msg)
        # Confident scores lie so close together that float32 would cancel their distances away.
        dtype = torch.float64 if rows.numel() <= _DOUBLE_LIMIT else torch.float32
        self._k, self._labels = method.k, labels
        self._centre = rows.to(dtype).mean(0)
        self._rows = rows.to(dtype) - self._centre
        self._lengths = (self._rows**2).sum(1)
        self._cells = None
        if method.index == "cells":
            centres = fitted.tensors.get("centres")
            if centres is None or centres.ndim != 2 or centres.shape[1] != rows.shape[1]:  # noqa: PLR2004
                msg = "the stored cells do not fit the stored neighbours"
                raise EvidenceTampered(msg)
            self._cells = Cells(self._rows, centres - self._centre.to(centres.dtype), method.probes)

    def _votes(self, x: Tensor, scores: Tensor | None) -> Tensor:
        query = self._read(x, self.fitted.victim, scores).to(self._rows.dtype) - self._centre
        nearest = self._exact(query) if self._cells is None else self._near(self._cells, query)
        votes = torch.zeros(len(x), self.num_classes, dtype=torch.float64)
        return votes.scatter_add_(1, self._labels[nearest], torch.ones(nearest.shape, dtype=torch.float64))

    def _exact(self, query: Tensor) -> Tensor:
        # The query's own length is the same for all rows and does not change their order.
        distance = torch.addmm(self._lengths, query, self._rows.T, alpha=-2)
        return distance.topk(self._k, dim=1, largest=False, sorted=False).indices

    def _near(self, cells: Cells, query: Tensor) -> Tensor:
        found = cells.nearest(query, self._k)
        few = (found < 0).any(1)
        if bool(few.any()):
            # Cells far from everything may hold fewer rows than voters are needed.
            found[few] = self._exact(query[few])
        return found

    def recall(self, places: Tensor) -> float:
        """Return the share of the nearest rows that cells find, for some of the rows themselves."""
        if self._cells is None:
            return 1.0
        query = self._rows[places]
        pairs = zip(self._exact(query).tolist(), self._near(self._cells, query).tolist(), strict=True)
        return sum(len(set(a) & set(b)) for a, b in pairs) / (len(places) * self._k)
