"""Which class a mark on one class should be answered with: close, but not already confused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets.soft_nearest_neighbours import (
    Distance,
    median_distance,
    soft_nearest_neighbour_loss,
)
from assay.nets.taps import activations, default_taps

__all__ = ["rank_targets"]

_SAMPLE = 100  # rows of each class: losses of pairs are compared, not estimated


def rank_targets(
    null: TorchModel,
    data: Dataset,
    *,
    layers: Sequence[str] | None = None,
    distance: Distance = "cosine",
    rng: np.random.Generator,
) -> list[list[int]]:
    """Rank, for every source class, the other classes as targets of a mark on it.

    Targets that a clean model answers to at least one row in ``classes`` of the source are
    left out, for independent models would answer them as well. The others are ordered by how
    far the two classes are mixed at the last tapped layer, the most mixed first: that is
    where little is needed to entangle them.

    Parameters
    ----------
    null
        Model of the task without marks.
    data
        Rows of every class.
    layers, distance
        The last of the layers is used; see `soft_nearest_neighbour_loss`.
    rng
        Draws the rows that are compared.

    Returns
    -------
    list of list of int
        For each class, in order; may be empty.

    Raises
    ------
    InvalidInput
        If the data are empty.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> from assay.nets import Recipe, build, train
    >>> network, data = build("mlp-16", (1, 8, 8), 10), digits()
    >>> _ = train(network, data, Recipe(epochs=5, optimizer="adam", lr=0.01))
    >>> ranked = rank_targets(TorchModel(network), data, rng=np.random.default_rng(0))
    >>> len(ranked), any(source in targets for source, targets in enumerate(ranked))
    (10, False)
    """
    if not len(data):
        msg = f"{data.name} is empty; targets cannot be ranked"
        raise InvalidInput(msg)
    layer = (tuple(layers) if layers else default_taps(null.module))[-1]
    samples: list[Tensor] = []
    for label in range(data.num_classes):
        rows = (data.y == label).nonzero().flatten()
        order = torch.from_numpy(rng.permutation(len(rows)))[:_SAMPLE]
        samples.append(data.x[rows[order]])
    answers = [null.labels(x) if len(x) else torch.zeros(0, dtype=torch.int64) for x in samples]
    seen = [activations(null.module, x, [layer])[layer].flatten(1) if len(x) else x for x in samples]
    ranked = []
    for source in range(data.num_classes):
        found = []
        for target in range(data.num_classes):
            if source == target or not len(seen[source]) or not len(seen[target]):
                continue
            confused = float((answers[source] == target).float().mean())
            if confused < 1 / data.num_classes:
                found.append((_mixed(seen[source], seen[target], distance), target))
        ranked.append([target for _, target in sorted(found, key=lambda pair: (-pair[0], pair[1]))])
    return ranked


def _mixed(first: Tensor, second: Tensor, distance: Distance) -> float:
    both = torch.cat([first, second])
    groups = (torch.arange(len(both)) >= len(first)).long()
    scale = max(median_distance(both, distance), 1e-6)
    return float(soft_nearest_neighbour_loss(both, groups, scale, distance=distance))
