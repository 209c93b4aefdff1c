"""Kernel logistic regression whose representers are rows: the model, and how it is told apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from assay.extraction.exact.separation import separate_gradients

__all__ = ["KernelNet", "Kernels", "matched_distances", "representers_from_gradients"]


class KernelNet(nn.Module):
    """Softmax over ``A exp(-gamma |x - x_r|^2) + B``, float64, from flat inputs to logits.

    Parameters
    ----------
    representers
        float64 ``[s, d]``.
    weights, bias
        float64 ``[c, s]`` and ``[c]``.
    gamma
        Width of the kernel, positive.

    Examples
    --------
    >>> net = KernelNet(np.zeros((1, 2)), np.array([[0.0], [1.0]]), np.zeros(2), 0.5)
    >>> net(torch.zeros(1, 2, dtype=torch.float64)).tolist()
    [[0.0, 1.0]]
    """

    def __init__(self, representers: np.ndarray, weights: np.ndarray, bias: np.ndarray, gamma: float) -> None:
        super().__init__()
        arrays = (torch.from_numpy(np.array(value, np.float64)) for value in (representers, weights, bias))
        self.representers, self.weights, self.bias = (nn.Parameter(a, requires_grad=False) for a in arrays)
        self.gamma = float(gamma)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, float64 ``[n, c]``."""
        flat = x.flatten(1).double()
        distance = (flat[:, None] - self.representers).square().sum(-1)
        logits: Tensor = torch.exp(-self.gamma * distance) @ self.weights.T + self.bias
        return logits


@dataclass(frozen=True, eq=False)
class Kernels:
    """Representers ``[s, d]`` with weights ``[J, s]`` and biases ``[J]`` relative to class 0."""

    rows: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    def features(self, x: np.ndarray, gamma: float) -> np.ndarray:
        """Return the kernels, float64 ``[n, s]``."""
        distance = ((x[:, None] - self.rows) ** 2).sum(-1)
        kernels: np.ndarray = np.exp(-gamma * distance)
        return kernels

    def log_ratios(self, x: np.ndarray, gamma: float) -> np.ndarray:
        """Return ``log p_k - log p_0``, float64 ``[n, J]``."""
        ratios: np.ndarray = self.features(x, gamma) @ self.weights.T + self.bias
        return ratios

    def pack(self) -> np.ndarray:
        """Return all unknowns in one vector."""
        return np.concatenate([self.rows.ravel(), self.weights.ravel(), self.bias])

    def unpack(self, theta: np.ndarray) -> Kernels:
        """Return kernels of the same shape from one vector."""
        rows, weights, bias = np.split(theta, np.cumsum([self.rows.size, self.weights.size]))
        return Kernels(rows.reshape(self.rows.shape), weights.reshape(self.weights.shape), bias)

    def jacobian(self, x: np.ndarray, gamma: float) -> np.ndarray:
        """Return the derivatives of all log-ratios, ``[n, J, unknowns]``."""
        kernels = self.features(x, gamma)
        s, J = len(self.rows), len(self.bias)
        pull = 2 * gamma * kernels[..., None] * (x[:, None] - self.rows)
        whole = np.zeros((len(x), J, self.rows.size + self.weights.size + J))
        for k in range(J):
            whole[:, k, : self.rows.size] = (self.weights[k][None, :, None] * pull).reshape(len(x), -1)
            start = self.rows.size + k * s
            whole[:, k, start : start + s] = kernels
            whole[:, k, self.rows.size + self.weights.size + k] = 1.0
        return whole


def representers_from_gradients(
    points: np.ndarray,
    values: np.ndarray,
    gradients: np.ndarray,
    gamma: float,
    rng: np.random.Generator,
    *,
    tolerance: float,
) -> Kernels | None:
    """Solve for representers from values and gradients at a few points, without search.

    For Gaussian kernels ``grad T_k(x) / (2 gamma) + x T_k(x) = sum_r A_kr phi_r(x) x_r + x B_k``,
    and ``T_k = sum_r A_kr phi_r(x) + B_k`` continues the same sum by a coordinate 1. Projecting
    out the known points ``[x 1]`` removes ``B``; what is left is a tensor of rank-one terms, one
    a representer.

    Parameters
    ----------
    points
        float64 ``[P, d]``.
    values, gradients
        Log-ratios float64 ``[P, J]`` with their gradients ``[P, J, d]``.
    gamma
        Width of the kernel.
    rng
        See `assay.extraction.exact.separation.separate_gradients`.
    tolerance
        Singular values below this share of the largest are no representers.

    Returns
    -------
    Kernels or None
        None if the points see fewer directions than there are representers.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> true = Kernels(rng.normal(size=(2, 8)), rng.normal(size=(3, 2)), rng.normal(size=3))
    >>> x = rng.normal(size=(4, 8))
    >>> pull = -2 * 0.1 * true.features(x, 0.1)[:, :, None] * (x[:, None] - true.rows)
    >>> gradients = np.einsum("kr,prd->pkd", true.weights, pull)
    >>> found = representers_from_gradients(x, true.log_ratios(x, 0.1), gradients, 0.1, rng, tolerance=1e-9)
    >>> bool(np.allclose(np.sort(found.rows, axis=0), np.sort(true.rows, axis=0)))
    True
    """
    P, J, _ = gradients.shape
    ends = np.hstack([points, np.ones((P, 1))])
    sums = gradients / (2 * gamma) + points[:, None] * values[..., None]
    whole = np.concatenate([sums, values[..., None]], axis=2)
    off = np.eye(ends.shape[1]) - np.linalg.pinv(ends) @ ends
    flat = whole.reshape(P * J, -1)
    _, size, basis = np.linalg.svd(flat @ off, full_matrices=False)
    s = int((size > tolerance * size[0]).sum())
    if not 0 < s < min(P * J, ends.shape[1] - P):
        return None
    T = (whole @ basis[:s].T).transpose(2, 1, 0)
    directions = separate_gradients(T, rng)
    parts = (np.linalg.pinv(directions.T) @ T.reshape(s, -1)).reshape(s, J, P)
    left, strength, right = np.linalg.svd(parts)
    # Unknown are [x_r 1] times a factor, and B; everything else is known, so that this is linear.
    terms = (left[:, :, 0] * strength[:, [0]])[:, :, None] * right[:, 0][:, None, :]
    share = terms.transpose(2, 1, 0).reshape(P * J, s)
    # Off the points, only the representers are seen; along them, the biases as well.
    off_rows = np.linalg.lstsq(share, flat @ off, rcond=None)[0]
    table = np.zeros((P, J, P, s * P + J))
    along = np.linalg.qr(ends.T)[0]
    for q in range(P):
        table[:, :, q, q * s : (q + 1) * s] = share.reshape(P, J, s)
        for k in range(J):
            table[:, k, q, s * P + k] = ends @ along[:, q]
    solved = np.linalg.lstsq(table.reshape(P * J * P, -1), (flat @ along).reshape(-1), rcond=None)[0]
    rows = off_rows + solved[: s * P].reshape(P, s).T @ along.T
    lengths = rows[:, -1]
    if np.abs(lengths).min() == 0.0:
        return None
    found = rows[:, :-1] / lengths[:, None]
    bare = Kernels(found, np.zeros((J, s)), solved[s * P :])
    kernels = np.hstack([bare.features(points, gamma), np.ones((P, 1))])
    # Few points fix few weights: the separated terms know more of them.
    weights = np.einsum("rkp,pr,r->kr", terms, kernels[:, :s], lengths) / (kernels[:, :s] ** 2).sum(0)
    return Kernels(found, weights, bare.bias)


def matched_distances(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance of each true row to the found row matched to it."""
    apart = np.linalg.norm(found[:, None] - true[None], axis=-1)
    rows, columns = linear_sum_assignment(apart)
    distances = np.full(len(true), np.inf)
    distances[columns] = apart[rows, columns]
    return distances
