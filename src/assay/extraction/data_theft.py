"""Data theft: train another architecture on the victim's training data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from assay.data.dataset import Dataset
from assay.extraction.student import Student
from assay.ledger import Ledger
from assay.model import Access
from assay.registry import register

__all__ = ["DataTheft"]


@register("data-theft", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class DataTheft(Student):
    """Train another architecture on the victim's training data with its true labels.

    The pool must be the victim's own training data; the victim is never asked.
    Hyperparameters are those of `assay.extraction.student.Student`.

    References
    ----------
    Maini, Yaghini and Papernot, "Dataset Inference", ICLR 2021, section 6.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> victim = TorchModel(build("mlp-4", (3,), 2))
    >>> private = Dataset(torch.rand(20, 3), torch.zeros(20, dtype=torch.int64), ("a", "b"))
    >>> DataTheft(architecture="mlp-8", epochs=2).run(victim, private).record.cost.queries
    0
    """

    name: ClassVar[str] = "data-theft"
    needs: ClassVar[Access] = Access.NONE
    private_data: ClassVar[bool] = True
    asks_pool: ClassVar[bool] = False

    def targets(self, oracle: Ledger, pool: Dataset) -> Tensor:  # noqa: ARG002 - the victim is not asked
        """Return the true labels."""
        return pool.y
