"""Plain convolutional networks: a LeNet-like one and VGG."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from assay.errors import InvalidInput
from assay.nets.network import Network
from assay.registry import register

__all__ = ["cnn", "vgg"]

# Convolutions between poolings, Simonyan and Zisserman 2015, table 1; 8 is ours, for small machines.
_VGG = {8: (1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3)}


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


@register("cnn", kind="architecture")
def cnn(input_shape: Sequence[int], num_classes: int, width: int = 32) -> Network:
    """Small LeNet-like network: two convolutions, two poolings, one hidden layer; ``cnn-32``.

    Parameters
    ----------
    input_shape
        ``(channels, height, width)``.
    num_classes
        Number of classes.
    width
        Channels of the first convolution; the second has twice as many.

    Examples
    --------
    >>> cnn((1, 28, 28), 10, 16).architecture
    'cnn-16'
    """
    channels, height, breadth = input_shape
    if min(height, breadth) < 4:  # noqa: PLR2004 - two poolings would leave nothing
        msg = f"cnn needs images of at least 4 x 4 pixels, got {height} x {breadth}"
        raise InvalidInput(msg)
    body = nn.Sequential(
        *_block(channels, width),
        nn.MaxPool2d(2),
        *_block(width, 2 * width),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (height // 4) * (breadth // 4), 4 * width),
        nn.ReLU(),
    )
    return Network(f"cnn-{width}", input_shape, num_classes, body, 4 * width)


@register("vgg", kind="architecture")
def vgg(input_shape: Sequence[int], num_classes: int, depth: int = 11, width: int = 64) -> Network:
    """VGG with batch normalisation and global pooling; ``vgg-11`` or, narrower, ``vgg-8-16``.

    Parameters
    ----------
    input_shape
        ``(channels, height, width)``.
    num_classes
        Number of classes.
    depth
        8, 11, 13 or 16.
    width
        Channels of the first stage (64 as published).

    References
    ----------
    Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, table 1.
    """
    if depth not in _VGG:
        msg = f"vgg depth must be one of {sorted(_VGG)}, got {depth}"
        raise InvalidInput(msg)
    channels, size = input_shape[0], min(input_shape[1:])
    layers: list[nn.Module] = []
    for stage, repeats in enumerate(_VGG[depth]):
        outputs = width * min(2**stage, 8)
        for _ in range(repeats):
            layers += _block(channels, outputs)
            channels = outputs
        if size >= 2:  # noqa: PLR2004 - nothing left to pool on small images
            layers.append(nn.MaxPool2d(2))
            size //= 2
    body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network(f"vgg-{depth}-{width}", input_shape, num_classes, body, channels)
