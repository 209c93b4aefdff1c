"""Honest users who are not average, and suspects: what prices are fitted and judged on.

Profiles are made from trusted traffic by shifts that happen to honest people: other
favourite classes, a worse camera, only the clear or only the doubtful cases. None of them
looks at log q, so that no profile is honest by construction.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from assay.data.dataset import Dataset
from assay.data.pools import POOLS, blurred, foreign, synthesise
from assay.errors import InvalidInput

__all__ = ["PROFILES", "honest_profiles", "suspect_pools"]

PROFILES: dict[str, str] = {
    "typical": "the traffic as it is",
    "skewed": "four of five queries from a few classes",
    "blurred": "images slightly out of focus; tables drawn towards their means",
    "grainy": "a little noise on every value, 2 % of the range",
    "easier": "the half that the model is surest about",
    "harder": "the half that the model is least sure about",
    "bursty": "the traffic in runs of about eight equally doubtful queries",
}
"""Names of the honest profiles with one line about each."""

_FAVOURITES, _FAVOURED = 0.3, 0.8
_GRAIN = 0.02
_IMAGE_AXES, _SMALL_SIDE = 3, 16
_LEAST_ROWS = 40


def honest_profiles(traffic: Dataset, scores: Tensor, *, rng: int = 0) -> dict[str, Dataset]:
    """Make the shifted honest profiles from trusted traffic.

    Parameters
    ----------
    traffic
        Trusted queries; their labels are not used. At least 40.
    scores
        The served model's class probabilities for them, ``[n, k]``: "sure" and
        "favourite class" are meant by its own answers.
    rng
        Seed.

    Returns
    -------
    dict
        One data set for each of `PROFILES`. ``"bursty"`` has the inputs of
        ``"typical"``; what is different is the order, see
        `assay.gateway.simulation.Profile`.

    Raises
    ------
    InvalidInput
        If there is too little traffic.

    Examples
    --------
    >>> traffic = Dataset(torch.rand(60, 3), torch.zeros(60, dtype=torch.int64), ("a", "b"))
    >>> found = honest_profiles(traffic, torch.rand(60, 2).softmax(1))
    >>> list(found) == list(PROFILES), len(found["harder"])
    (True, 30)
    """
    if len(traffic) < _LEAST_ROWS or len(scores) != len(traffic):
        msg = f"honest profiles need {_LEAST_ROWS} trusted queries with their scores, got {len(traffic)}"
        raise InvalidInput(msg)
    generator = np.random.default_rng(rng)
    sure = scores.max(1).values.argsort(descending=True, stable=True).numpy()
    half = len(sure) // 2
    return {
        "typical": traffic,
        "skewed": traffic.subset(_skewed(scores.argmax(1).numpy(), generator), "skewed"),
        "blurred": blurred(traffic, share=_focus(traffic.input_shape)),
        "grainy": _grainy(traffic, generator),
        "easier": traffic.subset(generator.permutation(sure[:half]), "easier"),
        "harder": traffic.subset(generator.permutation(sure[half:]), "harder"),
        "bursty": traffic,
    }


def suspect_pools(
    traffic: Dataset, others: Mapping[str, Dataset], rows: int, *, rng: int = 0
) -> dict[str, Dataset]:
    """Return the pools of suspect queries: all synthesised kinds, and given foreign data.

    Parameters
    ----------
    traffic
        Trusted queries from which blends, shuffles and the like are made.
    others
        Inputs of other tasks, brought into the right shape where they are not.
    rows
        Rows of each pool, at least 1.
    rng
        Seed.

    Examples
    --------
    >>> traffic = Dataset(torch.rand(60, 3), torch.zeros(60, dtype=torch.int64), ("a", "b"))
    >>> sorted(suspect_pools(traffic, {}, 20))
    ['blends', 'inversions', 'noise', 'shuffles', 'sign-noise']
    """
    pools = {kind: synthesise(traffic, kind, rows, rng=rng + i) for i, kind in enumerate(POOLS)}
    for name, data in others.items():
        if name in pools:
            msg = f"{name!r} is the name of a synthesised pool; call the given one something else"
            raise InvalidInput(msg)
        order = np.random.default_rng(rng).permutation(len(data))[:rows]
        pools[name] = foreign(
            data.subset(order), traffic.input_shape, traffic.classes, value_range=traffic.value_range
        )
    return pools


def _focus(shape: tuple[int, ...]) -> float:
    """Return how much blur is slight: the same filter takes more from a small image."""
    small = len(shape) == _IMAGE_AXES and min(shape[1:]) < _SMALL_SIDE
    return 0.5 if small else 1.0


def _skewed(classes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    names = np.unique(classes)
    loved = generator.choice(names, max(1, round(_FAVOURITES * len(names))), replace=False)
    inside, outside = np.flatnonzero(np.isin(classes, loved)), np.flatnonzero(~np.isin(classes, loved))
    others = round(len(inside) * (1 - _FAVOURED) / _FAVOURED)
    chosen = np.concatenate([inside, generator.permutation(outside)[:others]])
    return generator.permutation(chosen)


def _grainy(traffic: Dataset, generator: np.random.Generator) -> Dataset:
    low, high = traffic.value_range
    finite = np.isfinite(low) and np.isfinite(high)
    scale = torch.tensor(high - low) if finite else traffic.x.amax(0) - traffic.x.amin(0)
    noise = torch.from_numpy(generator.standard_normal(tuple(traffic.x.shape), dtype=np.float32))
    x = (traffic.x + _GRAIN * scale * noise).clamp(low, high)
    return Dataset(x, traffic.y, traffic.classes, traffic.value_range, "grainy")
