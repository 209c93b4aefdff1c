"""What every network of ours has: normalisation inside, features, and a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from assay.errors import InvalidInput

__all__ = ["Network", "Normalize", "initialise"]


class Normalize(nn.Module):
    """Subtract a per-channel mean and divide by a per-channel standard deviation.

    The first layer of every network, so that inputs stay in the data's own range and
    attacks clip where the data ends.

    Parameters
    ----------
    channels
        Length of the second axis of the inputs.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def fit(self, x: Tensor) -> None:
        """Take mean and standard deviation from inputs ``[n, channels, ...]``."""
        axes = [0, *range(2, x.ndim)]
        self.mean.copy_(x.mean(axes))
        # A constant column has no scale; dividing by 1 leaves it at zero.
        std = x.std(axes) if len(x) > 1 else torch.ones_like(self.std)
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))  # noqa: PLR2004

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised inputs."""
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return (x - self.mean.view(shape)) / self.std.view(shape)


class Network(nn.Module):
    """Normalise, extract features ``[n, d]``, classify linearly.

    Parameters
    ----------
    name
        Architecture name from which `assay.nets.build` makes the same network again.
    input_shape, num_classes
        Shape of one input and number of classes.
    body
        From normalised inputs to features ``[n, features]``.
    features
        Width of the features.
    """

    def __init__(
        self, name: str, input_shape: Sequence[int], num_classes: int, body: nn.Module, features: int
    ) -> None:
        super().__init__()
        if num_classes < 2:  # noqa: PLR2004
            msg = f"architecture {name}: at least 2 classes are needed, got {num_classes}"
            raise InvalidInput(msg)
        self.architecture = name
        self.input_shape = tuple(input_shape)
        self.num_classes = num_classes
        self.normalize = Normalize(self.input_shape[0])
        self.body = body
        self.head = nn.Linear(features, num_classes)

    def embed(self, x: Tensor) -> Tensor:
        """Return the features that the head sees, ``[n, d]``."""
        return cast("Tensor", self.body(self.normalize(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[n, num_classes]``."""
        return cast("Tensor", self.head(self.embed(x)))


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights from ``generator``: He-normal for hidden layers, small for the rest."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
