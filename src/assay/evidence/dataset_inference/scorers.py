"""Scorers: one number per image, larger for images that look as if the model had trained on them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.errors import InvalidInput
from assay.evidence.dataset_inference.features import Standardization, check_features

__all__ = [
    "FittedScorer",
    "LinearScorer",
    "NetworkScorer",
    "PaperRegressor",
    "RidgeLogistic",
    "Scorer",
    "cross_fit",
    "load_scorer",
]


class FittedScorer(Protocol):
    """A scorer with its parameters, all of them plain tensors."""

    def score(self, features: Tensor) -> NDArray[np.float64]:
        """Return float64 ``[n]``, larger for rows that look more private."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what `load_scorer` makes the same scorer from."""
        ...


class Scorer(Protocol):
    """Hyperparameters of a scorer."""

    def fit(self, features: Tensor, is_private: Tensor, rng: int) -> FittedScorer:
        """Fit on rows ``[n, p]`` with their sides, bool ``[n]``."""
        ...


@dataclass(frozen=True)
class LinearScorer:
    """Log-odds that are linear in standardised features.

    Parameters
    ----------
    mean, std, weight
        float64 ``[p]``.
    bias
        float64 ``[1]``.
    """

    mean: Tensor = field(repr=False)
    std: Tensor = field(repr=False)
    weight: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)

    def score(self, features: Tensor) -> NDArray[np.float64]:
        """Return the log-odds of "private", float64 ``[n]``."""
        return (Standardization(self.mean, self.std).apply(features) @ self.weight + self.bias).numpy()

    def state(self) -> dict[str, Tensor]:
        """Return the parameters by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


@dataclass(frozen=True)
class NetworkScorer:
    """One hidden layer of rectifiers and a hyperbolic tangent.

    Parameters
    ----------
    mean, std
        float64 ``[p]``.
    hidden_weight, hidden_bias, output_weight, output_bias
        float32, ``[h, p]``, ``[h]``, ``[1, h]``, ``[1]``.
    """

    mean: Tensor = field(repr=False)
    std: Tensor = field(repr=False)
    hidden_weight: Tensor = field(repr=False)
    hidden_bias: Tensor = field(repr=False)
    output_weight: Tensor = field(repr=False)
    output_bias: Tensor = field(repr=False)

    def score(self, features: Tensor) -> NDArray[np.float64]:
        """Return values in [-1, 1], float64 ``[n]``."""
        rows = Standardization(self.mean, self.std).apply(features).float()
        layers = (self.hidden_weight, self.hidden_bias, self.output_weight, self.output_bias)
        return -_regress(rows, *layers).double().numpy()  # published: low looks private

    def state(self) -> dict[str, Tensor]:
        """Return the parameters by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


@dataclass(frozen=True)
class RidgeLogistic:
    """Logistic regression with an L2 penalty on standardised features: the default.

    Parameters
    ----------
    penalty
        Weight of half the squared norm against the summed loss; > 0.

    Examples
    --------
    >>> features = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> fitted = RidgeLogistic().fit(features, torch.tensor([False, False, True, True]), rng=0)
    >>> scores = fitted.score(features)
    >>> bool(np.all(np.diff(scores) > 0)), bool(abs(scores.sum()) < 1e-4)
    (True, True)
    """

    penalty: float = 1.0

    def __post_init__(self) -> None:
        if not (self.penalty > 0 and math.isfinite(self.penalty)):
            msg = f"penalty must be positive, got {self.penalty}"
            raise InvalidInput(msg)

    def fit(self, features: Tensor, is_private: Tensor, rng: int) -> LinearScorer:  # noqa: ARG002 - convex: nothing is drawn
        """Fit on rows ``[n, p]``, at least 2 of each side.

        Raises
        ------
        InvalidInput
            If features or sides are malformed.
        """
        from sklearn.linear_model import LogisticRegression

        check_sides(features, is_private)
        scale = Standardization.fit(features)
        model = LogisticRegression(C=1.0 / self.penalty, max_iter=5000)
        model.fit(scale.apply(features).numpy(), is_private.numpy())
        weight, bias = torch.from_numpy(model.coef_[0].copy()), torch.from_numpy(model.intercept_.copy())
        return LinearScorer(scale.mean, scale.std, weight, bias)


@dataclass(frozen=True)
class PaperRegressor:
    """The published confidence regressor: a small network with a loss linear in its output.

    Parameters
    ----------
    hidden
        Width of the hidden layer.
    steps
        Full-batch gradient steps.
    lr
        Learning rate, without momentum.
    standardize
        Standardise each column with the training rows. The published analysis scales by
        norm instead (see `assay.evidence.dataset_inference.paper_compat`); give False
        with features that are scaled already.

    References
    ----------
    Maini, Yaghini and Papernot, "Dataset Inference: Ownership Resolution in Machine
    Learning", ICLR 2021, section 5 (confidence regressor).

    Examples
    --------
    >>> features = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> fitted = PaperRegressor(steps=200).fit(features, torch.tensor([False, False, True, True]), rng=0)
    >>> np.sign(fitted.score(features))
    array([-1., -1.,  1.,  1.])
    """

    hidden: int = 100
    steps: int = 1000
    lr: float = 0.1
    standardize: bool = True

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.steps < 1 or not self.lr > 0:
            msg = f"hidden, steps and lr must be positive, got {self.hidden}, {self.steps} and {self.lr}"
            raise InvalidInput(msg)

    def fit(self, features: Tensor, is_private: Tensor, rng: int) -> NetworkScorer:
        """Fit on rows ``[n, p]``, at least 2 of each side; ``rng`` seeds the initial weights.

        Raises
        ------
        InvalidInput
            If features or sides are malformed.
        """
        check_sides(features, is_private)
        columns = features.shape[1]
        scale = Standardization.fit(features) if self.standardize else Standardization.identity(columns)
        rows = scale.apply(features).float()
        # Private rows pull the output down, control rows up.
        sign = torch.where(is_private, -1.0, 1.0) / len(rows)
        generator = torch.Generator().manual_seed(rng)
        layers = [
            (torch.rand(shape, generator=generator) * 2 - 1).div_(math.sqrt(inputs)).requires_grad_()
            for shape, inputs in (
                ((self.hidden, columns), columns),
                ((self.hidden,), columns),
                ((1, self.hidden), self.hidden),
                ((1,), self.hidden),
            )
        ]
        with torch.enable_grad():
            for _ in range(self.steps):
                loss = -(sign @ _regress(rows, *layers))
                for layer, slope in zip(layers, torch.autograd.grad(loss, layers), strict=True):
                    layer.data.sub_(slope, alpha=self.lr)
        return NetworkScorer(scale.mean, scale.std, *(layer.detach() for layer in layers))


def _regress(rows: Tensor, weight: Tensor, bias: Tensor, output: Tensor, offset: Tensor) -> Tensor:
    """Return the network's output, ``[n]``."""
    return torch.tanh(torch.relu(rows @ weight.T + bias) @ output[0] + offset)


def check_sides(features: Tensor, is_private: Tensor) -> None:
    """Raise `InvalidInput` unless there are features and sides of at least 2 rows each side."""
    check_features(features)
    if (
        not isinstance(is_private, Tensor)
        or is_private.dtype != torch.bool
        or is_private.shape != features.shape[:1]
    ):
        msg = f"is_private must be a bool tensor [{len(features)}], one side per row of features"
        raise InvalidInput(msg)
    private = int(is_private.sum())
    if min(private, len(features) - private) < 2:  # noqa: PLR2004 - one row has no spread
        msg = f"a scorer needs 2 rows of each side or more, got {private} private of {len(features)}"
        raise InvalidInput(msg)


def load_scorer(state: dict[str, Tensor]) -> LinearScorer | NetworkScorer:
    """Rebuild a fitted scorer from its ``state()``.

    Raises
    ------
    InvalidInput
        If the tensors belong to no known scorer or do not fit each other.

    Examples
    --------
    >>> zero = torch.zeros(2, dtype=torch.float64)
    >>> scorer = LinearScorer(zero, zero + 1, zero + 2, zero[:1])
    >>> load_scorer(scorer.state()).score(torch.ones(1, 2))
    array([4.])
    """
    for kind in (LinearScorer, NetworkScorer):
        if set(state) == {f.name for f in dataclasses.fields(kind)}:
            scorer = kind(**state)
            break
    else:
        msg = f"no scorer has the parameters {', '.join(sorted(state)) or '(none)'}"
        raise InvalidInput(msg)
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        msg = "the scorer's parameters are not finite"
        raise InvalidInput(msg)
    try:
        scorer.score(torch.zeros(1, len(scorer.mean)))
    except (RuntimeError, IndexError, TypeError) as error:
        msg = f"the scorer's parameters do not fit each other: {error}"
        raise InvalidInput(msg) from error
    return scorer


def cross_fit(
    scorer: Scorer, features: Tensor, is_private: Tensor, folds: int, rng: int
) -> NDArray[np.float64]:
    """Score every row by a scorer that was fitted without it.

    Folds are drawn over images, each side spread evenly. Scores of one fold depend on
    the sides of the rows in the others, so a permutation test on them is exact only if
    it refits; for the official verdict fit on one half and test on the other.

    Parameters
    ----------
    scorer
        What to fit.
    features, is_private
        Rows ``[n, p]`` and their sides, bool ``[n]``.
    folds
        At least 2, and at most so many that each fit sees 2 rows of each side.
    rng
        Seed of the folds and the fits.

    Returns
    -------
    numpy.ndarray
        float64 ``[n]``, larger for rows that look more private.

    Raises
    ------
    InvalidInput
        If folds or data are malformed.

    Examples
    --------
    >>> features = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
    >>> sides = torch.tensor([False, False, False, True, True, True])
    >>> np.sign(cross_fit(RidgeLogistic(), features, sides, folds=3, rng=0))
    array([-1., -1., -1.,  1.,  1.,  1.])
    """
    check_sides(features, is_private)
    smaller = min(int(is_private.sum()), int((~is_private).sum()))
    if not 2 <= folds <= smaller:  # noqa: PLR2004 - one fold holds nothing out
        msg = f"folds must lie in 2 .. {smaller} (rows of the smaller side), got {folds}"
        raise InvalidInput(msg)
    source = np.random.default_rng(rng)
    fold = np.empty(len(features), dtype=np.int64)
    for side in (True, False):
        rows = np.flatnonzero(is_private.numpy() == side)
        fold[source.permutation(rows)] = np.arange(len(rows)) % folds
    seeds = source.integers(2**31, size=folds)
    scores = np.empty(len(features), dtype=np.float64)
    for index in range(folds):
        out = fold == index
        rest, held = torch.from_numpy(~out), torch.from_numpy(out)
        fitted = scorer.fit(features[rest], is_private[rest], int(seeds[index]))
        scores[out] = fitted.score(features[held])
    return scores
