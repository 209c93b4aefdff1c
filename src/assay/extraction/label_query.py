"""Label-query extraction: train on the victim's predicted classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from assay.data.dataset import Dataset
from assay.extraction.student import Student
from assay.ledger import Ledger
from assay.model import Access
from assay.registry import register

__all__ = ["LabelQuery"]


@register("label-query", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class LabelQuery(Student):
    """Train a copy on the labels that the victim gives to the attacker's own inputs.

    One query a row of the pool. Hyperparameters are those of
    `assay.extraction.student.Student`.

    References
    ----------
    Maini, Yaghini and Papernot, "Dataset Inference", ICLR 2021, section 6;
    Orekondy, Schiele and Fritz, "Knockoff Nets", CVPR 2019.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> victim = TorchModel(build("mlp-4", (3,), 2))
    >>> pool = Dataset(torch.rand(20, 3), torch.zeros(20, dtype=torch.int64), ("a", "b"))
    >>> theft = LabelQuery(architecture="mlp-8", epochs=2).run(victim, pool, budget=16)
    >>> theft.record.cost.queries, theft.surrogate.num_classes
    (16, 2)
    """

    name: ClassVar[str] = "label-query"
    needs: ClassVar[Access] = Access.LABELS

    def targets(self, oracle: Ledger, pool: Dataset) -> Tensor:
        """Ask for the class of every row."""
        return oracle.labels(pool.x)
