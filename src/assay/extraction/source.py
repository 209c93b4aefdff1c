"""Source copy: take the file as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from assay.data.dataset import Dataset
from assay.extraction.base import Attack
from assay.ledger import Ledger
from assay.model import Access
from assay.observers import Observer
from assay.registry import register

__all__ = ["SourceCopy"]


@register("source-copy", kind="extraction")
@dataclass(frozen=True)
class SourceCopy(Attack):
    """Take the victim's file unchanged: the copy is identical.

    The strongest theft, and the upper end of every comparison: a test that misses it
    finds nothing.

    References
    ----------
    Maini, Yaghini and Papernot, "Dataset Inference", ICLR 2021, section 6 ("source").

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> victim = TorchModel(build("mlp-4", (3,), 2))
    >>> pool = Dataset(torch.rand(20, 3), torch.zeros(20, dtype=torch.int64), ("a", "b"))
    >>> theft = SourceCopy().run(victim, pool)
    >>> theft.record.cost.queries, theft.surrogate.digest == victim.digest
    (0, True)
    """

    name: ClassVar[str] = "source-copy"
    needs: ClassVar[Access] = Access.WEIGHTS
    asks_pool: ClassVar[bool] = False

    def steal(
        self,
        oracle: Ledger,
        pool: Dataset,  # noqa: ARG002 - the contract; a copied file needs no inputs
        *,
        rng: int,  # noqa: ARG002 - nothing is random
        observers: Sequence[Observer] = (),  # noqa: ARG002 - nothing takes time
        checkpoint: Path | None = None,  # noqa: ARG002 - nothing is trained
    ) -> nn.Module:
        """Return the victim's network."""
        return oracle.copy_module().eval()
