"""The published analysis of dataset inference, for comparison with published tables only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from assay.errors import InvalidInput
from assay.evidence.dataset_inference.features import flatten
from assay.result import Record
from assay.statistics.harmonic import harmonic_mean_aggregate
from assay.statistics.welch import welch_p_values

__all__ = ["PublishedAggregate", "published_aggregate", "published_features"]


@dataclass(frozen=True)
class PublishedAggregate(Record):
    """What the published procedure reports.

    Parameters
    ----------
    harmonic_mean
        Harmonic mean of the Welch p-values of all draws. Not a p-value.
    mean_difference
        Mean private score minus mean control score, averaged over the draws.
    rows
        Rows of each side in one draw (m).
    draws
        Number of draws.
    revealed
        Rows of each side that the draws were taken from, all of them queried.
    note
        Why this decides nothing.
    """

    harmonic_mean: float
    mean_difference: float
    rows: int
    draws: int
    revealed: int
    note: str = (
        "The harmonic mean of p-values is not a p-value: without any theft it falls below 0.05 more often "
        "than once in 20 times. It reports m rows a draw although the draws reveal all rows. "
        "Use the permutation test."
    )


def published_aggregate(
    private: ArrayLike, control: ArrayLike, rng: int, rows: int = 10, draws: int = 100
) -> PublishedAggregate:
    """Harmonic mean of Welch p-values over random subsets: NOT a p-value.

    Parameters
    ----------
    private, control
        One score per image, ``[n]`` and ``[m]``, larger for what looks private. As
        published, a draw takes the same positions on both sides, so that the longer side
        is cut to the length of the shorter one.
    rng
        Seed of the draws.
    rows
        Rows of each side in a draw, 2 to ``min(n, m)``.
    draws
        Number of draws.

    Raises
    ------
    InvalidInput
        If scores are not one per image, or one side has fewer than ``rows``.

    References
    ----------
    Maini, Yaghini and Papernot, "Dataset Inference: Ownership Resolution in Machine
    Learning", ICLR 2021, section 5 and its public code; Chen et al. 2024,
    "Sub-uniformity of harmonic mean p-values".

    Examples
    --------
    >>> same = np.arange(20.0)
    >>> found = published_aggregate(same, same, rng=0)
    >>> found.mean_difference, round(found.harmonic_mean, 2)
    (0.0, 0.5)
    """
    x, y = np.asarray(private, dtype=np.float64), np.asarray(control, dtype=np.float64)
    if x.ndim != 1 or y.ndim != 1:
        msg = f"one score per image is needed, got shapes {list(x.shape)} and {list(y.shape)}"
        raise InvalidInput(msg)
    revealed = min(len(x), len(y))
    if not 2 <= rows <= revealed or draws < 1:  # noqa: PLR2004 - a variance needs two
        msg = f"rows must lie in 2 .. {revealed} and draws be at least 1, got {rows} and {draws}"
        raise InvalidInput(msg)
    positions = np.tile(np.arange(revealed), (draws, 1))
    order = np.random.default_rng(rng).permuted(positions, axis=1)[:, :rows]
    x, y = x[order], y[order]
    return PublishedAggregate(
        harmonic_mean=float(harmonic_mean_aggregate(welch_p_values(x, y))),
        mean_difference=float((x.mean(1) - y.mean(1)).mean()),
        rows=rows,
        draws=draws,
        revealed=revealed,
    )


def published_features(distances: Tensor, reference: Tensor, *, ascending: bool) -> Tensor:
    """Scale distances as published, by norm instead of by column; one row per image.

    Parameters
    ----------
    distances
        ``[n, W, norms]`` of any model and side.
    reference
        ``[m, W, norms]``, the victim's distances of private images; their mean and
        standard deviation over images and walks are used for all models.
    ascending
        Sort along W: published for MinGD with all classes as targets, not for top-k
        targets nor blind walks.

    Returns
    -------
    Tensor
        float32 ``[n, W * norms]``.

    Raises
    ------
    InvalidInput
        If shapes do not fit.

    Examples
    --------
    >>> reference = torch.tensor([[[1.0], [3.0]]])
    >>> published_features(torch.tensor([[[4.0], [2.0]]]), reference, ascending=True)
    tensor([[0.0000, 1.4142]])
    """
    if distances.ndim != 3 or reference.ndim != 3 or distances.shape[2] != reference.shape[2]:  # noqa: PLR2004
        msg = (
            f"distances [n, W, norms] expected twice, got {list(distances.shape)} and {list(reference.shape)}"
        )
        raise InvalidInput(msg)
    mean, std = reference.mean((0, 1)), reference.std((0, 1))
    scaled = (distances - mean) / torch.where(std > 0, std, torch.ones_like(std))
    return flatten(scaled.sort(dim=1).values if ascending else scaled)
