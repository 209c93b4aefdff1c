"""Published extraction solvers as plain code: what the benchmark of exact extraction compares with.

Written from the descriptions in Tramer et al., USENIX Security 2016, section 4.1 and
Lowd and Meek, KDD 2005, section 3: a cross-entropy fit to the answers by quasi-Newton
steps, and a search for one weight after the other with one query at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

Answers = Callable[[np.ndarray], np.ndarray]


@dataclass
class Meter:
    """Rows and calls of a model."""

    ask: Answers
    rows: int = 0
    calls: int = 0
    most: int = 10**9

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return answers; raises `TimeoutError` beyond ``most`` rows."""
        self.rows += len(x)
        self.calls += 1
        if self.rows > self.most:
            msg = f"more than {self.most} queries"
            raise TimeoutError(msg)
        return self.ask(x)


def softmax_by_cross_entropy(
    scores: Meter, size: int, classes: int, queries: int, rng: np.random.Generator
) -> np.ndarray:
    """Fit softmax regression to soft labels; return coefficients ``[classes, size + 1]``."""
    x = np.c_[rng.uniform(-1, 1, (queries, size)), np.ones(queries)]
    y = scores(x[:, :-1])
    start = 1e-8 * rng.standard_normal(classes * (size + 1))

    def loss(flat: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        theta = flat.reshape(classes, -1)
        z = x @ theta.T
        z -= z.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        value = -(y * log_p).sum() + penalty / 2 * (theta[:, :-1] ** 2).sum()
        slope = (np.exp(log_p) * y.sum(axis=1, keepdims=True) - y).T @ x
        slope[:, :-1] += penalty * theta[:, :-1]
        return float(value), slope.ravel()

    method = "BFGS" if len(start) < 1000 else "L-BFGS-B"
    found = start
    for exponent in range(-16, -8):
        # The gradient tolerance and the limit of steps are the published ones.
        options = {"maxiter": 100, "gtol": 1e-6}
        found = minimize(loss, start, args=(10.0**exponent,), jac=True, method=method, options=options).x
        theta = found.reshape(classes, -1)
        if ((x @ theta.T).argmax(axis=1) == y.argmax(axis=1)).mean() > 0.99:
            break
    return found.reshape(classes, -1)


def linear_by_coordinates(labels: Meter, size: int, bits: int, rng: np.random.Generator) -> np.ndarray:
    """Find a linear classifier of two classes weight by weight; return ``[size + 1]``."""

    def positive(x: np.ndarray) -> bool:
        return bool(labels(x[None])[0] == 1)

    above = below = None
    while above is None or below is None:
        x = rng.uniform(-1, 1, size)
        if positive(x):
            above = x
        else:
            below = x
    witness, mixed = 0, below.copy()
    for i in range(size):
        mixed[i] = above[i]
        if positive(mixed):
            witness = i
            break
    low, high = below[witness], above[witness]
    sign = np.sign(high - low)
    for _ in range(bits):
        mixed[witness] = (low + high) / 2
        low, high = (low, mixed[witness]) if positive(mixed) else (mixed[witness], high)
    crossing = mixed.copy()
    crossing[witness] = (low + high) / 2
    start = crossing.copy()
    start[witness] -= sign
    weights = np.zeros(size)
    weights[witness] = sign
    for i in (i for i in range(size) if i != witness):

        def at(t: float, i: int = i) -> np.ndarray:
            x = start.copy()
            x[i] += t
            return x

        up, down = positive(at(1e8)), positive(at(-1e8))
        if up == down:
            continue
        side = 1.0 if up else -1.0
        far = 1.0
        while not positive(at(side * far)):
            far *= 2
        near = 0.0
        for _ in range(bits):
            middle = (near + far) / 2
            near, far = (near, middle) if positive(at(side * middle)) else (middle, far)
        weights[i] = side * 2 / (near + far)
    return np.r_[weights, -weights @ crossing]
