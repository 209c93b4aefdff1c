"""Fine-tuning: take the file and train it on a little further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.extraction.student import Trained
from assay.ledger import Ledger
from assay.model import Access
from assay.nets import predict, train
from assay.observers import Observer
from assay.registry import register

__all__ = ["FineTuning"]


@register("fine-tuning", kind="extraction")
@dataclass(frozen=True, kw_only=True)
class FineTuning(Trained):
    """Copy the weights and train them on with the victim's labels for the attacker's inputs.

    The thief holds the file, so the labels come from the copy and cost no query. All
    layers are trained with a fresh optimizer and without dropout; the input
    normalisation stays the victim's. Hyperparameters are those of
    `assay.extraction.student.Trained`.

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
    >>> theft = FineTuning(epochs=2).run(victim, pool)
    >>> theft.record.cost.queries, theft.surrogate.digest == victim.digest
    (0, False)
    """

    name: ClassVar[str] = "fine-tuning"
    needs: ClassVar[Access] = Access.WEIGHTS
    asks_pool: ClassVar[bool] = False

    def steal(
        self,
        oracle: Ledger,
        pool: Dataset,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Label the pool with a copy of the victim and train the copy on it.

        Raises
        ------
        InvalidInput
            If the network has nothing to train, for example because it is quantised.
        """
        copy = oracle.copy_module().float()
        parameters = [p.requires_grad_() for p in copy.parameters() if p.is_floating_point()]
        if not parameters:
            msg = f"{oracle.name} has no trainable weights; steal it by its answers, for example label-query"
            raise InvalidInput(msg)
        targets = predict(copy, pool.x).argmax(1)
        dropout = [(layer, layer.p) for layer in copy.modules() if isinstance(layer, _DropoutNd)]
        for layer, _ in dropout:
            layer.p = 0.0
        train(
            copy,
            pool,
            self.recipe,
            targets=targets,
            fit_normalization=False,
            rng=rng,
            observers=observers,
            checkpoint=checkpoint,
            task=self.name,
        )
        for layer, rate in dropout:  # the copy is the same kind of network as the victim
            layer.p = rate
        return copy
