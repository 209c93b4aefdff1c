"""Layers in front of a network that change its inputs: compression, blur, noise, fewer levels.

A service can put them before any model. They are part of the network here, so that one
file of weights holds everything that is asked.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.errors import InvalidInput
from assay.nets.jpeg import compress
from assay.nets.network import Network, Normalize
from assay.nets.per_row import draw_per_row

__all__ = ["INPUT_LAYERS", "Fronted", "InputLayer", "put_in_front"]

_IMAGES = 4
_RADIUS = 4  # of the Gaussian, in pixels: two standard deviations of the widest


class InputLayer(nn.Module, ABC):
    """Base of layers that change inputs within their range.

    Gradients pass as if nothing was changed, because a rounding has none: whoever
    computes inputs against the network has to do the same.

    Parameters
    ----------
    strength
        What it means is up to the layer; None for the usual one.
    low, high
        Range of the inputs; values outside are cut.

    Raises
    ------
    InvalidInput
        If the strength or the range is out of range.

    References
    ----------
    Athalye, Carlini and Wagner, "Obfuscated Gradients Give a False Sense of Security",
    ICML 2018, section 4.1, on gradients through such layers.
    """

    name: ClassVar[str]
    images: ClassVar[bool] = True
    usual: ClassVar[float] = 0.0
    bounds: ClassVar[tuple[float, float]] = (0.0, 0.0)
    # In the state and not in the name, so that a digest of weights tells one strength from another.
    settings: Tensor

    def __init__(self, strength: float | None = None, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        value = self.usual if strength is None else float(strength)
        least, most = self.bounds
        if not least <= value <= most:
            msg = f"the strength of {self.name} must be in [{least:g}, {most:g}], got {value!r}"
            raise InvalidInput(msg)
        if not -math.inf < low < high < math.inf:
            msg = f"{self.name} needs a finite range of inputs, got {low!r} to {high!r}"
            raise InvalidInput(msg)
        self.register_buffer("settings", torch.tensor([value, low, high]))

    @abstractmethod
    def change(self, unit: Tensor, strength: Tensor) -> Tensor:
        """Return changed inputs; both are ``[n, *shape]`` in [0, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the changed inputs, ``[n, *shape]``."""
        if self.images and x.ndim != _IMAGES:
            msg = f"{self.name} works on images [n, channels, height, width], got {list(x.shape)}"
            raise InvalidInput(msg)
        if x.is_meta:  # shapes are being checked, and no layer changes them
            return x
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            strength, low, high = self.settings.float().unbind()
            unit = ((x.float() - low) / (high - low)).clamp(0, 1)
            # A forged file may hold any strength; it must not lead out of the layer's own range.
            changed = self.change(unit, strength.clamp(*self.bounds))
            changed = (low + (high - low) * changed.clamp(0, 1)).to(x.dtype)
        return x + (changed - x).detach() if x.requires_grad else changed


class Jpeg(InputLayer):
    """JPEG at a quality of 1 to 100, without subsampling of colours."""

    name = "jpeg"
    usual = 65.0
    bounds = (1.0, 100.0)

    def change(self, unit: Tensor, strength: Tensor) -> Tensor:
        """Compress and decompress."""
        return compress(unit, strength)


class Gaussian(InputLayer):
    """Gaussian blur with a standard deviation of up to 2 pixels."""

    name = "gaussian"
    usual = 0.6
    bounds = (0.05, 2.0)

    def change(self, unit: Tensor, strength: Tensor) -> Tensor:
        """Blur rows, then columns."""
        place = torch.arange(-_RADIUS, _RADIUS + 1, device=unit.device)
        taps = torch.exp(-(place**2) / (2 * strength**2))
        taps = taps / taps.sum()
        channels = unit.shape[1]
        padded = functional.pad(unit, (_RADIUS,) * 4, mode="replicate")
        down = functional.conv2d(padded, taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
        return functional.conv2d(down, taps.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


class Mean(InputLayer):
    """Mean of the 3 x 3 pixels around each."""

    name = "mean"

    def change(self, unit: Tensor, strength: Tensor) -> Tensor:  # noqa: ARG002 - it has none
        """Filter."""
        return functional.avg_pool2d(functional.pad(unit, (1,) * 4, mode="replicate"), 3, 1)


class Median(InputLayer):
    """Median of the 3 x 3 pixels around each."""

    name = "median"

    def change(self, unit: Tensor, strength: Tensor) -> Tensor:  # noqa: ARG002 - it has none
        """Filter."""
        around = functional.pad(unit, (1,) * 4, mode="replicate").unfold(2, 3, 1).unfold(3, 3, 1)
        return around.flatten(-2).median(-1).values


class Noise(InputLayer):
    """Gaussian noise, as a share of the range; the same input gets the same noise."""

    name = "noise"
    images = False
    usual = 0.05
    bounds = (0.0, 1.0)

    def change(self, unit: Tensor, strength: Tensor) -> Tensor:
        """Add noise."""
        if not len(unit):
            return unit
        drawn = draw_per_row(unit, lambda generator: torch.randn(unit.shape[1:], generator=generator))
        return unit + strength * drawn.to(unit.device)


class Levels(InputLayer):
    """Round to 2 to 256 even levels; b bits are 2^b levels."""

    name = "levels"
    images = False
    usual = 16.0
    bounds = (2.0, 256.0)

    def change(self, unit: Tensor, strength: Tensor) -> Tensor:
        """Round."""
        steps = strength.round() - 1
        return (unit * steps).round() / steps


class Flip(InputLayer):
    """Left becomes right."""

    name = "flip"

    def change(self, unit: Tensor, strength: Tensor) -> Tensor:  # noqa: ARG002 - it has none
        """Mirror."""
        return unit.flip(-1)


INPUT_LAYERS: dict[str, type[InputLayer]] = {
    layer.name: layer for layer in (Jpeg, Gaussian, Mean, Median, Noise, Levels, Flip)
}
"""Layers by the names that architectures use, as in ``"jpeg+cnn-8"``."""


class Fronted(Normalize):
    """Input layers, then a normalisation: what stands first in a network.

    Parameters
    ----------
    normalize
        The network's own.
    layers
        In the order in which inputs meet them.

    Examples
    --------
    >>> front = Fronted(Normalize(1), [Levels(2.0)])
    >>> front(torch.tensor([[[[0.2, 0.9]]]])).tolist()
    [[[[0.0, 1.0]]]]
    """

    def __init__(self, normalize: Normalize, layers: Sequence[InputLayer]) -> None:
        super().__init__(len(normalize.mean))
        self.mean, self.std = normalize.mean, normalize.std
        self.layers = nn.Sequential(*layers)

    def fit(self, x: Tensor) -> None:
        """Take mean and standard deviation from what the layers make of ``x``."""
        super().fit(self.layers(x))

    def forward(self, x: Tensor) -> Tensor:
        """Change, then normalise."""
        return super().forward(self.layers(x))


def put_in_front(network: Network, layer: InputLayer) -> None:
    """Put a layer before everything that ``network`` does with its inputs, in place.

    Its architecture is then ``layer+`` what it was, as in ``"jpeg+cnn-8"``.

    Examples
    --------
    >>> from assay.nets import build
    >>> network = build("cnn-4", (1, 8, 8), 2)
    >>> put_in_front(network, Flip())
    >>> network.architecture
    'flip+cnn-4'
    """
    before = network.normalize
    layers = [layer, *before.layers] if isinstance(before, Fronted) else [layer]
    network.normalize = Fronted(before, layers).to(before.mean.device).train(network.training)
    network.architecture = f"{layer.name}+{network.architecture}"
