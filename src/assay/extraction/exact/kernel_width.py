"""How wide the kernel behind some labels is: the width under which they are least surprising."""

from __future__ import annotations

import numpy as np

__all__ = ["likeliest_width"]

_POWERS = range(1, -5, -1)  # of 4, times 1/d
_DOUBT = 2.0  # nats that each power must explain: a few labels fit anything
_HEIGHT = 1e3  # prior variance of the decision value: labels have next to no noise
_OFFSET = 100.0  # of the same: where the boundary lies is not known beforehand
_MOST_ROWS = 1000
_STEPS = 30


def likeliest_width(u: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> float:
    """Return the kernel width of the Gaussian process under which labels are likeliest.

    Held-out accuracy says little where all points were asked because they are near the
    boundary: each is a coin to those who have not seen it. The marginal likelihood asks
    instead how simple a boundary explains all of them, and tells widths apart from some 20
    labels on.

    Parameters
    ----------
    u
        Points of the box ``[-1, 1]^d``, float64 ``[n, d]``; of many, 1,000 are drawn.
    labels
        Their labels, two different ones, int64 ``[n]``.
    rng
        Of the drawing.

    Returns
    -------
    float
        The best of ``4 / d, 1 / d, ..., 4^-4 / d``.

    References
    ----------
    Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, sections 3.4
    and 5.5.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> u = rng.uniform(-1, 1, (60, 2))
    >>> plane, ripple = u[:, 0] > u[:, 1], np.sin(6 * u[:, 0]) > u[:, 1]
    >>> [likeliest_width(u, labels.astype(int), rng) for labels in (plane, ripple)]
    [0.5, 2.0]
    """
    from sklearn.gaussian_process import GaussianProcessClassifier
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    if len(u) > _MOST_ROWS:
        drawn = rng.permutation(len(u))[:_MOST_ROWS]
        if len(np.unique(labels[drawn])) > 1:
            u, labels = u[drawn], labels[drawn]
    size = u.shape[1]

    def surprise(power: int) -> float:
        height = _HEIGHT * max(1.0, 4.0**-power)
        kernel = ConstantKernel(height, "fixed") * RBF((0.5 * size / 4.0**power) ** 0.5, "fixed")
        process = GaussianProcessClassifier(
            kernel + ConstantKernel(_OFFSET * height, "fixed"), optimizer=None, max_iter_predict=_STEPS
        )
        return _DOUBT * abs(power) - float(process.fit(u, labels).log_marginal_likelihood_value_)

    power = min(_POWERS, key=surprise)
    return float(4.0**power / size)
