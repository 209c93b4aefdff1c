"""CopyCat: random inputs of any kind, the victim's labels, one training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from assay.extraction.random_draw import RandomDraw
from assay.model import Access
from assay.registry import register

__all__ = ["CopyCat"]


@register("copycat", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class CopyCat(RandomDraw):
    """Train a copy on the labels that the victim gives to random inputs of another kind.

    The pool should be far from the victim's task: whatever images are at hand, or what
    ``inputs`` makes of a few rows. With inputs of the task it is label-query. Further
    hyperparameters are those of `assay.extraction.random_draw.RandomDraw`.

    References
    ----------
    Correia-Silva, Berriel, Badue, de Souza and Oliveira-Santos, "Copycat CNN: Stealing
    Knowledge by Persuading Confession with Random Non-Labeled Data", IJCNN 2018;
    Dziedzic, Kaleem, Lu and Papernot, ICLR 2022, section 5.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.data import Dataset
    >>> from assay.nets import build
    >>> victim = TorchModel(build("mlp-4", (3,), 2))
    >>> few = Dataset(torch.rand(5, 3), torch.zeros(5, dtype=torch.int64), ("a", "b"))
    >>> attack = CopyCat(architecture="mlp-8", epochs=2, inputs="noise")
    >>> attack.run(victim, few, budget=16).record.cost.queries
    16
    """

    name: ClassVar[str] = "copycat"
    needs: ClassVar[Access] = Access.LABELS
