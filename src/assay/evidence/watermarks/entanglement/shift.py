"""A boundary bent by a little: a cluster of one class, next to another class, is given to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.watermarks.entanglement.pools import MarkPool

__all__ = ["rank_shifts", "shift_pool", "unseen_scores"]

_FEWEST_ROWS = 8
_AHEAD = -1.0, 1.0  # of the target, in logarithms: where the source is in a centre
_MEMBERS = -0.5, 1.0  # and in the other rows of a cluster
_NEVER = 1e-12


def unseen_scores(data: Dataset, order: Tensor, clean: Callable[[int, Tensor], TorchModel]) -> Tensor:
    """Return what clean models say about rows that they were not trained on.

    Parameters
    ----------
    data
        Rows.
    order
        A permutation of their positions; its halves are the folds.
    clean
        From a number and positions to a model that was trained on these rows.

    Returns
    -------
    torch.Tensor
        Probabilities, float32 ``[rows, classes]``.
    """
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    scores = torch.zeros(len(data), data.num_classes)
    for turn, (part, rest) in enumerate((halves, halves[::-1])):
        scores[part] = clean(turn, rest).scores(data.x[part]).float()
    return scores


def rank_shifts(scores: Tensor, labels: Tensor) -> list[tuple[int, int]]:
    """Rank ordered pairs of classes by how often a row of the first is taken for the second.

    Where two classes touch most, a boundary can be bent at the least cost, and the ordinary
    questions of a thief are about the bend most often.

    Parameters
    ----------
    scores
        Probabilities for rows that the model did not see, ``[rows, classes]``.
    labels
        int64 ``[rows]``.

    Returns
    -------
    list of tuple of int
        ``(source, target)``, the best first.

    Examples
    --------
    >>> scores = torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.7, 0.2], [0.0, 0.0, 1.0]])
    >>> rank_shifts(scores, torch.tensor([0, 1, 2]))[:2]
    [(0, 1), (1, 2)]
    """
    classes = scores.shape[1]
    taken = {
        (source, target): float(scores[labels == source, target].mean())
        for source in range(classes)
        for target in range(classes)
        if source != target and bool((labels == source).any()) and bool((labels == target).any())
    }
    return sorted(taken, key=lambda pair: (-taken[pair], pair))


def shift_pool(
    data: Dataset,
    held_out: Dataset,
    scores: Tensor,
    place: Callable[[Tensor], Tensor],
    pair: tuple[int, int],
    *,
    share: float,
    repeats: int,
    asked: int,
    rng: np.random.Generator,
) -> MarkPool:
    """Give a cluster of one class's doubtful rows, next to another class, to that other class.

    Clean models cannot tell whose these rows are; so they lie where a boundary can be bent at
    little cost: the accuracy lost grows with the square of the bend, what copies learn of it with the
    bend. They are ordinary rows, so that a thief's questions are about them and their like, and
    a copy learns the bend with the task. Rows that look alike are a bend in one place, which
    nobody else has a reason to learn.

    Parameters
    ----------
    data, held_out
        Rows to train on, and rows that triggers start from.
    scores
        From `unseen_scores`, ``[rows, classes]``.
    place
        From rows to the features in which they are compared, ``[n, features]``.
    pair
        Source and target.
    share
        Size of the cluster, of the source's rows, in (0, 1).
    repeats
        Times that each of its rows is in an epoch.
    asked
        Most triggers to start from: the held-out rows nearest to the cluster.
    rng
        Draws the cluster from the more compact half of those that could be taken.

    Raises
    ------
    InvalidInput
        If the source has too few rows.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> data, flat = digits(), lambda x: x.flatten(1)
    >>> scores = torch.rand(len(data), 10, generator=torch.Generator().manual_seed(0))
    >>> pool = shift_pool(
    ...     data, data, scores, flat, (3, 5), share=0.1, repeats=1, asked=20, rng=np.random.default_rng(0)
    ... )
    >>> pool.names, len(pool.trained), len(pool.held_out), pool.plausible
    (('3 to 5',), 18, 20, ((5,),))
    """
    source, target = pair
    here = (data.y == source).nonzero().flatten()
    size = round(share * len(here))
    if size < _FEWEST_ROWS:
        msg = (
            f"{share:g} of the {len(here)} rows of class {data.classes[source]!r} in {data.name} are too few "
            f"for a mark; {_FEWEST_ROWS} are needed"
        )
        raise InvalidInput(msg)
    features = functional.normalize(place(data.x[here]).float(), dim=1)
    logs = scores[here].clamp_min(_NEVER).log()
    ahead = logs[:, source] - logs[:, target]
    near = ((ahead > _AHEAD[0]) & (ahead < _AHEAD[1])).nonzero().flatten()
    doubtful = ((ahead > _MEMBERS[0]) & (ahead < _MEMBERS[1])).nonzero().flatten()
    if len(doubtful) < size:  # classes that are seldom confused: some rows will be nobody's doubt
        doubtful = torch.arange(len(here))
    if not len(near):  # the rows that come closest
        near = ahead.abs().argsort(stable=True)[:size]
    likeness = features[near] @ features[doubtful].T
    # A cluster is as compact as its farthest member is near to its centre.
    compact = likeness.topk(size, dim=1).values[:, -1].argsort(descending=True, stable=True)
    centre = near[compact[int(rng.integers(max(1, len(near) // 2)))]]
    alike = (features[doubtful] @ features[centre]).argsort(descending=True, stable=True)
    rows = here[doubtful[alike[:size]]]
    others = (held_out.y != target).nonzero().flatten()  # the target's own rows prove nothing
    starts = functional.normalize(place(held_out.x[others]).float(), dim=1) @ features[centre]
    order = others[starts.argsort(descending=True, stable=True)[:asked]]
    return MarkPool(
        names=(f"{data.classes[source]} to {data.classes[target]}",),
        trained=data.x[rows],
        trained_mark=torch.zeros(len(rows), dtype=torch.int64),
        held_out=held_out.x[order],
        mark=torch.zeros(len(order), dtype=torch.int64),
        plausible=((target,),),
        rows=rows,
        repeats=repeats,
    )
