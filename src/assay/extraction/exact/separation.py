"""Separating hidden units: what gradients or Hessians mix, taken apart by linear algebra.

Gradients of the log-ratios of a one-hidden-layer network at several points are the tensor
``T[i, k, p] = sum_j W[j, i] V[k, j] g'(a_jp)``: a sum of as many rank-one terms as there are
units. Its decomposition is unique and can be computed without any search.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from assay.errors import InvalidInput

__all__ = ["points_needed", "separate_gradients", "separate_hessians"]


def points_needed(units: int, ratios: int, slack: float = 1.4) -> int:
    """Return how many gradient points `separate_gradients` needs.

    Parameters
    ----------
    units
        Hidden units ``h``.
    ratios
        Log-ratios ``J`` an answer holds, at least 2.
    slack
        Equations for each unknown. Unique from 1 on; 1.14 works but loses a digit, 2 gains one.

    Raises
    ------
    InvalidInput
        For fewer than 2 log-ratios, whose gradients are a matrix and cannot be separated.

    Examples
    --------
    >>> points_needed(20, 4), points_needed(20, 9)
    (10, 5)
    """
    if ratios < 2:  # noqa: PLR2004 - a tensor needs a second mode
        msg = "gradients of a single log-ratio cannot be separated; use Hessians"
        raise InvalidInput(msg)
    pairs = ratios * (ratios - 1) / 2
    points = 2
    while pairs * points * (points - 1) / 2 < slack * units * (units - 1) / 2 or points * ratios < units:
        points += 1
    return points


def separate_gradients(T: np.ndarray, rng: np.random.Generator, *, tries: int = 60) -> np.ndarray:
    """Decompose a tensor into rank-one terms, in the regime where the first mode is full.

    Parameters
    ----------
    T
        float64 ``[h, J, P]``: gradients in ``h`` coordinates, for ``J`` log-ratios at ``P`` points.
    rng
        Draws the pencils.
    tries
        Pencils tried; the one that diagonalises best is kept.

    Returns
    -------
    np.ndarray
        float64 ``[h, h]``: one row a unit, its weights in the same coordinates up to scale.

    Raises
    ------
    InvalidInput
        If no pencil has a usable solution (noise, or units that the points do not tell apart).

    References
    ----------
    De Lathauwer, "A link between the canonical decomposition in multilinear algebra and
    simultaneous matrix diagonalization", SIAM J. Matrix Anal. Appl. 28 (2006), section 3.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> W, V, D = rng.normal(size=(3, 3)), rng.normal(size=(3, 3)), rng.uniform(size=(5, 3))
    >>> T = np.einsum("ji,kj,pj->ikp", W, V, D)
    >>> found = separate_gradients(T, rng)
    >>> cosines = np.abs(_unit(found) @ _unit(W).T)
    >>> bool(np.allclose(cosines.max(0), 1))
    True
    """
    h, J, P = T.shape
    flat = T.reshape(h, J * P)
    basis = np.linalg.svd(flat, full_matrices=False)[2]
    minors, s, t = _minors(basis.reshape(h, J, P))
    # Right singular vectors of a tall matrix, through the small one: [h(h+1)/2]^2.
    kernel = linalg.eigh(minors.T @ minors, subset_by_index=[0, h - 1])[1].T
    stack = np.zeros((h, h, h))
    stack[:, s, t] = kernel / 2
    stack += stack.transpose(0, 2, 1)
    A = _congruence(stack, rng, tries)
    terms = A.T @ basis
    rows: np.ndarray = (flat @ np.linalg.pinv(terms)).T
    return rows


def separate_hessians(H: np.ndarray, rng: np.random.Generator, *, tries: int = 200) -> np.ndarray:
    """Find the rows that diagonalise several Hessians ``sum_j c_jn w_j w_j'`` at once.

    Parameters
    ----------
    H
        float64 ``[n, h, h]``, at least two, symmetric.
    rng, tries
        As for `separate_gradients`, which also says what is raised and returned.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> W, c = rng.normal(size=(3, 3)), rng.normal(size=(2, 3))
    >>> found = separate_hessians(np.einsum("nj,ji,jk->nik", c, W, W), rng)
    >>> bool(np.allclose(np.abs(_unit(found) @ _unit(W).T).max(0), 1))
    True
    """
    return _congruence(H, rng, tries).T


def _minors(basis: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the polarised 2x2 minors of all pairs of matrices, one column a pair ``s <= t``.

    A combination of the matrices has rank one iff the quadratic form of every minor vanishes.
    """
    h, J, P = basis.shape
    s, t = np.triu_indices(h)
    k0, k1 = np.triu_indices(J, 1)
    p0, p1 = np.triu_indices(P, 1)

    def corner(index: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        part: np.ndarray = basis[index][:, rows][:, :, columns]
        return part

    def determinant(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        product: np.ndarray = corner(a, k0, p0) * corner(b, k1, p1) - corner(a, k0, p1) * corner(b, k1, p0)
        return product

    whole = determinant(s, t) + determinant(t, s)
    return whole.reshape(len(s), -1).T, s, t


def _congruence(stack: np.ndarray, rng: np.random.Generator, tries: int) -> np.ndarray:
    """Return A such that every matrix of ``stack`` is ``A diag A'``."""
    best: np.ndarray | None = None
    quality = np.inf
    for _ in range(tries):
        left, right = rng.standard_normal((2, len(stack)))
        try:
            values, vectors = linalg.eig(np.tensordot(left, stack, 1), np.tensordot(right, stack, 1))
            inner = _unit(vectors.real.T)
            turned = np.linalg.inv(inner)
        except (linalg.LinAlgError, ValueError):
            continue
        if not (np.isfinite(turned).all() and np.isfinite(values).all()):
            continue
        rest = inner @ stack @ inner.T
        diagonal = (np.einsum("nii->ni", rest) ** 2).sum()
        # A complex pair means two rows that this pencil does not tell apart.
        turning = np.abs(values.imag).max() / max(np.abs(values).max(), np.finfo(float).tiny)
        off = (rest**2).sum() / max(diagonal, np.finfo(float).tiny) - 1 + turning
        if off < quality:
            best, quality = turned, off
    if best is None:
        msg = "no pencil separates the hidden units: the answers are too coarse, or units are identical"
        raise InvalidInput(msg)
    return best


def _unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of Euclidean norm 1."""
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: np.ndarray = rows / np.where(size > 0, size, 1.0)
    return scaled
