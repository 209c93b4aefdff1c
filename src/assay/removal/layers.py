"""The layers that hold a network's weights: a copy to work on, the last layer, fresh draws."""

from __future__ import annotations

import copy
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput

__all__ = ["WEIGHTED", "Weighted", "copied", "executed", "last_layer", "redraw", "replace", "weights"]

Weighted: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def copied(module: nn.Module, attack: str) -> nn.Module:
    """Return a float32 copy in evaluation mode, every weight trainable and without gradient.

    Raises
    ------
    InvalidInput
        If the network cannot be copied or has no trainable weights, for example because
        it is quantised.
    """
    try:
        network = copy.deepcopy(module).float().eval()
    except (RuntimeError, TypeError) as error:
        msg = f"{attack} cannot copy the network: {error}"
        raise InvalidInput(msg) from error
    found = [p.requires_grad_() for p in network.parameters() if p.is_floating_point()]
    if not found:
        msg = f"{attack} finds no trainable weights in the network; a quantised one has none"
        raise InvalidInput(msg)
    for parameter in found:
        parameter.grad = None
    return network


def weights(network: nn.Module, attack: str) -> dict[str, nn.Parameter]:
    """Return the weights of linear and convolutional layers by name, tied ones once.

    Biases and normalisation layers are left out: they are few, small, and decide more
    than their size tells.

    Raises
    ------
    InvalidInput
        If there are none.

    Examples
    --------
    >>> list(weights(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), "pruning"))
    ['0.weight']
    """
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for name, layer in network.named_modules():
        # A parametrised weight is computed; changing it would change nothing.
        if isinstance(layer, WEIGHTED) and isinstance(layer.weight, nn.Parameter):
            if layer.weight.is_floating_point() and id(layer.weight) not in seen:
                found[f"{name}.weight" if name else "weight"] = layer.weight
            seen.add(id(layer.weight))
    if not found:
        msg = f"{attack} needs linear or convolutional layers with plain weights; this network has none"
        raise InvalidInput(msg)
    return found


@torch.no_grad()
def executed(network: nn.Module, x: Tensor) -> list[tuple[Weighted, tuple[int, ...]]]:
    """Return the layers with weights that run on ``x``, in order, with their inputs' shapes.

    The order of execution, not of definition, says which layer is the last.
    """
    ran: list[tuple[Weighted, tuple[int, ...]]] = []

    def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(layer, WEIGHTED) and inputs:
            ran.append((layer, tuple(inputs[0].shape)))

    handles = [m.register_forward_pre_hook(note) for m in network.modules() if isinstance(m, WEIGHTED)]
    try:
        network(x.to(next(network.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return ran


def last_layer(network: nn.Module, data: Dataset, attack: str) -> Weighted:
    """Return the layer that gives the logits.

    Raises
    ------
    InvalidInput
        If the last layer that runs does not have one output for each class.
    """
    ran = executed(network, data.x[:1])
    if ran and len(ran[-1][0].weight) == data.num_classes:
        return ran[-1][0]
    msg = (
        f"{attack} needs a network that ends in a linear or convolutional layer with "
        f"{data.num_classes} outputs, one for each class"
    )
    raise InvalidInput(msg)


def replace(network: nn.Module, layer: nn.Module, other: nn.Module) -> None:
    """Put ``other`` in the place of a layer of ``network``, in place.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    >>> replace(network, network[0], nn.Linear(3, 5))
    >>> network(torch.zeros(1, 3)).shape
    torch.Size([1, 5])
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child is layer:
                setattr(parent, name, other)


def redraw(module: nn.Module, seed: int) -> bool:
    """Draw the weights of a layer or network afresh, as its layers do when they are made.

    Parameters
    ----------
    module
        Changed in place.
    seed
        Of the draw. Global random state is left alone.

    Returns
    -------
    bool
        False, with nothing changed, if some weight belongs to no layer that knows how to
        draw it.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> old = layer.weight.detach().clone()
    >>> redraw(layer, 0), torch.equal(layer.weight, old)
    (True, False)
    """
    # On the CPU, so that the draw is the same wherever the network lives.
    fresh = copy.deepcopy(module).cpu()
    drawn: set[int] = set()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for layer in fresh.modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
                drawn |= {id(p) for p in layer.parameters(recurse=False)}
    if any(id(p) not in drawn for p in fresh.parameters()):
        return False
    module.load_state_dict(fresh.state_dict())
    return True
