"""How much of a network marks and ordinary inputs share: CKA, activation overlap, loss profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from assay.errors import InvalidInput
from assay.nets.soft_nearest_neighbours import (
    Distance,
    median_distance,
    soft_nearest_neighbour_loss,
)
from assay.nets.taps import activations, default_taps
from assay.result import Record

__all__ = ["Entanglement", "Overlap", "activation_overlap", "linear_cka", "measure_entanglement"]

FloatArray = NDArray[np.float64]
_TOP = 0.25


def linear_cka(x: FloatArray, y: FloatArray, *, debiased: bool = True) -> float:
    """Return the linear centred kernel alignment of paired rows.

    Parameters
    ----------
    x, y
        Float ``[n, p]`` and ``[n, q]``; row ``i`` of both is about the same thing.
    debiased
        Estimate without the bias that lifts the plain value towards 1 when rows are few
        (0.89 for independent Gaussians with 64 rows of 512). Can be below 0; needs 4 rows.

    Returns
    -------
    float
        1 for equal rows up to rotation and scale, about 0 for independent ones; 0 if
        either is constant.

    Raises
    ------
    InvalidInput
        If rows are not paired or too few.

    References
    ----------
    Kornblith, Norouzi, Lee and Hinton, "Similarity of Neural Network Representations
    Revisited", ICML 2019, section 3. Song et al., "Feature Selection via Dependence
    Maximization", JMLR 2012, section 3, for the unbiased estimator.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(linear_cka(x, 2 * x[:, ::-1]), 6)
    1.0
    """
    least = 4 if debiased else 2
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < least:  # noqa: PLR2004
        msg = f"alignment needs at least {least} paired rows, got shapes {x.shape} and {y.shape}"
        raise InvalidInput(msg)
    x, y = x - x.mean(0), y - y.mean(0)
    gram_x, gram_y = x @ x.T, y @ y.T
    product = _unbiased if debiased else _plain
    scale = product(gram_x, gram_x) * product(gram_y, gram_y)
    return float(product(gram_x, gram_y) / np.sqrt(scale)) if scale > 0 else 0.0


def _plain(a: FloatArray, b: FloatArray) -> float:
    return float((a * b).sum())


def _unbiased(a: FloatArray, b: FloatArray) -> float:
    n = len(a)
    a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
    cross = float((a.sum(0) * b.sum(0)).sum())
    whole = float(a.sum() * b.sum())
    value = float((a * b).sum()) + whole / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)
    return value / (n * (n - 3))


@dataclass(frozen=True)
class Overlap(Record):
    """Whether marks use the neurons of ordinary inputs.

    Parameters
    ----------
    jaccard
        Common share of the quarter of neurons that fire most often on each.
    correlation
        Spearman correlation of how often each neuron fires; NaN where all fire alike.
    """

    jaccard: float
    correlation: float


def activation_overlap(marks: FloatArray, ordinary: FloatArray) -> Overlap:
    """Compare the neurons that fire on marks with those that fire on ordinary inputs.

    Parameters
    ----------
    marks, ordinary
        Activations ``[n, neurons]`` and ``[m, neurons]``; positive means that it fires.

    Raises
    ------
    InvalidInput
        If the neurons differ or a side is empty.

    Examples
    --------
    >>> same = np.tile([1.0, 1.0, 0.0, 0.0], (5, 1))
    >>> activation_overlap(same, same).jaccard, activation_overlap(same, same[:, ::-1]).correlation
    (1.0, -1.0)
    """
    if marks.ndim != 2 or ordinary.ndim != 2 or marks.shape[1] != ordinary.shape[1]:  # noqa: PLR2004
        msg = f"activations must be of the same neurons, got {marks.shape} and {ordinary.shape}"
        raise InvalidInput(msg)
    if not len(marks) or not len(ordinary):
        msg = "activation overlap needs at least one row of each"
        raise InvalidInput(msg)
    fires = (marks > 0).mean(0), (ordinary > 0).mean(0)
    top = max(1, round(_TOP * marks.shape[1]))
    # Ties by index on both sides, so that equal patterns have equal sets.
    first, second = (set(np.argsort(-f, kind="stable")[:top].tolist()) for f in fires)
    flat = min(float(np.ptp(f)) for f in fires) == 0
    rank = float("nan") if flat else float(stats.spearmanr(*fires).statistic)
    return Overlap(len(first & second) / len(first | second), rank)


@dataclass(frozen=True)
class Entanglement(Record):
    """One layer of one network.

    Parameters
    ----------
    layer
        Name.
    snnl
        Soft nearest neighbour loss of marks against ordinary inputs at ``temperature``.
    temperature
        The probe, common to all networks that are compared.
    cka
        Debiased linear alignment over neurons. It is blind to signs: two disjoint halves
        of a layer read as aligned, which ``overlap`` then shows.
    overlap
        Of the neurons that fire.
    """

    layer: str
    snnl: float
    temperature: float
    cka: float
    overlap: Overlap


def measure_entanglement(
    network: nn.Module,
    marks: Tensor,
    ordinary: Tensor,
    *,
    layers: Sequence[str] | None = None,
    temperatures: dict[str, float] | None = None,
    distance: Distance = "cosine",
) -> list[Entanglement]:
    """Measure how far a network treats marks as it treats ordinary inputs, layer by layer.

    Parameters
    ----------
    network
        In any mode; it is left as it was.
    marks, ordinary
        Held-out marked inputs and ordinary inputs of the target class, ``[n, *shape]``
        each; as many are used as there are of both.
    layers
        Names; `default_taps` unless given.
    temperatures
        Probe for each layer. The median distance in this network unless given: take
        those of the unmarked model for all models that are compared, for a learned
        temperature makes every model read alike.
    distance
        See `soft_nearest_neighbour_loss`.

    Returns
    -------
    list of Entanglement
        In the order of the layers.

    Raises
    ------
    InvalidInput
        If there are fewer than 4 inputs of each kind, or a layer is unknown.

    References
    ----------
    Jia et al., USENIX Security 2021, section 6 (they align over examples, which are not
    paired here; neurons are).

    Examples
    --------
    >>> from assay.nets import build
    >>> found = measure_entanglement(build("mlp-8", (3,), 2), torch.rand(8, 3), torch.rand(9, 3))
    >>> [layer.layer for layer in found]
    ['body.2']
    """
    names = tuple(layers) if layers is not None else default_taps(network)
    n = min(len(marks), len(ordinary))
    if n < 4:  # noqa: PLR2004 - see `linear_cka`
        msg = f"entanglement needs at least 4 inputs of each kind, got {len(marks)} and {len(ordinary)}"
        raise InvalidInput(msg)
    seen = activations(network, torch.cat([marks[:n], ordinary[:n]]), names)
    groups = torch.arange(2).repeat_interleave(n)
    found = []
    for name in names:
        x = seen[name].flatten(1).double()
        probe = (temperatures or {}).get(name) or max(median_distance(x, distance), 1e-6)
        first, second = x[:n].numpy(), x[n:].numpy()
        found.append(
            Entanglement(
                layer=name,
                snnl=float(soft_nearest_neighbour_loss(x, groups, probe, distance=distance)),
                temperature=probe,
                cka=linear_cka(first.T, second.T) if first.shape[1] >= 4 else float("nan"),  # noqa: PLR2004
                overlap=activation_overlap(first, second),
            )
        )
    return found
