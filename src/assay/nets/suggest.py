"""Defaults for callers who name neither an architecture nor a recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence

from assay.nets.recipe import Recipe

__all__ = ["suggest_architecture", "suggest_recipe"]

_SMALL, _MEDIUM = 16, 30


def suggest_architecture(input_shape: Sequence[int]) -> str:
    """Return an architecture that trains in minutes on two cores.

    Tables and images below 16 pixels get a perceptron, grey images around 28 pixels a
    small convolutional network, larger ones a WRN-16-1.

    Examples
    --------
    >>> [suggest_architecture(s) for s in [(4,), (1, 8, 8), (1, 28, 28), (3, 32, 32)]]
    ['mlp-64', 'mlp-128', 'cnn-16', 'wrn-16-1']
    """
    if len(input_shape) != 3:  # noqa: PLR2004 - [channels, height, width]
        return "mlp-64" if math.prod(input_shape) < 64 else "mlp"  # noqa: PLR2004
    size = min(input_shape[1:])
    if size < _SMALL:
        return "mlp-128"
    return "cnn-16" if size < _MEDIUM else "wrn-16-1"


def suggest_recipe(architecture: str, rows: int) -> Recipe:
    """Return a recipe that fits an architecture and a number of training rows.

    Perceptrons train with Adam; convolutional networks with SGD, residual ones with
    shifts and flips as well. Small sets get more epochs, so that every training takes
    a comparable number of steps.

    Examples
    --------
    >>> suggest_recipe("mlp-64", 1000).optimizer, suggest_recipe("wrn-16-1", 50_000).augment
    ('adam', 'crop-flip')
    """
    batch = 32 if rows < 2_000 else 128  # noqa: PLR2004
    if architecture.startswith("mlp"):
        epochs = min(100, max(25, 40_000 // max(rows, 1)))
        return Recipe(
            epochs=epochs, batch_size=batch, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="cosine"
        )
    if architecture.startswith("cnn"):
        return Recipe(epochs=min(60, max(10, 120_000 // max(rows, 1))), batch_size=batch, lr=0.05)
    epochs = min(60, max(15, 240_000 // max(rows, 1)))
    return Recipe(epochs=epochs, batch_size=batch, lr=0.1, augment="crop-flip")
