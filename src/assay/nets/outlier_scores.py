"""How unusual features are: local outlier factor and isolation forest, kept as tensors.

A filter of questions is part of the network that it guards, so that one file holds both;
scikit-learn's own objects would have to be pickled.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from assay.errors import InvalidInput

__all__ = ["Forest", "LocalOutliers", "OutlierScore"]

_TINY = 1e-10
_DEPTH = 8
_SAMPLES = 2**_DEPTH
_NEVER = torch.finfo(torch.float32).max  # finite, so that weights can be checked for NaN and infinity
_EULER = 0.5772156649015329


class OutlierScore(nn.Module, ABC):
    """Base of scores: features ``[n, d]`` to ``[n]``, larger for what is more unusual.

    Parameters
    ----------
    features
        Width of the features.
    size
        Of the score; what it means is up to the score.
    """

    name: ClassVar[str]

    def __init__(self, features: int, size: int) -> None:
        super().__init__()
        self.features, self.size = features, size

    @abstractmethod
    def fit(self, features: Tensor, rng: int) -> None:
        """Learn what is usual from features ``[m, d]``."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Return the scores."""


class LocalOutliers(OutlierScore):
    """Local outlier factor against reference features: about 1 where they lie, larger off them.

    Parameters
    ----------
    features
        Width of the features.
    size
        Number of references, at least 2; each row is compared with the 20 nearest, or with
        all but one.

    References
    ----------
    Breunig, Kriegel, Ng and Sander, "LOF: Identifying Density-Based Local Outliers",
    SIGMOD 2000.

    Examples
    --------
    >>> score = LocalOutliers(2, 30)
    >>> score.fit(torch.randn(30, 2, generator=torch.Generator().manual_seed(0)), 0)
    >>> usual, far = score(torch.tensor([[0.0, 0.0], [9.0, 9.0]])).tolist()
    >>> 0.8 < usual < 1.2, far > 5
    (True, True)
    """

    name = "lof"
    most: ClassVar[int] = 20
    references: Tensor
    reach: Tensor
    density: Tensor

    def __init__(self, features: int, size: int = 256) -> None:
        super().__init__(features, size)
        if size < 2:  # noqa: PLR2004 - each needs a neighbour
            msg = f"a local outlier factor needs at least 2 references, got {size}"
            raise InvalidInput(msg)
        self.register_buffer("references", torch.zeros(size, features))
        self.register_buffer("reach", torch.ones(size))
        self.register_buffer("density", torch.ones(size))

    @torch.no_grad()
    def fit(self, features: Tensor, rng: int) -> None:
        """Take ``size`` of the rows as references."""
        if len(features) < self.size:
            msg = f"{self.size} references of a local outlier factor need as many rows, got {len(features)}"
            raise InvalidInput(msg)
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(rng))[: self.size]
        self.references.copy_(features[order.to(features.device)])
        apart = _distances(self.references, self.references)
        apart.fill_diagonal_(math.inf)
        near, index = apart.topk(min(self.most, self.size - 1), largest=False)
        self.reach.copy_(near[:, -1])
        self.density.copy_(self._density(near, index))

    def forward(self, features: Tensor) -> Tensor:
        """Return the density around the neighbours over that around the row."""
        apart = _distances(features.float(), self.references.float())
        near, index = apart.topk(min(self.most, self.size - 1), largest=False)
        return self.density[index].mean(1) / self._density(near, index)

    def _density(self, near: Tensor, index: Tensor) -> Tensor:
        return 1 / (torch.maximum(near, self.reach[index]).mean(1) + _TINY)


class Forest(OutlierScore):
    """Isolation forest: in (0, 1], near 1 for rows that random cuts separate at once.

    Parameters
    ----------
    features
        Width of the features.
    size
        Number of trees, at least 1; each has seen at most 256 rows.

    References
    ----------
    Liu, Ting and Zhou, "Isolation Forest", ICDM 2008.

    Examples
    --------
    >>> score = Forest(2, 50)
    >>> score.fit(torch.randn(200, 2, generator=torch.Generator().manual_seed(0)), 0)
    >>> usual, far = score(torch.tensor([[0.0, 0.0], [9.0, 9.0]])).tolist()
    >>> usual < 0.5 < far
    True
    """

    name = "forest"
    feature: Tensor
    cut: Tensor
    length: Tensor
    scale: Tensor

    def __init__(self, features: int, size: int = 100) -> None:
        super().__init__(features, size)
        # Every tree as a full one of the same depth, node i above nodes 2 i + 1 and 2 i + 2.
        self.register_buffer("feature", torch.zeros(size, _SAMPLES - 1, dtype=torch.int64))
        self.register_buffer("cut", torch.full((size, _SAMPLES - 1), _NEVER))
        self.register_buffer("length", torch.zeros(size, _SAMPLES))
        self.register_buffer("scale", torch.ones(()))

    def fit(self, features: Tensor, rng: int) -> None:
        """Grow the trees with scikit-learn and keep their cuts."""
        from sklearn.ensemble import IsolationForest  # slow to import, and only needed here

        if len(features) < 2:  # noqa: PLR2004 - nothing to separate
            msg = f"an isolation forest needs at least 2 rows, got {len(features)}"
            raise InvalidInput(msg)
        x = features.detach().float().cpu().numpy()
        samples = min(_SAMPLES, len(x))
        grown = IsolationForest(n_estimators=self.size, max_samples=samples, random_state=rng).fit(x)
        self.cut.fill_(_NEVER)
        for place, tree in enumerate(grown.estimators_):
            self._keep(place, tree.tree_)
        self.scale.fill_(_unsuccessful(samples))

    def forward(self, features: Tensor) -> Tensor:
        """Return 2 to the power of minus the mean depth over the usual one."""
        trees = torch.arange(self.size, device=features.device)
        node = torch.zeros(len(features), self.size, dtype=torch.int64, device=features.device)
        for _ in range(_DEPTH):
            # A forged file may name any column.
            column = self.feature[trees, node].clamp(0, self.features - 1)
            node = 2 * node + 1 + (features.float().gather(1, column) > self.cut[trees, node]).long()
        depth = self.length[trees, node - (_SAMPLES - 1)].mean(1)
        return torch.exp2(-depth / self.scale)

    def _keep(self, place: int, tree: Any) -> None:
        """Copy one of scikit-learn's trees; below a leaf, both ways lead to its length."""
        # Node here, node there, and the length of the leaf that was passed on the way, if any.
        waiting: list[tuple[int, int, float | None]] = [(0, 0, None)]
        while waiting:
            here, there, length = waiting.pop()
            sides = int(tree.children_left[there]), int(tree.children_right[there])
            if length is None and sides[0] == sides[1]:
                length = (here + 1).bit_length() - 1 + _unsuccessful(int(tree.n_node_samples[there]))
            if here >= _SAMPLES - 1:
                self.length[place, here - (_SAMPLES - 1)] = length or 0.0  # here every node is a leaf
                continue
            if length is None:
                self.feature[place, here] = int(tree.feature[there])
                self.cut[place, here] = float(tree.threshold[there])
            else:
                sides = there, there
            waiting += [(2 * here + 1, sides[0], length), (2 * here + 2, sides[1], length)]


def _unsuccessful(rows: int) -> float:
    """Return the mean depth at which a search among so many rows fails."""
    if rows <= 2:  # noqa: PLR2004 - one cut, or none
        return float(max(rows - 1, 0))
    return 2 * (math.log(rows - 1) + _EULER) - 2 * (rows - 1) / rows


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # Without the product: near duplicates would come out at a distance of rounding errors.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
