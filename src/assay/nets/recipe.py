"""Training hyperparameters as one frozen value."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from assay.data.augment import Augment
from assay.errors import InvalidInput

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Parameters
    ----------
    epochs, batch_size
        Passes over the data and rows a step, both at least 1.
    optimizer
        ``"sgd"`` (Nesterov momentum) or ``"adam"``.
    lr, momentum, weight_decay
        Peak learning rate (> 0), momentum of SGD in [0, 1), weight decay (>= 0).
    schedule
        ``"triangle"``: linear through (0, 0), (0.4, lr), (0.8, lr/10), (1, 0), the
        schedule of Maini et al. 2021's code; ``"step"``: times 0.2 at 30, 60 and 80 %;
        ``"cosine"``; ``"constant"``. Evaluated at every step.
    augment
        ``"none"``, ``"flip"``, ``"crop"`` or ``"crop-flip"`` (shift by up to an eighth
        of the image, which is 4 pixels of 32). Ignored for tables.
    label_smoothing
        In [0, 1); hard labels only.
    average
        Decay of an exponential average of the weights, 0 for none.
    patience
        Stop after this many epochs without better validation accuracy and return the
        best weights; None trains to the end.
    precision
        ``"auto"`` uses bf16 autocast on images where the processor has bf16
        arithmetic, else float32; ``"bf16"`` and ``"fp32"`` force it.

    Raises
    ------
    InvalidInput
        If a value is out of range.

    Examples
    --------
    >>> Recipe(epochs=10, lr=0.1).rate(0.4)
    0.1
    """

    epochs: int = 20
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["triangle", "step", "cosine", "constant"] = "triangle"
    augment: Literal["none", "flip", "crop", "crop-flip"] = "none"
    label_smoothing: float = 0.0
    average: float = 0.0
    patience: int | None = None
    precision: Literal["auto", "bf16", "fp32"] = "auto"

    def __post_init__(self) -> None:
        ranges = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 1,
            "lr": 0 < self.lr < math.inf,
            "momentum": 0 <= self.momentum < 1,
            "weight_decay": 0 <= self.weight_decay < math.inf,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "average": 0 <= self.average < 1,
            "patience": self.patience is None or self.patience >= 0,
            "optimizer": self.optimizer in ("sgd", "adam"),
            "schedule": self.schedule in ("triangle", "step", "cosine", "constant"),
            "augment": self.augment in ("none", "flip", "crop", "crop-flip"),
            "precision": self.precision in ("auto", "bf16", "fp32"),
        }
        for name, fine in ranges.items():
            if not fine:
                msg = f"Recipe.{name} is out of range: {getattr(self, name)!r} (see its documentation)"
                raise InvalidInput(msg)

    def rate(self, progress: float) -> float:
        """Return the learning rate at ``progress`` in [0, 1] of the training."""
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * progress))
        if self.schedule == "step":
            return float(self.lr * 0.2 ** sum(progress >= mark for mark in (0.3, 0.6, 0.8)))
        knots = ((0.0, 0.0), (0.4, self.lr), (0.8, self.lr / 10), (1.0, 0.0))
        for (left, low), (right, high) in itertools.pairwise(knots):
            if progress <= right:
                share = (progress - left) / (right - left)
                return low * (1 - share) + high * share  # this form is exact at the knots
        return 0.0

    def make_optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer over the module's parameters."""
        parameters = [p for p in module.parameters() if p.requires_grad]
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.momentum > 0,
        )

    def augmentation(self) -> Augment | None:
        """Return the augmentation for images, or None."""
        if self.augment == "none":
            return None
        return Augment(crop="crop" in self.augment, flip="flip" in self.augment)

    def use_bf16(self, *, images: bool, device: torch.device) -> bool:
        """Whether this training runs under bf16 autocast."""
        if self.precision != "auto":
            return self.precision == "bf16"
        if device.type == "cuda":
            return bool(torch.cuda.is_bf16_supported())
        # Without bf16 dot products (AVX-512 BF16, AMX) autocast only adds conversions.
        return images and device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001
