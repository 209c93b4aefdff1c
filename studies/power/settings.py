"""What the power study trains: pools, architectures, recipes, thieves, independent models."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from assay.data import Dataset, load_data
from assay.nets import Recipe

__all__ = ["SETTINGS", "Parts", "Setting", "half", "parts"]

_ADAM = Recipe(epochs=25, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="cosine")
_AUGMENTED = Recipe(epochs=24, augment="crop-flip")


@dataclass(frozen=True)
class Setting:
    """One data set, one victim architecture.

    ``pool`` rows are split by each victim's secret coin, half of them private;
    ``queries`` are the thieves' inputs; ``outside`` rows train independent models;
    ``evaluation`` rows measure accuracy. The four parts are disjoint.
    """

    data: str
    order: tuple[str, str]
    pool: int
    queries: int
    outside: int
    evaluation: int
    architecture: str
    other: str
    models: int
    victims: int
    victim: Recipe
    thief: Recipe
    distil: Recipe
    fine: Recipe
    theft: Recipe
    extra: int = 0  # further references of the other architecture, on random halves of their own
    kept: int = 5000
    independent: tuple[tuple[str, Recipe, int], ...] = field(default=())


def _independent(other: str, epochs: int) -> tuple[tuple[str, Recipe, int], ...]:
    """Return architectures, recipes and counts of 30 models that know nothing of any coin."""
    table = Recipe(epochs=12, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="cosine")
    return (
        (other, Recipe(epochs=2 * epochs, lr=0.05), 6),
        ("cnn-16", Recipe(epochs=2 * epochs, lr=0.05), 6),
        ("cnn-32", Recipe(epochs=epochs, lr=0.05), 4),
        ("mlp", table, 7),
        ("mlp-384-64", table, 7),
    )


def _fashion(architecture: str, other: str, models: int, victims: int, **recipes: Recipe) -> Setting:
    return Setting(
        data="fashion-mnist",
        order=("train", "test"),
        pool=16_000,
        queries=24_000,
        outside=16_000,
        evaluation=10_000,
        architecture=architecture,
        other=other,
        models=models,
        victims=victims,
        independent=_independent("vgg-8-8", 3),
        **recipes,
    )


SETTINGS = {
    "fashion-mlp": _fashion(
        "mlp",
        "mlp-384-64",
        models=64,
        victims=12,
        victim=_ADAM,
        thief=Recipe(epochs=15, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="cosine"),
        distil=_ADAM,
        fine=Recipe(epochs=5, lr=0.003),
        theft=_ADAM,
    ),
    "fashion-cnn": _fashion(
        "cnn-16",
        "vgg-8-8",
        models=16,
        victims=10,
        victim=Recipe(epochs=16, lr=0.05),
        thief=Recipe(epochs=8, lr=0.05),
        distil=Recipe(epochs=16, lr=0.05),
        fine=Recipe(epochs=4, lr=0.01),
        theft=Recipe(epochs=16, lr=0.05),
    ),
    "cifar10-wrn": Setting(
        data="cifar10",
        order=("test", "train"),
        pool=20_000,
        queries=25_000,
        outside=10_000,
        evaluation=5_000,
        architecture="wrn-16-1",
        other="vgg-8-16",
        models=6,
        victims=3,
        extra=12,
        victim=_AUGMENTED,
        thief=Recipe(epochs=8, augment="crop-flip"),
        distil=Recipe(epochs=16, augment="crop-flip"),
        fine=Recipe(epochs=4, lr=0.01),
        theft=_AUGMENTED,
        kept=10_000,
        independent=_independent("vgg-8-16", 5),
    ),
}


@dataclass(frozen=True)
class Parts:
    """The four disjoint parts of a setting's data."""

    pool: Dataset
    queries: Dataset
    outside: Dataset
    evaluation: Dataset


def parts(setting: Setting) -> Parts:
    """Draw the four parts from the pooled official parts, by a fixed seed."""
    first, second = (load_data(setting.data, split=name) for name in setting.order)
    data = first.concat(second)
    order = torch.from_numpy(np.random.default_rng(20260).permutation(len(data)))
    found, start = [], 0
    for rows in (setting.pool, setting.queries, setting.outside, setting.evaluation):
        found.append(data.subset(order[start : start + rows]))
        start += rows
    return Parts(*found)


def half(rows: int, index: int) -> torch.Tensor:
    """Return the coin of pool model ``index``: a uniformly random half, bool ``[rows]``."""
    coin = torch.zeros(rows, dtype=torch.bool)
    generator = torch.Generator().manual_seed(1000 + index)
    coin[torch.randperm(rows, generator=generator)[: rows // 2]] = True
    return coin
