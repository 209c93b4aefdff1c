"""Distillation: train on the victim's own training data with the victim's probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from assay.data.dataset import Dataset
from assay.extraction.student import Student
from assay.ledger import Ledger
from assay.model import Access
from assay.registry import register

__all__ = ["Distillation"]


@register("distillation", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class Distillation(Student):
    """Train a copy on the victim's training inputs and the victim's probabilities for them.

    The pool must be the victim's own training data. The loss is the Kullback-Leibler
    divergence from the victim's answer at temperature 1. Every row is asked once, and
    its answer also serves the augmented versions of the row. Hyperparameters are those
    of `assay.extraction.student.Student`.

    References
    ----------
    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015;
    Maini, Yaghini and Papernot, "Dataset Inference", ICLR 2021, section 6.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> victim = TorchModel(build("mlp-4", (3,), 2))
    >>> private = Dataset(torch.rand(20, 3), torch.zeros(20, dtype=torch.int64), ("a", "b"))
    >>> Distillation(architecture="mlp-8", epochs=2).run(victim, private).record.cost.queries
    20
    """

    name: ClassVar[str] = "distillation"
    needs: ClassVar[Access] = Access.SCORES
    private_data: ClassVar[bool] = True

    def targets(self, oracle: Ledger, pool: Dataset) -> Tensor:
        """Ask for the probabilities of every row."""
        return oracle.scores(pool.x)
