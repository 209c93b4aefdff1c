"""All products of inputs up to a degree, and the scikit-learn model that is linear in them."""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import comb
from typing import Any

import numpy as np

from assay.errors import InvalidInput
from assay.extraction.exact.domain import Domain
from assay.extraction.exact.linear_models import as_softmax

__all__ = ["Monomials"]

_MOST_FEATURES = 20_000


class Monomials:
    """Features of a polynomial kernel, in which its classifier is linear.

    The box is moved to ``[-1, 1]^d`` first, so that all features are of one size.

    Parameters
    ----------
    degree
        Largest degree, at least 1.
    domain
        The box of inputs.

    Raises
    ------
    InvalidInput
        If there are more than 20,000 features.

    Examples
    --------
    >>> phi = Monomials(2, Domain.box(2, 0.0, 4.0))
    >>> phi.count, phi(np.array([[4.0, 3.0]])).tolist()
    (6, [[1.0, 0.5, 1.0, 0.5, 0.25, 1.0]])
    """

    def __init__(self, degree: int, domain: Domain) -> None:
        self.degree, self.size = degree, domain.size
        self.count = comb(domain.size + degree, degree)
        if degree < 1 or self.count > _MOST_FEATURES:
            msg = (
                f"degree {degree} in {domain.size} features makes {self.count:,} monomials; "
                f"choose a degree of at least 1 with at most {_MOST_FEATURES:,}"
            )
            raise InvalidInput(msg)
        self.middle, self.half = (domain.low + domain.high) / 2, (domain.high - domain.low) / 2
        # The order of scikit-learn's PolynomialFeatures, constant last.
        self._products = [
            combo
            for k in range(1, degree + 1)
            for combo in combinations_with_replacement(range(self.size), k)
        ]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return float64 ``[n, count]``; the last feature is 1."""
        unit = self.unit(x)
        features = np.ones((len(x), self.count))
        for column, combo in enumerate(self._products):
            features[:, column] = unit[:, combo].prod(axis=1)
        return features

    def unit(self, x: np.ndarray) -> np.ndarray:
        """Return rows moved from the box to ``[-1, 1]^d``."""
        moved: np.ndarray = (x - self.middle) / self.half
        return moved

    def estimator(self, theta: np.ndarray) -> Any:
        """Return a fitted classifier with scores ``theta . phi(x)``.

        Parameters
        ----------
        theta
            Coefficients, float64 ``[classes, count]``.

        Returns
        -------
        sklearn.linear_model.LogisticRegression or sklearn.pipeline.Pipeline
            A plain linear model for degree 1; scaling, `PolynomialFeatures` and a linear
            model otherwise. Its classes are 0 to ``len(theta) - 1``.
        """
        if self.degree == 1:
            weights = theta[:, :-1] / self.half
            return as_softmax(weights, theta[:, -1] - weights @ self.middle)
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import PolynomialFeatures

        products = PolynomialFeatures(self.degree, include_bias=False).fit(np.zeros((1, self.size)))
        return make_pipeline(self.scaler(), products, as_softmax(theta[:, :-1], theta[:, -1]))

    def scaler(self) -> Any:
        """Return a fitted ``StandardScaler`` that moves the box to ``[-1, 1]^d``."""
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(np.zeros((1, self.size)))
        scaler.mean_, scaler.scale_, scaler.var_ = self.middle.copy(), self.half.copy(), self.half**2
        return scaler
