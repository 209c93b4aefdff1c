"""Fine-tuning: train the copy on until it forgets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.observers import Observer
from assay.registry import register
from assay.removal.elastic import consolidated
from assay.removal.layers import copied, last_layer
from assay.removal.tuning import Layers, Tuned, check_choice

__all__ = ["FineTuning"]


@register("fine-tuning", kind="removal")
@dataclass(frozen=True, kw_only=True)
class FineTuning(Tuned):
    """Train the copy on, all of it or its last layer, with its own or true labels.

    The four ways of Adi et al. but for fresh heads (see ``re-initialised-head``). Small
    rates and the copy's own labels keep accuracy and most marks. With true labels, a
    large rate that falls (``lr=0.1, epochs=20``, REFIT) is the strongest simple attack: it
    needs some hundred truly labelled rows, and washes out marks that the task does not
    share features with. Training only the last layer moves little; it works where a mark is
    nothing but a bias of the head. Label smoothing weakens marks that rest on confident answers.

    Parameters
    ----------
    layers
        ``"all"`` or ``"last"``.
    ewc
        Pull of elastic weight consolidation towards the copy as it was, for a weight of average Fisher
        information, at least 0; see `assay.removal.elastic.consolidated`. REFIT adds it where there are
        too few rows for its rate: the task is forgotten less, and so is a mark that the task shares
        weights with.

    Raises
    ------
    InvalidInput
        If ``ewc`` is out of range, or with the last layer alone, whose features stay anyway.

    References
    ----------
    Adi et al., "Turning Your Weakness Into a Strength", USENIX Security 2018, section 5.3;
    Chen et al., "REFIT: A Unified Watermark Removal Framework for Deep Learning Systems
    with Limited Data", AsiaCCS 2021; Lukas et al., "SoK: How Robust is Image
    Classification Deep Neural Network Watermarking?", IEEE S&P 2022.

    Examples
    --------
    >>> import torch
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("mlp-4", (3,), 2))
    >>> data = Dataset(torch.rand(20, 3), torch.zeros(20, dtype=torch.int64), ("a", "b"))
    >>> washed = FineTuning(layers="last", labels="true", epochs=1).run(model, data, evaluation=data)
    >>> washed.record.washed == model.digest, washed.record.rows
    (False, 20)
    """

    name: ClassVar[str] = "fine-tuning"
    layers: Layers = "all"
    ewc: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "layers", self.layers, ("all", "last"))
        if not 0 <= self.ewc < math.inf or (self.ewc and self.layers == "last"):
            msg = f"ewc of {self.name} must be at least 0, and 0 for the last layer alone, got {self.ewc!r}"
            raise InvalidInput(msg)

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Label the data and train a copy on them."""
        rows = self.rows(data)
        network = copied(module, self.name)
        targets, recipe = self.targets(network, rows), self.recipe
        held: AbstractContextManager[None] = nullcontext()
        if self.ewc and recipe is not None:
            held = consolidated(network, rows.x, self.ewc, recipe.lr, rng)
        with held:
            self.tune(
                network,
                rows,
                targets,
                only=last_layer(network, rows, self.name) if self.layers == "last" else None,
                rng=rng,
                observers=observers,
                checkpoint=checkpoint,
            )
        return network
