"""From distances to one row of features per image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, Self

import torch
from torch import Tensor

from assay.errors import InvalidInput

__all__ = ["Embedding", "Standardization", "check_features", "flatten", "log_features"]


class Embedding(Protocol):
    """What `log_features` reads: `WalkEmbedding` and `MarginEmbedding` both are such."""

    @property
    def distances(self) -> Tensor:
        """Distances, float32 ``[n, W, norms]``."""
        ...

    @property
    def censored(self) -> Tensor:
        """Distances that are lower bounds only, bool ``[n, W, norms]``."""
        ...

    @property
    def correct(self) -> Tensor | None:
        """Whether points are classified correctly, bool ``[n]``, if known."""
        ...

    @property
    def width(self) -> float:
        """Width of the value range."""
        ...


def flatten(distances: Tensor) -> Tensor:
    """Return ``[n, W * norms]``, one row per image.

    Parameters
    ----------
    distances
        ``[n, W, norms]``.

    Raises
    ------
    InvalidInput
        For any other number of axes.

    Notes
    -----
    Reversing all axes before the reshape, as the published notebooks do, fills each row
    with distances of many images; rows are then no independent observations, and images
    that trained the scorer return in the rows that test it.

    Examples
    --------
    >>> flatten(torch.arange(4.0).reshape(2, 1, 2))
    tensor([[0., 1.],
            [2., 3.]])
    """
    if distances.ndim != 3:  # noqa: PLR2004 - image, walk, norm
        msg = f"distances must have shape [n, W, norms], got {list(distances.shape)}"
        raise InvalidInput(msg)
    return distances.reshape(len(distances), -1)


def log_features(embedding: Embedding, offset: float = 1e-3) -> Tensor:
    """Return sorted log distances, the share of censored ones per norm, and the clean label's truth.

    Walks are exchangeable and target classes are named differently for every image, so
    the distances of one norm are sorted; the logarithm makes their spread comparable.

    Parameters
    ----------
    embedding
        Distances of ``n`` images.
    offset
        Added before the logarithm, in widths of the value range; > 0.

    Returns
    -------
    Tensor
        float32 ``[n, W * norms + norms + 1]``; without the last column if the clean
        label was not asked.

    Raises
    ------
    InvalidInput
        If the offset is not positive or a distance is negative or not finite.

    Examples
    --------
    >>> from assay.evidence.dataset_inference.blind_walk import WalkEmbedding
    >>> one = torch.tensor([[[0.999], [0.099]]])
    >>> log_features(WalkEmbedding(one, one, one > 0.5, one, torch.tensor([True]), ("l2",), 1.0))
    tensor([[-2.3026,  0.0000,  0.5000,  1.0000]])
    """
    if not offset > 0:
        msg = f"offset must be positive, got {offset}"
        raise InvalidInput(msg)
    distances = embedding.distances
    if not bool((torch.isfinite(distances) & (distances >= 0)).all()):
        msg = "distances must be finite and not negative; embed the points again"
        raise InvalidInput(msg)
    logs = torch.log(distances / embedding.width + offset).sort(dim=1).values
    parts = [flatten(logs), embedding.censored.float().mean(1)]
    if embedding.correct is not None:
        parts.append(embedding.correct.float().unsqueeze(1))
    return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class Standardization:
    """Subtract a column's mean and divide by its standard deviation, both of training rows.

    Parameters
    ----------
    mean, std
        float64 ``[p]``; ``std`` is 1 for columns that do not vary.

    Examples
    --------
    >>> Standardization.fit(torch.tensor([[0.0, 5.0], [2.0, 5.0]])).apply(torch.tensor([[1.0, 6.0]]))
    tensor([[0., 1.]], dtype=torch.float64)
    """

    mean: Tensor = field(repr=False)
    std: Tensor = field(repr=False)

    @classmethod
    def fit(cls, features: Tensor) -> Self:
        """Take mean and standard deviation (ddof 1) from training rows ``[n, p]``, n >= 2."""
        rows = features.double()
        std = rows.std(0)
        return cls(rows.mean(0), torch.where(std > 1e-9, std, torch.ones_like(std)))  # noqa: PLR2004 - rounding

    @classmethod
    def identity(cls, columns: int) -> Self:
        """Return the one that changes nothing."""
        return cls(torch.zeros(columns, dtype=torch.float64), torch.ones(columns, dtype=torch.float64))

    def apply(self, features: Tensor) -> Tensor:
        """Return standardised rows, float64 ``[n, p]``."""
        check_features(features, len(self.mean))
        return (features.double() - self.mean) / self.std


def check_features(features: Tensor, columns: int | None = None) -> None:
    """Raise `InvalidInput` unless features are finite floats ``[n, columns]``."""
    if not isinstance(features, Tensor) or features.ndim != 2 or not features.is_floating_point():  # noqa: PLR2004
        shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        msg = f"features must be a float tensor [n, p], got {shape}"
        raise InvalidInput(msg)
    if columns is not None and features.shape[1] != columns:
        msg = f"the scorer was fitted on {columns} features, got {features.shape[1]}; embed both alike"
        raise InvalidInput(msg)
    if not bool(torch.isfinite(features).all()):
        msg = "features contain NaN or infinity"
        raise InvalidInput(msg)
