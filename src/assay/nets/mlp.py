"""Multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from assay.nets.network import Network
from assay.registry import register

__all__ = ["mlp"]


@register("mlp", kind="architecture")
def mlp(input_shape: Sequence[int], num_classes: int, *hidden: int) -> Network:
    """Fully connected ReLU network; ``mlp-256-128`` has two hidden layers (the default).

    Parameters
    ----------
    input_shape, num_classes
        Shape of one input and number of classes.
    hidden
        Widths of the hidden layers.

    Examples
    --------
    >>> mlp((4,), 3, 8).architecture
    'mlp-8'
    """
    widths = hidden or (256, 128)
    layers: list[nn.Module] = [nn.Flatten()]
    previous = math.prod(input_shape)
    for width in widths:
        layers += [nn.Linear(previous, width), nn.ReLU()]
        previous = width
    name = "-".join(map(str, ("mlp", *widths)))
    return Network(name, input_shape, num_classes, nn.Sequential(*layers), previous)
