"""What attacks that train a copy share; one attack differs from another in targets and numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.extraction.base import Attack
from assay.extraction.presets import Preset, preset_architecture, preset_recipe
from assay.ledger import Ledger
from assay.nets import Network, Recipe, build, train
from assay.observers import Observer

__all__ = ["Student", "Trained"]


@dataclass(frozen=True, kw_only=True)
class Trained(Attack):
    """Base of attacks that train: a preset, and numbers that replace the preset's.

    Parameters
    ----------
    preset
        ``"small"`` for a laptop, ``"paper"`` for the published settings.
    epochs
        Passes over the pool, at least 1; None for the preset's.
    batch_size
        Rows a step, at least 1; None for the preset's.
    lr
        Peak learning rate, above 0; None for the preset's.
    training
        A whole recipe in place of the preset's; the three numbers still replace its own.

    Raises
    ------
    InvalidInput
        If the preset is unknown or a number is out of range.
    """

    preset: Preset = "small"
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    training: Recipe | None = None

    def __post_init__(self) -> None:
        _ = self.recipe  # out-of-range numbers are refused here, not after the victim was paid

    @property
    def recipe(self) -> Recipe:
        """How the copy is trained."""
        return preset_recipe(
            self.name,
            self.preset,
            basis=self.training,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
        )


@dataclass(frozen=True, kw_only=True)
class Student(Trained):
    """Base of attacks that train a network of their own.

    Parameters
    ----------
    architecture
        Registered architecture of the copy, such as ``"wrn-16-1"``; ``"auto"`` chooses
        by the inputs' shape.
    """

    architecture: str = "auto"

    @abstractmethod
    def targets(self, oracle: Ledger, pool: Dataset) -> Tensor:
        """Return what the student learns: classes, int64 ``[n]``, or probabilities ``[n, k]``."""

    def student(self, pool: Dataset, rng: int) -> Network:
        """Return the untrained copy."""
        name = self.architecture
        if name == "auto":
            name = preset_architecture(self.name, self.preset, pool.input_shape, pool.num_classes)
        return build(name, pool.input_shape, pool.num_classes, rng)

    def steal(
        self,
        oracle: Ledger,
        pool: Dataset,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Ask for targets and train the student on them."""
        network = self.student(pool, rng)  # first, so that a wrong architecture costs no query
        targets = self.targets(oracle, pool)
        train(
            network,
            pool,
            self.recipe,
            targets=targets,
            rng=rng,
            observers=observers,
            checkpoint=checkpoint,
            task=self.name,
        )
        return network
