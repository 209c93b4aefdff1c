"""Residual networks for small images: wide (pre-activation) and ResNet-18."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from assay.errors import InvalidInput
from assay.nets.network import Network
from assay.registry import register

__all__ = ["resnet", "wrn"]


class _PreActivation(nn.Module):
    """Norm-ReLU-conv twice beside a shortcut (He et al. 2016, Zagoruyko and Komodakis 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = torch.relu(self.norm1(x))
        residual = self.conv1(activated)
        residual = self.conv2(self.dropout(torch.relu(self.norm2(residual))))
        # Projections read the activated input, identities the raw one.
        return cast("Tensor", residual + (x if self.shortcut is None else self.shortcut(activated)))


class _Basic(nn.Module):
    """Conv-norm-ReLU-conv-norm beside a shortcut, ReLU after the sum (He et al. 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        self.shortcut: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(residual + self.shortcut(x))


@register("wrn", kind="architecture")
def wrn(
    input_shape: Sequence[int], num_classes: int, depth: int = 16, widen: int = 1, dropout_percent: int = 0
) -> Network:
    """Wide residual network WRN-d-k; ``wrn-16-1``, or ``wrn-28-10-30`` with 30 % dropout.

    Parameters
    ----------
    input_shape
        ``(channels, height, width)``.
    num_classes
        Number of classes.
    depth
        6 n + 4 for a whole n.
    widen
        Factor on the widths 16, 32, 64.
    dropout_percent
        Dropout between the convolutions of a block, in percent.

    References
    ----------
    Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016.
    """
    if depth < 10 or (depth - 4) % 6:  # noqa: PLR2004
        msg = f"wrn depth must be 6 n + 4 (10, 16, 22, 28, 40, ...), got {depth}"
        raise InvalidInput(msg)
    widths = (16, 16 * widen, 32 * widen, 64 * widen)
    layers: list[nn.Module] = [nn.Conv2d(input_shape[0], widths[0], 3, padding=1, bias=False)]
    for stage in range(3):
        for block in range((depth - 4) // 6):
            inputs = widths[stage] if block == 0 else widths[stage + 1]
            stride = 2 if block == 0 and stage > 0 else 1
            layers.append(_PreActivation(inputs, widths[stage + 1], stride, dropout_percent / 100))
    body = nn.Sequential(*layers, nn.BatchNorm2d(widths[3]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    suffix = f"-{dropout_percent}" if dropout_percent else ""
    return Network(f"wrn-{depth}-{widen}{suffix}", input_shape, num_classes, body, widths[3])


@register("resnet", kind="architecture")
def resnet(input_shape: Sequence[int], num_classes: int, depth: int = 18, width: int = 64) -> Network:
    """ResNet-18 with the 3x3 stem for small images; ``resnet-18``, or narrower ``resnet-18-16``.

    Parameters
    ----------
    input_shape
        ``(channels, height, width)``.
    num_classes
        Number of classes.
    depth
        10 or 18.
    width
        Channels of the first stage (64 as published).

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
    """
    blocks = {10: 1, 18: 2}.get(depth)
    if blocks is None:
        msg = f"resnet depth must be 10 or 18, got {depth}"
        raise InvalidInput(msg)
    layers: list[nn.Module] = [
        nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    inputs = width
    for stage in range(4):
        for block in range(blocks):
            outputs = width * 2**stage
            layers.append(_Basic(inputs, outputs, 2 if block == 0 and stage > 0 else 1))
            inputs = outputs
    body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network(f"resnet-{depth}-{width}", input_shape, num_classes, body, inputs)
