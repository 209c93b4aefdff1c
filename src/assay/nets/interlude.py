"""What may happen between the ordinary batches of a training."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

__all__ = ["Bench", "Interlude"]


class Bench(Protocol):
    """A training in progress, as an `Interlude` sees it."""

    @property
    def module(self) -> nn.Module:
        """The network, in training mode; an interlude leaves it so."""

    @property
    def steps(self) -> int:
        """Ordinary batches an epoch."""

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 logits of ``x``, in the device, layout and precision of the training."""

    def descend(self, loss: Tensor) -> None:
        """Take one step of the optimizer down the gradient of ``loss``."""


class Interlude(Protocol):
    """Called after every ordinary batch of `assay.nets.train`.

    It may train on batches of its own with ``bench.forward`` and ``bench.descend``. Ordinary
    batches are the same with and without it: same rows, order, loss and rate.

    Examples
    --------
    >>> from assay.data.embedded import digits
    >>> from assay.nets import Recipe, build, train
    >>> class Count:
    ...     done = 0
    ...
    ...     def __call__(self, bench, done, generator):
    ...         self.done = done
    >>> count = Count()
    >>> _ = train(build("mlp-4", (1, 8, 8), 10), digits(), Recipe(epochs=2), interlude=count)
    >>> count.done  # 15 batches of 128 rows, twice
    30
    """

    def __call__(self, bench: Bench, done: int, generator: torch.Generator) -> None:
        """Do whatever is due after ``done`` ordinary batches since the training began.

        ``generator`` is the interlude's own in this epoch, so that its draws leave those of
        the training as they are.
        """
