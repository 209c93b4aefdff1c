"""Solving for a one-hidden-layer network from answers at arbitrary points: many starts, then Newton."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from assay.extraction.exact.levenberg import levenberg_marquardt

__all__ = ["SearchResult", "search_network"]

_PROMISING = 1e-3  # share of the answers' variance left where Newton steps take over at once


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search found.

    Parameters
    ----------
    W, b, V, e
        Layers of a tanh network, see `assay.extraction.exact.shallow.ShallowNet`.
    error
        Root mean square of what is left of the log-ratios.
    solved
        Whether that is noise only.
    starts
        Starts that were used.
    """

    W: np.ndarray
    b: np.ndarray
    V: np.ndarray
    e: np.ndarray
    error: float
    solved: bool
    starts: int


def search_network(
    x: np.ndarray,
    y: np.ndarray,
    hidden: int,
    rng: np.random.Generator,
    *,
    starts: int = 16,
    iterations: int = 800,
    newton_steps: int = 40,
    noise: float = 1e-12,
) -> SearchResult:
    """Fit ``V tanh(W x + b) + e`` to log-ratios.

    Every start draws hidden weights, solves the output layer by linear least squares, and
    descends by L-BFGS on the squared error of the *log-ratios*: they carry all digits of
    an answer, while the cross-entropy of probabilities stops hearing of small classes.
    A promising start, and the best one in the end, goes on with Levenberg-Marquardt, which
    converges quadratically once every unit sits in its place. The search ends with the
    first start that leaves nothing but noise.

    Parameters
    ----------
    x
        Inputs, float64 ``[n, d]``, features of about unit size.
    y
        Log-ratios, float64 ``[n, J]``.
    hidden
        Hidden units.
    rng
        Draws the starts.
    starts, iterations, newton_steps
        Starts at most, L-BFGS iterations of each, Levenberg-Marquardt steps.
    noise
        Root mean square of a log-ratio's error that counts as solved.

    Returns
    -------
    SearchResult
        The best found.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, W, b = rng.uniform(-1, 1, (60, 2)), rng.normal(size=(3, 2)), rng.normal(size=3)
    >>> y = np.tanh(x @ W.T + b) @ rng.normal(size=(2, 3)).T
    >>> search_network(x, y, 3, rng).solved
    True
    """
    problem = _Problem(x, y, hidden)
    floor, spread = y.size * noise**2, float(((y - y.mean(0)) ** 2).sum())
    best, least, used = problem.start(rng), np.inf, 0
    for used in range(1, max(starts, 1) + 1):  # noqa: B007 - told in the result
        fit = optimize.minimize(
            problem.gradient,
            problem.start(rng),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 30, "ftol": 1e-15, "gtol": 0},
        )
        theta, cost = fit.x, float(fit.fun)
        if floor < cost <= _PROMISING * spread and cost < least:
            theta, cost = problem.newton(theta, newton_steps, floor, patience=2)
        if cost < least:
            best, least = theta, cost
        if least <= floor:
            break
    if least > floor:
        best, least = problem.newton(best, newton_steps, floor, patience=6)
    else:  # what noise allows is not yet what these answers hold
        best, least = problem.newton(best, 3, 0.0, patience=1)
    W, V = problem.unpack(best)
    error = float(np.sqrt(least / y.size))
    return SearchResult(W[:, :-1], W[:, -1], V[:, :-1], V[:, -1], error, error <= noise, used)


class _Problem:
    """The least-squares problem; hidden biases are a last column of ``W``, output ones of ``V``."""

    def __init__(self, x: np.ndarray, y: np.ndarray, hidden: int) -> None:
        self.x, self.y, self.hidden = np.hstack([x, np.ones((len(x), 1))]), y, hidden

    def unpack(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        h, d = self.hidden, self.x.shape[1]
        return theta[: h * d].reshape(h, d), theta[h * d :].reshape(-1, h + 1)

    def features(self, W: np.ndarray) -> np.ndarray:
        return np.hstack([np.tanh(self.x @ W.T), np.ones((len(self.x), 1))])

    def start(self, rng: np.random.Generator) -> np.ndarray:
        d = self.x.shape[1] - 1
        W = np.hstack(
            [
                rng.standard_normal((self.hidden, d)) * np.sqrt(3 / d),
                0.3 * rng.standard_normal((self.hidden, 1)),
            ]
        )
        V = np.linalg.lstsq(self.features(W), self.y, rcond=None)[0].T
        return np.concatenate([W.ravel(), V.ravel()])

    def residual(self, theta: np.ndarray) -> np.ndarray:
        W, V = self.unpack(theta)
        gap: np.ndarray = (self.features(W) @ V.T - self.y).ravel()
        return gap

    def gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        W, V = self.unpack(theta)
        A = self.features(W)
        R = A @ V.T - self.y
        g = 1 - A[:, :-1] ** 2
        return float((R * R).sum()), 2 * self._slopes(A, R, g, V)

    def _slopes(self, A: np.ndarray, R: np.ndarray, g: np.ndarray, V: np.ndarray) -> np.ndarray:
        return np.concatenate([((g * (R @ V[:, :-1])).T @ self.x).ravel(), (R.T @ A).ravel()])

    def linearise(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the residual, J'J block by block (never J itself), and J'r."""
        W, V = self.unpack(theta)
        A = self.features(W)
        R, g = A @ V.T - self.y, 1 - A[:, :-1] ** 2
        h, D, J = self.hidden, self.x.shape[1], len(V)
        # J'J of the hidden layer: (V'V)_ij X' diag(g_i g_j) X, c - 1 times cheaper than J'J of J.
        mix = V[:, :-1].T @ V[:, :-1]
        H = np.zeros((len(theta), len(theta)))
        for j in range(h):
            columns = slice(j * D, (j + 1) * D)
            for i in range(j + 1):
                block = mix[i, j] * (self.x.T @ ((g[:, i] * g[:, j])[:, None] * self.x))
                H[i * D : (i + 1) * D, columns] = block
                H[columns, i * D : (i + 1) * D] = block
            cross = self.x.T @ (g[:, [j]] * A)
            for k in range(J):
                last = slice(h * D + k * (h + 1), h * D + (k + 1) * (h + 1))
                H[columns, last] = V[k, j] * cross
                H[last, columns] = H[columns, last].T
        inner = A.T @ A
        for k in range(J):
            last = slice(h * D + k * (h + 1), h * D + (k + 1) * (h + 1))
            H[last, last] = inner
        return R.ravel(), H, self._slopes(A, R, g, V)

    def newton(
        self, theta: np.ndarray, steps: int, floor: float, *, patience: int
    ) -> tuple[np.ndarray, float]:
        fit = levenberg_marquardt(
            theta,
            self.residual,
            self.linearise,
            max_steps=steps,
            floor=floor,
            patience=patience,
            damping=1e-3,
        )
        return fit.theta, fit.cost
