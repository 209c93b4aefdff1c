"""Knockoff transfer: teach a fresh network what the copy answers to inputs of no such task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import nn

from assay.data import load_data
from assay.data.dataset import Dataset
from assay.data.pools import foreign, synthesise
from assay.errors import InvalidInput
from assay.nets import train
from assay.observers import Observer
from assay.registry import register
from assay.removal.layers import copied
from assay.removal.retraining import Retrained
from assay.removal.tuning import check_choice

__all__ = ["KnockoffTransfer"]

_MANY = 4  # inputs made for each row given: they cost nothing, and each says less than one of the task
_KINDS = ("blends", "data", "inversions", "noise", "shuffles", "sign-noise")


@register("knockoff-transfer", kind="removal")
@dataclass(frozen=True, kw_only=True)
class KnockoffTransfer(Retrained):
    """Train a fresh network on the copy's answers to inputs of another task.

    Distillation for a thief with few inputs of the task. A mark passes on if inputs of
    another kind excite it, which is why this attack can keep marks that distillation loses
    (triggers off the data) and lose marks that it keeps (triggers on the data).

    Parameters
    ----------
    pool
        Inputs of another task, as `assay.data.load_data` names them (``"mnist"``,
        ``"pool.npz"``); they are brought into the copy's shape and range. None: see ``inputs``.
    inputs
        Without a pool: what to ask instead. ``"data"`` are the data themselves; the others
        are made from them, see `assay.data.pools.synthesise`.
    queries
        Inputs to ask, at least 2; None for the whole pool, or for four times as many as
        there are data.

    References
    ----------
    Orekondy, Schiele and Fritz, "Knockoff Nets: Stealing Functionality of Black-Box
    Models", CVPR 2019; as a removal, Lukas et al., "SoK: How Robust is Image
    Classification Deep Neural Network Watermarking?", IEEE S&P 2022.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-4", (3,), 2))
    >>> data = Dataset(torch.rand(20, 3), torch.zeros(20, dtype=torch.int64), ("a", "b"))
    >>> KnockoffTransfer(inputs="noise", epochs=1).inquiry(data, 0).x.shape
    torch.Size([80, 3])
    >>> KnockoffTransfer(inputs="noise", epochs=1).run(model, data).record.washed == model.digest
    False
    """

    name: ClassVar[str] = "knockoff-transfer"
    pool: str | None = None
    inputs: Literal["data", "noise", "inversions", "blends", "shuffles", "sign-noise"] = "blends"
    queries: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "inputs", self.inputs, _KINDS)
        if self.queries is not None and self.queries < 2:  # noqa: PLR2004 - see `Trained.rows`
            msg = f"queries of {self.name} must be at least 2, got {self.queries}"
            raise InvalidInput(msg)

    def inquiry(self, data: Dataset, rng: int) -> Dataset:
        """Return the inputs that are asked.

        Raises
        ------
        InvalidInput
            If the pool is not there or cannot become inputs of the copy's shape.
        """
        if self.pool is not None:
            found = load_data(self.pool, limit=self.queries, rng=rng)
            return foreign(found, data.input_shape, data.classes, value_range=data.value_range)
        if self.inputs != "data":
            return synthesise(data, self.inputs, self.queries or _MANY * len(data), rng=rng)
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(rng))
        return data.subset(order[: self.queries].tolist())

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Ask a copy about other inputs and train a fresh network on the answers."""
        rows = self.rows(data)
        teacher = copied(module, self.name)
        asked = self.rows(self.inquiry(rows, rng))
        fresh = self.fresh(teacher, rows, rng)
        recipe = self.recipe
        assert recipe is not None
        train(
            fresh,
            asked,
            recipe,
            targets=self.asked(teacher, asked.x),
            rng=rng,
            observers=observers,
            checkpoint=checkpoint,
            task=self.name,
        )
        return fresh
