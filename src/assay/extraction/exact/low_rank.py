"""The output layer behind many logit vectors: its width, its span and its sphere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Head", "align", "recover_head", "sphere"]

_GAP = 8.0  # singular values must drop by this factor for a width to be read off


@dataclass(frozen=True, eq=False)
class Head:
    """What logit vectors tell of the layer that made them.

    Parameters
    ----------
    weights
        Output layer up to an invertible ``[h, h]`` matrix, float64 ``[l, h]``.
    states
        The hidden states of the asked prompts in the same coordinates, float64 ``[n, h]``.
    singular_values
        Of the logit vectors, float64, falling.
    gap
        Factor by which they drop after the ``h``-th; infinite for a drop to 0.
    found
        Whether the drop is clear; otherwise the width is only its best guess.
    """

    weights: np.ndarray
    states: np.ndarray
    singular_values: np.ndarray
    gap: float
    found: bool

    @property
    def width(self) -> int:
        """Hidden dimension ``h``."""
        return int(self.weights.shape[1])


def recover_head(logits: np.ndarray) -> Head:
    """Factor logit vectors into hidden states and an output layer.

    Parameters
    ----------
    logits
        float64 ``[n, l]``, n prompts, n larger than the hidden dimension: logits, or log
        probabilities less that of one reference token, which takes away the unknown
        normalisation of each prompt.

    References
    ----------
    Carlini et al., "Stealing Part of a Production Language Model", ICML 2024, section 4.
    Finlayson, Ren and Swayamdipta, "Logits of API-Protected LLMs Leak Proprietary Information",
    COLM 2024.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> head = recover_head(rng.normal(size=(12, 5)) @ rng.normal(size=(5, 40)))
    >>> head.width, head.found
    (5, True)
    """
    u, size, vt = np.linalg.svd(logits, full_matrices=False)
    tiny = max(float(size[0]) * 1e-15, np.finfo(np.float64).tiny)
    falls = np.maximum(size[:-1], tiny) / np.maximum(size[1:], tiny)
    # Below rounding, ratios of singular values mean nothing.
    falls[size[:-1] <= 10 * tiny] = 1.0
    width = int(np.argmax(falls)) + 1 if len(falls) else 1
    gap = float(falls[width - 1]) if len(falls) else 1.0
    spread = np.sqrt(len(logits))
    return Head(
        vt[:width].T * (size[:width] / spread),
        u[:, :width] * spread,
        size,
        gap,
        len(falls) > 0 and gap >= _GAP,
    )


def sphere(head: Head) -> Head | None:
    """Choose coordinates in which all hidden states have norm 1, so that only a rotation stays open.

    RMSNorm and LayerNorm put final states on a sphere or ellipsoid, which ``h (h + 1) / 2``
    states determine.

    Parameters
    ----------
    head
        What `recover_head` found, from at least that many prompts.

    Returns
    -------
    Head or None
        None if there are too few states, or they lie on no ellipsoid around the origin.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> states = rng.normal(size=(20, 3))
    >>> states /= np.linalg.norm(states, axis=1, keepdims=True)
    >>> head = sphere(recover_head(states @ rng.normal(size=(3, 9))))
    >>> bool(np.allclose(np.linalg.norm(head.states, axis=1), 1))
    True
    """
    i, j = np.triu_indices(head.width)
    if len(head.states) < len(i):
        return None
    products = head.states[:, i] * head.states[:, j]
    form, *_ = np.linalg.lstsq(products, np.ones(len(products)), rcond=None)
    # Half the squared radius may be off before the states lie on no ellipsoid at all.
    if np.abs(products @ form - 1).max() > 0.5:  # noqa: PLR2004 - see above
        return None
    A = np.zeros((head.width, head.width))
    A[i, j] = form / 2
    A += A.T
    try:
        root = np.linalg.cholesky(A)
    except np.linalg.LinAlgError:
        return None
    weights = np.linalg.solve(root, head.weights.T).T
    return Head(weights, head.states @ root, head.singular_values, head.gap, head.found)


def align(found: np.ndarray, true: np.ndarray, *, rotation: bool = False) -> float:
    """Return the root mean square error of a layer over that of the true one, best case.

    Parameters
    ----------
    found, true
        Output layers, ``[l, h]``.
    rotation
        Whether only a rotation and a common scale may align them, rather than any matrix.

    Examples
    --------
    >>> true = np.arange(8.0).reshape(4, 2) ** 2
    >>> round(align(true @ [[2.0, 1.0], [0.0, 3.0]], true), 9)
    0.0
    """
    if found.shape != true.shape:
        return float("inf")
    if rotation:
        u, size, vt = np.linalg.svd(found.T @ true)
        turn = (u @ vt) * (size.sum() / np.sum(found**2))
    else:
        turn = np.linalg.lstsq(found, true, rcond=None)[0]
    return float(np.linalg.norm(found @ turn - true) / np.linalg.norm(true))
