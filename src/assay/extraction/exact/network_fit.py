"""Fitting a one-hidden-layer network to answers: the data, its scaling and the polish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from assay.extraction.exact.levenberg import levenberg_marquardt
from assay.extraction.exact.precision import Grain
from assay.extraction.exact.shallow import Activation, activate, derivative

__all__ = ["Answers", "log_noise", "log_ratios", "output_layer", "polish", "refine"]

Layers = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
_CURVATURE_WEIGHT = 1e-2  # second differences carry the noise of four answers over a step squared


@dataclass
class Answers:
    """Log-ratios with the differences in which they are to be fitted.

    Answers a small step apart are nearly equal, and least squares on them as they are is
    blind to what they differ in. So each star of points (a base and steps from it) is fitted
    as its value and its difference quotients.

    Parameters
    ----------
    x, y
        Inputs ``[n, d]`` and log-ratios ``[n, J]``, in blocks.
    rows
        Sparse blocks that turn answers into fitted rows.
    """

    x: list[np.ndarray] = field(default_factory=list)
    y: list[np.ndarray] = field(default_factory=list)
    rows: list[sparse.csr_matrix] = field(default_factory=list)

    def add_points(self, x: np.ndarray, y: np.ndarray) -> None:
        """Add points whose values are fitted as they are."""
        self._add(x, y, sparse.identity(len(x), format="csr"))

    def add_star(self, x: np.ndarray, y: np.ndarray, step: float) -> None:
        """Add a base point (first row) and points one step from it."""
        quotient = sparse.diags(np.r_[1.0, np.full(len(x) - 1, 1 / step)], format="lil")
        quotient[1:, 0] = -1 / step
        self._add(x, y, quotient.tocsr())

    def add_centred_star(self, x: np.ndarray, y: np.ndarray, step: float) -> None:
        """Add a base point, points one step from it, and as many one step back."""
        sides = (len(x) - 1) // 2
        one = sparse.identity(sides, format="csr") / (2 * step)
        zero = sparse.csr_matrix((sides, 1))
        base = sparse.csr_matrix(np.full((sides, 1), -1 / step))
        first = sparse.csr_matrix(([1.0], ([0], [0])), shape=(1, len(x)))
        odd, even = sparse.hstack([zero, one, -one]), sparse.hstack([base, one, one])
        self._add(x, y, sparse.vstack([first, odd, even]).tocsr())

    def add_curvature(self, x: np.ndarray, y: np.ndarray, step: float) -> None:
        """Add a base, ``h`` points one step away, and one for each pair ``i <= j`` of steps."""
        sides = int((np.sqrt(8 * len(x) + 1) - 3) / 2)
        first, second = np.triu_indices(sides)
        one, two = 1 / step, _CURVATURE_WEIGHT / step**2
        lift = sparse.lil_matrix((len(x), len(x)))
        lift[0, 0] = 1.0
        for i in range(1, sides + 1):
            lift[i, i], lift[i, 0] = one, -one
        for n, (left, right) in enumerate(zip(first, second, strict=True), start=sides + 1):
            lift[n, n], lift[n, 0] = two, two
            lift[n, left + 1] -= two
            lift[n, right + 1] -= two
        self._add(x, y, lift.tocsr())

    def _add(self, x: np.ndarray, y: np.ndarray, rows: sparse.csr_matrix) -> None:
        self.x.append(x)
        self.y.append(y)
        self.rows.append(rows)

    @property
    def inputs(self) -> np.ndarray:
        """All inputs, float64 ``[n, d]``."""
        return np.vstack(self.x)

    @property
    def ratios(self) -> np.ndarray:
        """All log-ratios, float64 ``[n, J]``."""
        return np.vstack(self.y)

    @property
    def lift(self) -> sparse.csr_matrix:
        """The matrix from answers to fitted rows, ``[n, n]``."""
        return sparse.block_diag(self.rows, format="csr")


def log_ratios(scores: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Return ``log p_k - log p_0``, float64 ``[n, c - 1]``, probabilities below ``least`` raised to it.

    Examples
    --------
    >>> log_ratios(np.array([[0.5, 0.5], [1.0, 0.0]])).ravel().tolist()
    [0.0, -inf]
    """
    with np.errstate(divide="ignore"):
        z = np.log(np.maximum(scores, least))
    with np.errstate(invalid="ignore"):
        ratios: np.ndarray = z[:, 1:] - z[:, :1]
    return ratios


def log_noise(scores: np.ndarray, grain: Grain) -> float:
    """Return the error of a log-ratio: relative for floating point, absolute for decimals.

    Examples
    --------
    >>> log_noise(np.array([[0.5, 0.5]]), Grain(2, 0.005))
    0.01
    """
    if grain.rounded:
        return float(np.sqrt(np.mean((grain.step / np.maximum(scores, grain.step)) ** 2)))
    finite = np.abs(log_ratios(scores, np.finfo(np.float64).tiny))
    return grain.step * max(1.0, float(finite.max()))


def output_layer(answers: Answers, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best output layer for a tanh hidden layer: one linear least-squares problem."""
    lift = answers.lift
    features = np.tanh(answers.inputs @ W.T + b)
    table = lift @ np.hstack([features, np.ones((len(features), 1))])
    solved = np.linalg.lstsq(table, lift @ answers.ratios, rcond=None)[0]
    return solved[:-1].T, solved[-1]


def polish(
    answers: Answers,
    layers: Layers,
    *,
    noise: float,
    activation: Activation = "tanh",
    max_steps: int = 12,
    patience: int = 1,
) -> tuple[Layers, float]:
    """Improve the layers of a network until its answers are met to within the noise.

    Parameters
    ----------
    answers
        What was asked, with its scaling.
    layers
        ``W [h, d], b [h], V [J, h], e [J]``.
    noise
        Standard deviation of a log-ratio.
    activation
        Of the hidden layer.
    max_steps, patience
        See `assay.extraction.exact.levenberg.levenberg_marquardt`.

    Returns
    -------
    tuple
        The layers, and the root mean square of what is left over what noise would leave.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, true = rng.normal(size=(30, 2)), (np.eye(2), np.ones(2), np.array([[1.0, 2.0]]), np.zeros(1))
    >>> answers = Answers()
    >>> answers.add_points(x, np.tanh(x @ true[0].T + true[1]) @ true[2].T + true[3])
    >>> found, left = polish(answers, tuple(t + 0.1 for t in true), noise=1e-15)
    >>> bool(np.abs(found[0] - true[0]).max() < 1e-12)
    True
    """
    shapes = [np.shape(layer) for layer in layers]
    x = answers.inputs

    def value(theta: np.ndarray) -> np.ndarray:
        W, b, V, e = _unpack(theta, shapes)
        ratios: np.ndarray = activate(x @ W.T + b, activation) @ V.T + e
        return ratios

    def jacobian(theta: np.ndarray) -> np.ndarray:
        return _jacobian(x, _unpack(theta, shapes), activation)

    start = np.concatenate([np.ravel(layer) for layer in layers])
    theta, left = refine(answers, start, value, jacobian, noise=noise, max_steps=max_steps, patience=patience)
    return _unpack(theta, shapes), left


def refine(
    answers: Answers,
    theta: np.ndarray,
    value: Callable[[np.ndarray], np.ndarray],
    jacobian: Callable[[np.ndarray], np.ndarray],
    *,
    noise: float,
    max_steps: int = 12,
    patience: int = 1,
) -> tuple[np.ndarray, float]:
    """Fit the unknowns of any model to the answers' fitted rows.

    Parameters
    ----------
    answers, noise, max_steps, patience
        As for `polish`.
    theta
        Start, float64 ``[k]``.
    value, jacobian
        Log-ratios of all inputs, ``[n, J]``, and their derivatives, ``[n, J, k]``.

    Returns
    -------
    tuple
        The unknowns, and the root mean square of what is left over what noise would leave.
    """
    lift = answers.lift
    target = lift @ answers.ratios

    def residual(theta: np.ndarray) -> np.ndarray:
        flat: np.ndarray = (lift @ value(theta) - target).ravel()
        return flat

    def linearise(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        J = jacobian(theta)
        J = (lift @ J.reshape(len(J), -1)).reshape(-1, len(theta))
        r = residual(theta)
        return r, J.T @ J, J.T @ r

    scale = np.sqrt(target.shape[1] * lift.multiply(lift).sum())
    fit = levenberg_marquardt(
        theta, residual, linearise, max_steps=max_steps, floor=(noise * scale) ** 2, patience=patience
    )
    return fit.theta, float(np.sqrt(fit.cost) / (noise * scale))


def _unpack(theta: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> Layers:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    W, b, V, e = (part.reshape(shape) for part, shape in zip(np.split(theta, ends), shapes, strict=True))
    return W, b, V, e


def _jacobian(x: np.ndarray, layers: Layers, activation: Activation) -> np.ndarray:
    """Return the derivatives of all log-ratios, ``[n, J, unknowns]``, in the order W, b, V, e."""
    W, b, V, _ = layers
    (h, d), J, n = W.shape, len(V), len(x)
    a = activate(x @ W.T + b, activation)
    slope = V[None] * derivative(a, activation)[:, None]
    whole = np.zeros((n, J, h * d + h + J * h + J))
    whole[..., : h * d] = (slope[..., None] * x[:, None, None, :]).reshape(n, J, h * d)
    whole[..., h * d : h * d + h] = slope
    for k in range(J):
        start = h * d + h + k * h
        whole[:, k, start : start + h] = a
        whole[:, k, h * d + h + J * h + k] = 1.0
    return whole
