"""Neural Cleanse: find the smallest stamp for each class, and take the suspicious ones away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.observers import Observer
from assay.registry import register
from assay.removal.channels import activity, count_of, readers, silence
from assay.removal.layers import copied
from assay.removal.trigger_reversal import ReversedTriggers, TriggerReversal, flagged
from assay.removal.tuning import Tuned, check_choice, check_share

__all__ = ["NeuralCleanse"]


@register("neural-cleanse", kind="removal")
@dataclass(frozen=True, kw_only=True)
class NeuralCleanse(Tuned):
    """Reverse a trigger for every class, then unlearn or prune those that are too small.

    A class with a backdoor needs a much smaller stamp than the others. The thief stamps
    some of the data with it, gives them their proper labels and trains on
    (``"unlearn"``), or silences the channels that the stamp excites most and trains on
    (``"prune"``), or silences those of every layer and then unlearns (``"launder"``). Where
    no class stands out the one with the smallest stamp is treated: somebody who knows that
    there may be a mark has nothing to lose. Entangled marks act on one pair of classes;
    ``pairs`` looks for those, at ``k - 1`` times the cost.

    Parameters
    ----------
    remedy
        ``"unlearn"``, ``"prune"`` or ``"launder"``.
    threshold
        Anomaly index above which a class is suspicious, at least 0.
    stamped
        Share of the data that is stamped for unlearning, in [0, 1).
    share
        Share of the last channels silenced for pruning, and of each layer's for
        laundering, in [0, 1).
    steps, minibatches, batch, rate, pairs
        Of the search; see `assay.removal.trigger_reversal.TriggerReversal`.

    References
    ----------
    Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
    Networks", IEEE S&P 2019, sections 4 and 6. Laundering: Aiken, Kim, Woo and Ryoo,
    "Neural Network Laundering: Removing Black-Box Backdoor Watermarks from Deep Neural
    Networks", Computers & Security 2021; channels are chosen by rank here, not by a threshold.

    Examples
    --------
    >>> from assay.adapters import TorchModel
    >>> from assay.nets import build
    >>> model = TorchModel(build("cnn-4", (1, 8, 8), 2))
    >>> data = Dataset(torch.rand(20, 1, 8, 8), torch.arange(20) % 2, ("a", "b"))
    >>> washed = NeuralCleanse(steps=2, minibatches=2, epochs=1).run(model, data)
    >>> washed.record.washed == model.digest
    False
    """

    name: ClassVar[str] = "neural-cleanse"
    remedy: Literal["unlearn", "prune", "launder"] = "unlearn"
    threshold: float = 2.0
    stamped: float = 0.2
    share: float = 0.1
    steps: int = 60
    minibatches: int = 10
    batch: int = 32
    rate: float = 0.1
    pairs: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "remedy", self.remedy, ("unlearn", "prune", "launder"))
        check_share(self.name, "stamped", self.stamped)
        check_share(self.name, "share", self.share)
        if not 0 <= self.threshold < math.inf:
            msg = f"threshold of {self.name} must be at least 0, got {self.threshold!r}"
            raise InvalidInput(msg)
        _ = self.search

    @property
    def search(self) -> TriggerReversal:
        """The search for stamps."""
        return TriggerReversal(
            steps=self.steps,
            minibatches=self.minibatches,
            batch_size=self.batch,
            lr=self.rate,
            pairs=self.pairs,
        )

    def suspicious(self, found: ReversedTriggers) -> list[int]:
        """Return the tasks to treat: those that stand out, or the smallest."""
        return flagged(found.norms, self.threshold) or [int(found.norms.argmin())]

    def wash(
        self,
        module: nn.Module,
        data: Dataset | None,
        *,
        rng: int,
        observers: Sequence[Observer] = (),
        checkpoint: Path | None = None,
    ) -> nn.Module:
        """Search stamps of a copy and take the suspicious ones away."""
        rows = self.rows(data)
        network = copied(module, self.name)
        targets = self.targets(network, rows)
        found = self.search.run(
            network, rows, labels=targets if self.pairs else None, rng=rng, observers=observers
        )
        tasks = self.suspicious(found)
        kept: dict[Tensor, Tensor] = {}
        if self.remedy != "unlearn":
            kept = self._prune(network, rows, found, tasks)
        if self.remedy != "prune":
            rows = self._stamped(rows, found, tasks, rng)
        self.tune(network, rows, targets, kept=kept, rng=rng, observers=observers, checkpoint=checkpoint)
        return network

    def _stamped(self, rows: Dataset, found: ReversedTriggers, tasks: list[int], rng: int) -> Dataset:
        x = rows.x.clone()
        chosen = np.random.default_rng(rng).permutation(len(x))[: max(1, round(self.stamped * len(x)))]
        for place, part in enumerate(np.array_split(chosen, len(tasks))):
            index = torch.from_numpy(part)
            x[index] = found.stamp(x[index], tasks[place])
        return Dataset(x, rows.y, rows.classes, rows.value_range, f"{rows.name} stamped")

    def _prune(
        self, network: nn.Module, rows: Dataset, found: ReversedTriggers, tasks: list[int]
    ) -> dict[Tensor, Tensor]:
        chosen = readers(network, rows, self.name)
        chosen = chosen[-1:] if self.remedy == "prune" else chosen
        plain = activity(network, chosen, rows.x)
        stamped = [activity(network, chosen, found.stamp(rows.x, task)) for task in tasks]
        kept: dict[Tensor, Tensor] = {}
        for place, reader in enumerate(chosen):
            excess = torch.stack([active[place] - plain[place] for active in stamped]).amax(0)
            worst = excess.argsort(descending=True, stable=True)
            kept[reader.layer.weight] = silence(reader, worst[: count_of(self.share, reader.channels)])
        return kept
