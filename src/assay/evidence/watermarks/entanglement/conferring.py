"""Moving triggers to where copies of the marked model agree and clean models do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.errors import InvalidInput
from assay.result import Record

__all__ = ["Conferring", "confer", "margins"]

_BATCH = 128
_NEVER = 1e-6  # keeps the logarithm of the odds finite


@dataclass(frozen=True)
class Conferring(Record):
    """Sizes and numbers of the steps.

    Parameters
    ----------
    steps
        Signed gradient steps, at least 0; with none, triggers stay as they are.
    step
        Change of a coordinate in the first step, as a share of the value range, in (0, 1]; later steps
        are smaller, in equal stages down to nothing.
    confidence
        Logarithm of the odds for the target up to which copies are pulled, and against it
        down to which clean models are pushed, > 0. Models that already are there pull no
        more, and the others pull by the square of what is missing, so that the least convinced
        copy and the most convinced clean model lead.
    members
        Copies, and clean models, that one step looks at, at least 1; drawn anew for every step, so that
        many models cost no more than few.

    Raises
    ------
    InvalidInput
        If a value is out of range.
    """

    steps: int = 40
    step: float = 0.03
    confidence: float = 3.0
    members: int = 6

    def __post_init__(self) -> None:
        ranges = {
            "steps": self.steps >= 0,
            "step": 0 < self.step <= 1,
            "confidence": 0 < self.confidence < math.inf,
            "members": self.members >= 1,
        }
        for name, fine in ranges.items():
            if not fine:
                msg = f"Conferring.{name} is out of range: {getattr(self, name)!r} (see its documentation)"
                raise InvalidInput(msg)


def confer(
    inputs: Tensor,
    target: int,
    thieves: Sequence[nn.Module],
    nulls: Sequence[nn.Module],
    value_range: tuple[float, float],
    how: Conferring | None = None,
    rng: int = 0,
) -> Tensor:
    """Move inputs until simulated copies answer the target and clean models do not.

    What copies have in common and clean models lack is what the victim handed down; the
    steps follow it, and what one copy or one clean model happens to do averages out.

    Parameters
    ----------
    inputs
        float32 ``[n, *shape]``.
    target
        Class that the marked model answers.
    thieves, nulls
        Networks in evaluation mode, at least one of each: copies of the marked model,
        and models that were trained without it.
    value_range
        Inputs are clipped to it after every step.
    how
        See `Conferring`.
    rng
        Draws the models of every step.

    Returns
    -------
    torch.Tensor
        As many inputs, moved.

    Raises
    ------
    InvalidInput
        If there is no thief or no clean model, or the value range is not finite.

    References
    ----------
    Lukas, Zhang and Kerschbaum, "Deep Neural Network Fingerprinting by Conferrable
    Adversarial Examples", ICLR 2021, section 4, who do this with unmarked models.

    Examples
    --------
    >>> from assay.nets import build
    >>> copy, clean = build("mlp-8", (3,), 2, 0).eval(), build("mlp-8", (3,), 2, 1).eval()
    >>> x = torch.full((4, 3), 0.5)
    >>> moved = confer(x, 1, [copy], [clean], (0.0, 1.0))
    >>> bool((margins(moved, 1, [copy], [clean]) > margins(x, 1, [copy], [clean])).all())
    True
    """
    how = how or Conferring()
    low, high = value_range
    _check(thieves, nulls)
    if not math.isfinite(high - low):
        msg = "moving triggers needs a finite value range"
        raise InvalidInput(msg)
    source = np.random.default_rng(rng)
    return torch.cat(
        [_moved(part, target, thieves, nulls, low, high, how, source) for part in torch.split(inputs, _BATCH)]
    )


@torch.no_grad()
def margins(inputs: Tensor, target: int, thieves: Sequence[nn.Module], nulls: Sequence[nn.Module]) -> Tensor:
    """Return how far the least convinced copy is from the most convinced clean model.

    Parameters
    ----------
    inputs, target, thieves, nulls
        As in `confer`.

    Returns
    -------
    torch.Tensor
        ``[n]``: difference of the logarithms of their odds for the target; large and
        positive where an input tells copies from clean models.

    Raises
    ------
    InvalidInput
        If there is no thief or no clean model.

    Examples
    --------
    >>> from assay.nets import build
    >>> network = build("mlp-8", (3,), 2).eval()
    >>> margins(torch.ones(2, 3), 0, [network], [network]).tolist()
    [0.0, 0.0]
    """
    _check(thieves, nulls)
    parts = []
    for part in torch.split(inputs, _BATCH):
        copies = torch.stack([_log_odds(network, part, target) for network in thieves]).min(0).values
        clean = torch.stack([_log_odds(network, part, target) for network in nulls]).max(0).values
        parts.append(copies - clean)
    return torch.cat(parts) if parts else inputs.new_zeros(0)


def _check(thieves: Sequence[nn.Module], nulls: Sequence[nn.Module]) -> None:
    if not thieves or not nulls:
        msg = f"telling copies from clean models needs both, got {len(thieves)} and {len(nulls)}"
        raise InvalidInput(msg)


def _moved(
    x: Tensor,
    target: int,
    thieves: Sequence[nn.Module],
    nulls: Sequence[nn.Module],
    low: float,
    high: float,
    how: Conferring,
    source: np.random.Generator,
) -> Tensor:
    for turn in range(how.steps):
        free = x.detach().clone().requires_grad_()
        short = torch.zeros(len(free))
        for models, sign in ((thieves, 1), (nulls, -1)):
            drawn = source.permutation(len(models))[: how.members]
            for number in drawn:
                odds = sign * _log_odds(models[number], free, target)
                short = short + functional.relu(how.confidence - odds).square() / len(drawn)
        (slope,) = torch.autograd.grad(short.sum(), free)
        step = how.step * (1 - turn / how.steps) * (high - low)
        x = (x - step * slope.sign()).clamp(low, high)
    return x.detach()


def _log_odds(network: nn.Module, x: Tensor, target: int) -> Tensor:
    log = network(x).float().log_softmax(1)[:, target]
    odds: Tensor = log - torch.log1p(-log.exp().clamp(max=1 - _NEVER))
    return odds
