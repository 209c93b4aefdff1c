"""From an architecture's name to a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from assay.errors import InvalidInput
from assay.nets.network import Network, initialise
from assay.registry import get

__all__ = ["build"]


def build(name: str, input_shape: Sequence[int], num_classes: int, rng: int | torch.Generator = 0) -> Network:
    """Build and initialise the network called ``name``, for example ``"wrn-16-1"``.

    Parameters
    ----------
    name
        A registered architecture, then its whole-number arguments, joined by hyphens.
    input_shape, num_classes
        Shape of one input, without the batch axis, and number of classes.
    rng
        Seed or generator of the initial weights. Global random state is left alone.

    Raises
    ------
    UnknownName
        If no architecture has that name.
    InvalidInput
        If its arguments or the input shape do not fit it.

    Examples
    --------
    >>> net = build("mlp-8", (4,), 3)
    >>> net(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """
    family, *rest = name.split("-")
    entry = get(family, "architecture")
    if not all(part.isdigit() and int(part) > 0 for part in rest):
        msg = f"architecture {name!r}: what follows {family!r} must be whole numbers, as in 'wrn-16-1'"
        raise InvalidInput(msg)
    try:
        shape = tuple(int(n) for n in input_shape)
    except TypeError as error:
        msg = f"input_shape must be a sequence of whole numbers, got {input_shape!r}"
        raise InvalidInput(msg) from error
    generator = rng if isinstance(rng, torch.Generator) else torch.Generator().manual_seed(rng)
    try:
        with torch.random.fork_rng(devices=[]):  # constructors draw weights that are replaced below
            network = cast("Network", entry.target(shape, num_classes, *map(int, rest)))
        with torch.no_grad():  # a table for a convolution, an image too small to pool: found here, not later
            network.eval()(torch.zeros(1, *shape))
        network.train()
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, InvalidInput):
            raise
        msg = f"architecture {name!r} does not fit inputs of shape {shape}: {error}"
        raise InvalidInput(msg) from error
    initialise(cast("nn.Module", network), generator)
    return network
