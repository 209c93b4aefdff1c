"""Channels where they are read: how active each is, and how to silence it.

A channel is removed by zeroing the weights that read it. That takes it away exactly,
whatever made it: zeroing the filter that writes it would not, because a normalisation
behind the filter adds a constant and a residual connection carries the channel past it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.removal.layers import Weighted, executed

__all__ = ["Reader", "activity", "count_of", "readers", "silence"]

_BATCH = 128


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that reads hidden channels.

    Parameters
    ----------
    layer
        Linear, or convolutional without groups.
    channels, width
        Number of channels, and columns of the weight to each: the positions of a
        flattened map, otherwise 1.
    behind_convolution
        Whether the layer before it is convolutional.
    """

    layer: Weighted
    channels: int
    width: int
    behind_convolution: bool


def count_of(share: float, total: int) -> int:
    """Return the whole number nearest to ``share`` of ``total``, less than all of it.

    Examples
    --------
    >>> count_of(0.29, 100), count_of(0.99, 10)
    (29, 9)
    """
    return min(round(share * total), total - 1)


def readers(network: nn.Module, data: Dataset, attack: str) -> list[Reader]:
    """Return the layers that read hidden channels, in the order in which they run.

    The first layer is none of them: it reads the input.

    Raises
    ------
    InvalidInput
        If there are none.
    """
    ran = executed(network, data.x[:1])
    found: dict[int, Reader] = {}
    for (before, _), (layer, shape) in itertools.pairwise(ran):
        convolution = not isinstance(before, nn.Linear)
        plain = isinstance(layer, nn.Linear) or layer.groups == 1
        if id(layer) in found or not plain or not isinstance(layer.weight, nn.Parameter):
            continue
        inputs = layer.weight.shape[1]
        flattened = isinstance(layer, nn.Linear) and len(shape) == 2 and convolution  # noqa: PLR2004 - [n, d]
        maps = len(before.weight) if flattened and inputs % len(before.weight) == 0 else inputs
        if maps > 1:
            found[id(layer)] = Reader(layer, maps, inputs // maps, convolution)
    if not found:
        msg = f"{attack} needs a network with hidden channels; this one has no layer that reads any"
        raise InvalidInput(msg)
    return list(found.values())


@torch.no_grad()
def activity(network: nn.Module, chosen: Sequence[Reader], x: Tensor) -> list[Tensor]:
    """Return the mean absolute value of each channel over rows and positions, float64 ``[channels]``.

    Behind a ReLU, this is the mean activation.
    """
    totals = [torch.zeros(reader.channels, dtype=torch.float64) for reader in chosen]
    seen = [0] * len(chosen)
    places = {id(reader.layer): place for place, reader in enumerate(chosen)}

    def add(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        place = places[id(layer)]
        reader, values = chosen[place], inputs[0].detach().abs()
        if isinstance(layer, nn.Linear):
            values = values.reshape(-1, reader.channels, reader.width)
        else:
            values = values.flatten(2)
        seen[place] += values.shape[0] * values.shape[2]
        totals[place] += values.sum((0, 2), dtype=torch.float64).cpu()

    device = next(network.parameters()).device
    handles = [reader.layer.register_forward_pre_hook(add) for reader in chosen]
    try:
        for start in range(0, len(x), _BATCH):
            network(x[start : start + _BATCH].to(device))
    finally:
        for handle in handles:
            handle.remove()
    return [total / count for total, count in zip(totals, seen, strict=True)]


@torch.no_grad()
def silence(reader: Reader, channels: Tensor) -> Tensor:
    """Zero the weights that read ``channels`` and return the mask of the weights kept."""
    weight = reader.layer.weight
    keep = torch.ones(reader.channels, dtype=torch.bool)
    keep[channels] = False
    columns = keep.repeat_interleave(reader.width).view(1, -1, *[1] * (weight.ndim - 2))
    mask = columns.expand_as(weight).to(weight.device)
    weight.masked_fill_(~mask, 0.0)
    return mask
