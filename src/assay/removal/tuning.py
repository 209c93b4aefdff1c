"""What attacks that train share: the numbers, the labels, and what stays as it is."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.nets import Interlude, Recipe, predict, train
from assay.observers import Observer
from assay.removal.base import Removal

__all__ = ["Labels", "Layers", "Trained", "Tuned", "check_choice", "check_share"]

Labels = Literal["model", "true"]
Layers = Literal["all", "last"]


def check_choice(attack: str, name: str, value: object, choices: Sequence[str]) -> None:
    """Raise `InvalidInput` unless ``value`` is one of ``choices``."""
    if value not in choices:
        msg = f"{name} of {attack} must be one of {', '.join(choices)}, got {value!r}"
        raise InvalidInput(msg)


def check_share(attack: str, name: str, value: float) -> None:
    """Raise `InvalidInput` unless ``value`` is in [0, 1)."""
    if not 0 <= value < 1:
        msg = f"{name} of {attack} must be in [0, 1), got {value!r}"
        raise InvalidInput(msg)


@dataclass(frozen=True, kw_only=True)
class Trained(Removal):
    """Base of attacks that train.

    Parameters
    ----------
    epochs
        Passes over the data; 0 leaves the training out where it is not the attack itself.
    batch_size
        Rows a step, at least 1.
    lr
        Largest learning rate, above 0.
    training
        A whole recipe in place of the numbers.

    Raises
    ------
    InvalidInput
        If a number is out of range, or given beside a whole recipe.
    """

    schedule: ClassVar[Literal["cosine", "triangle"]] = "cosine"
    least_epochs: ClassVar[int] = 1

    epochs: int = 5
    batch_size: int = 64
    lr: float = 0.01
    training: Recipe | None = None

    def __post_init__(self) -> None:
        if self.epochs < self.least_epochs:
            msg = f"epochs of {self.name} must be at least {self.least_epochs}, got {self.epochs}"
            raise InvalidInput(msg)
        if self.training is not None:
            usual = {f.name: f.default for f in dataclasses.fields(self)}
            numbers = {"epochs", "batch_size", "lr", "smoothing"} & usual.keys()
            if both := sorted(n for n in numbers if getattr(self, n) != usual[n]):
                msg = f"{self.name} got a whole recipe as training and {', '.join(both)} beside it; set one"
                raise InvalidInput(msg)
        _ = self.recipe  # out-of-range numbers are refused here, not after hours of other work

    @property
    def recipe(self) -> Recipe | None:
        """How the model is trained; None if it is not."""
        if self.training is not None or self.epochs == 0:
            return self.training
        return Recipe(epochs=self.epochs, batch_size=self.batch_size, lr=self.lr, schedule=self.schedule)

    @property
    def needs_data(self) -> bool:
        """Whether there is anything to train."""
        return self.recipe is not None

    def rows(self, data: Dataset | None) -> Dataset:
        """Return the data, or raise `InvalidInput` if there are none to train on."""
        if data is None or len(data) < 2:  # noqa: PLR2004 - batch normalisation has no variance on one row
            msg = f"the removal {self.name} needs at least 2 rows of data with these settings"
            raise InvalidInput(msg)
        return data


@dataclass(frozen=True, kw_only=True)
class Tuned(Trained):
    """Base of attacks that end with training a copy further.

    The learning rate falls from its largest value to 0 by a cosine. The input
    normalisation stays what it was.

    Parameters
    ----------
    labels
        ``"model"``: the labels that the copy gave to the data before the attack, which
        cost nothing but re-teach what the copy believes; ``"true"``: the data's own.
    smoothing
        Label smoothing in [0, 1).
    """

    labels: Labels = "model"
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "labels", self.labels, ("model", "true"))

    @property
    def recipe(self) -> Recipe | None:
        """How the copy is trained; None if it is not."""
        usual = super().recipe
        if usual is None or usual is self.training:
            return usual
        return dataclasses.replace(usual, label_smoothing=self.smoothing)

    def targets(self, network: nn.Module, data: Dataset) -> Tensor:
        """Return the labels to train on, int64 ``[n]``; ask before ``network`` is changed."""
        return data.y if self.labels == "true" else predict(network, data.x).argmax(1)

    def tune(
        self,
        network: nn.Module,
        data: Dataset,
        targets: Tensor,
        *,
        only: nn.Module | None = None,
        kept: Mapping[Tensor, Tensor] | None = None,
        interlude: Interlude | None = None,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> None:
        """Train ``network`` in place, if it is to be trained at all.

        Parameters
        ----------
        network
            A copy.
        data, targets
            Inputs and labels.
        only
            The one layer to train; everything else, running statistics included, stays.
        kept
            For weights with zeros that are to stay zero: True where a weight may change.
        interlude
            What happens between batches. Such a training starts afresh if interrupted.
        rng, observers, checkpoint
            See `assay.nets.train`.
        """
        recipe = self.recipe
        if recipe is None:
            return
        # Without a gradient, momentum and decay leave a weight of zero where it is.
        handles = [
            weight.register_hook(functools.partial(torch.mul, mask))  # type: ignore[no-untyped-call]  # torch's
            for weight, mask in (kept or {}).items()
        ]
        frozen = [p for p in network.parameters() if only is not None and p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad = False
        if only is not None:
            only.requires_grad_()
        try:
            train(
                network if only is None else _Frozen(network),
                data,
                recipe,
                targets=targets,
                fit_normalization=False,
                rng=rng,
                observers=observers,
                checkpoint=checkpoint if interlude is None else None,
                task=self.name,
                interlude=interlude,
            )
        finally:
            for parameter in frozen:
                parameter.requires_grad_()
            for handle in handles:
                handle.remove()
        network.zero_grad()
        network.eval()


class _Frozen(nn.Module):
    """A network that stays in evaluation mode, so that no running statistics move."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)  # type: ignore[no-any-return]  # modules are untyped callables

    def train(self, mode: bool = True) -> _Frozen:  # noqa: FBT001, FBT002 - the signature of the base class
        self.training = mode
        self.network.eval()
        return self
