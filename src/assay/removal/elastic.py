"""Elastic weight consolidation: weights that the copy's answers rest on resist being moved."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["consolidated", "fisher"]

_ROWS = 256  # of the estimate; each is a backward pass of its own


def fisher(network: nn.Module, x: Tensor, rng: int = 0) -> dict[Tensor, Tensor]:
    """Estimate the diagonal of the Fisher information of the network's answers.

    Parameters
    ----------
    network
        From inputs to logits, in evaluation mode, on the inputs' device.
    x
        Inputs, ``[n, *shape]``; at most 256 of them are used.
    rng
        Draws them, and for each a class by the network's probabilities.

    Returns
    -------
    dict of torch.Tensor to torch.Tensor
        For each trainable weight, the mean square of its slope of the logarithm of the drawn
        class's probability: an unbiased estimate.

    References
    ----------
    Kirkpatrick et al., "Overcoming Catastrophic Forgetting in Neural Networks", PNAS 2017.

    Examples
    --------
    >>> network = nn.Linear(2, 2, bias=False)
    >>> (information,) = fisher(network, torch.tensor([[1.0, 0.0]])).values()
    >>> information.shape, information[:, 1].tolist()  # the second input is never on
    (torch.Size([2, 2]), [0.0, 0.0])
    """
    generator = torch.Generator().manual_seed(rng)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    total = [torch.zeros_like(weight) for weight in weights]
    rows = torch.randperm(len(x), generator=generator)[:_ROWS]
    for row in rows:
        logits = network(x[row : row + 1]).float()
        drawn = torch.multinomial(logits.detach().cpu().softmax(1), 1, generator=generator).flatten()
        loss = functional.cross_entropy(logits, drawn.to(logits.device))
        slopes = torch.autograd.grad(loss, weights, allow_unused=True)
        for squares, slope in zip(total, slopes, strict=True):
            if slope is not None:
                squares.add_(slope.square())
    return {weight: squares / len(rows) for weight, squares in zip(weights, total, strict=True)}


@contextmanager
def consolidated(network: nn.Module, x: Tensor, pull: float, lr: float, rng: int = 0) -> Iterator[None]:
    """Hold weights where they are while the network is trained, the more they matter the more.

    Every gradient gets the slope of ``pull / 2 * F / mean(F) * (w - w0) ** 2``. The factor is at most
    ``1 / lr``, which takes a weight back in one step: more would throw it beyond where it was.

    Parameters
    ----------
    network
        In evaluation mode now; trained within the context.
    x
        Inputs, for `fisher`.
    pull
        For a weight of average information, above 0.
    lr
        Largest learning rate of the training.
    rng
        See `fisher`.

    Examples
    --------
    >>> network = nn.Linear(2, 2, bias=False)
    >>> with consolidated(network, torch.eye(2), pull=1.0, lr=0.1):
    ...     network(torch.eye(2)).sum().backward()
    >>> network.weight.grad.tolist()  # nothing has moved, so nothing pulls
    [[1.0, 1.0], [1.0, 1.0]]
    """
    information = fisher(network, x, rng)
    count = sum(weight.numel() for weight in information)
    mean = sum(float(values.sum()) for values in information.values()) / max(count, 1)
    handles = [
        weight.register_hook(  # type: ignore[no-untyped-call]  # torch's
            functools.partial(
                _pulled, weight, weight.detach().clone(), (pull / mean * values).clamp(max=1 / lr)
            )
        )
        for weight, values in information.items()
        if mean > 0
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pulled(weight: Tensor, start: Tensor, stiffness: Tensor, slope: Tensor) -> Tensor:
    held = stiffness.to(slope.device) * (weight.detach() - start.to(slope.device))
    return slope + held
