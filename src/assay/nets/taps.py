"""Reading the activations of named layers while a network runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from assay.errors import InvalidInput
from assay.registry import nearest

__all__ = ["activations", "default_taps", "tapped"]

_TAPS = 3


@contextmanager
def tapped(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Fill a dictionary with the outputs of named layers at every forward pass inside the block.

    Parameters
    ----------
    network
        Any module.
    names
        As in ``network.named_modules()``.

    Raises
    ------
    InvalidInput
        If a layer is not there; the message offers the nearest name.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> with tapped(network, ["0"]) as seen:
    ...     _ = network(torch.zeros(4, 2))
    >>> seen["0"].shape
    torch.Size([4, 3])
    """
    layers = dict(network.named_modules())
    seen: dict[str, Tensor] = {}
    handles = []
    try:
        for name in names:
            if name not in layers or not name:
                raise InvalidInput(nearest(name, [known for known in layers if known], "layer"))

            # A layer that rewrites its input in place (ReLU) would change what was tapped before it.
            def keep(_layer: nn.Module, _inputs: object, output: Tensor, name: str = name) -> None:
                seen[name] = output

            handles.append(layers[name].register_forward_hook(keep))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def default_taps(network: nn.Module) -> tuple[str, ...]:
    """Return up to three layers spread over the second half of a network, where features are.

    Activations if the network has any, otherwise layers with weights; the last one is
    always among them.

    Raises
    ------
    InvalidInput
        If the network has no such layer.

    Examples
    --------
    >>> from assay.nets import build
    >>> default_taps(build("mlp-8", (3,), 2))
    ('body.2',)
    """
    found = [n for n, m in network.named_modules() if isinstance(m, nn.ReLU | nn.GELU | nn.SiLU | nn.Tanh)]
    if not found:
        found = [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][:-1]
    if not found:
        msg = "the network has no hidden layer to tap; name some of its modules"
        raise InvalidInput(msg)
    late = found[len(found) // 2 :] if len(found) > _TAPS else found
    places = sorted({round(i * (len(late) - 1) / (_TAPS - 1)) for i in range(_TAPS)})
    return tuple(late[place] for place in places)


@torch.no_grad()
def activations(
    network: nn.Module, x: Tensor, names: Sequence[str], batch_size: int = 256
) -> dict[str, Tensor]:
    """Return the activations of named layers on ``x``, float32 on the CPU; the mode is restored.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> activations(network, torch.zeros(4, 2), ["1"])["1"].shape
    torch.Size([4, 3])
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    try:
        with tapped(network, names) as seen:
            for start in range(0, len(x), batch_size):
                network(x[start : start + batch_size].to(device))
                for name in names:
                    parts[name].append(seen[name].float().cpu())
    finally:
        network.train(was_training)
    return {name: torch.cat(rows) for name, rows in parts.items()}
