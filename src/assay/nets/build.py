"""From an architecture's name to a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from assay.errors import InvalidInput, UnknownName
from assay.nets.filtered_head import FILTERS, FilteredHead, guard
from assay.nets.input_layers import INPUT_LAYERS, put_in_front
from assay.nets.network import Network, initialise
from assay.registry import get, nearest

__all__ = ["base_architecture", "build"]

_MOST_PARTS = 8  # a file names its architecture; it must not name a tower


def build(name: str, input_shape: Sequence[int], num_classes: int, rng: int | torch.Generator = 0) -> Network:
    """Build and initialise the network called ``name``, for example ``"wrn-16-1"``.

    Parameters
    ----------
    name
        A registered architecture, then its whole-number arguments, joined by hyphens.
        Before it may stand input layers of `assay.nets.input_layers` and a filter of
        `assay.nets.filtered_head`, each with a plus sign, as in ``"jpeg+wrn-16-1"``.
        They do what is usual or nothing until weights are loaded.
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
    *parts, base = name.split("+")
    family, *rest = base.split("-")
    entry = get(family, "architecture")
    if not all(_is_count(part) for part in rest):
        msg = f"architecture {name!r}: what follows {family!r} must be whole numbers, as in 'wrn-16-1'"
        raise InvalidInput(msg)
    if len(parts) > _MOST_PARTS:
        msg = f"architecture {name!r} has {len(parts)} layers in front; at most {_MOST_PARTS} are supported"
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
            for part in reversed(parts):
                _add(network, part)
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


def base_architecture(name: str) -> str:
    """Return an architecture's name without what stands before the network itself.

    Examples
    --------
    >>> base_architecture("jpeg+forest-100+cnn-8")
    'cnn-8'
    """
    return name.rpartition("+")[2]


def _is_count(text: str) -> bool:
    return text.isdigit() and int(text) > 0


def _add(network: Network, part: str) -> None:
    name, *rest = part.split("-")
    if name in INPUT_LAYERS and not rest:
        put_in_front(network, INPUT_LAYERS[name]())
    elif name in FILTERS and len(rest) < 2 and all(_is_count(text) for text in rest):  # noqa: PLR2004 - its size
        score = FILTERS[name](network.head.in_features, *map(int, rest))
        guard(network, FilteredHead(network.head, score))
    else:
        raise UnknownName(nearest(part, [*INPUT_LAYERS, *FILTERS], "part of an architecture"))
