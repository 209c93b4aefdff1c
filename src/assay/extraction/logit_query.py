"""Logit-query extraction: train on the victim's class probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from assay.data.dataset import Dataset
from assay.extraction.student import Student
from assay.ledger import Ledger
from assay.model import Access
from assay.registry import register

__all__ = ["LogitQuery"]


@register("logit-query", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class LogitQuery(Student):
    """Train a copy on the probabilities that the victim gives to the attacker's own inputs.

    The loss is the Kullback-Leibler divergence from the victim's answer at temperature
    1. One query a row of the pool. Hyperparameters are those of
    `assay.extraction.student.Student`.

    References
    ----------
    Maini, Yaghini and Papernot, "Dataset Inference", ICLR 2021, section 6.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> victim = TorchModel(build("mlp-4", (3,), 2))
    >>> pool = Dataset(torch.rand(20, 3), torch.zeros(20, dtype=torch.int64), ("a", "b"))
    >>> LogitQuery(architecture="mlp-8", epochs=2).run(victim, pool).record.cost.queries
    20
    """

    name: ClassVar[str] = "logit-query"
    needs: ClassVar[Access] = Access.SCORES

    def targets(self, oracle: Ledger, pool: Dataset) -> Tensor:
        """Ask for the probabilities of every row."""
        return oracle.scores(pool.x)
