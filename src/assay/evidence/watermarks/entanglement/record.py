"""What embedding an entangled mark reports."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.evidence.watermarks.embedded import EmbeddingRecord
from assay.evidence.watermarks.entanglement.attempt import Attempt
from assay.evidence.watermarks.entanglement.marked_batches import Balance
from assay.result import Interval
from assay.statistics import clopper_pearson

__all__ = ["EntangledRecord", "accuracy", "extended", "gradient_shares", "match_rate"]


@dataclass(frozen=True)
class EntangledRecord(EmbeddingRecord):
    """What embedding an entangled mark did.

    Parameters
    ----------
    rehearsed_rate, chosen_rate
        Share of triggers that matched in copies of models with rehearsal keys: all of
        them, and those chosen (which is flattering, for they were chosen by it). None
        without rehearsals.
    copy_match_rate, copy_accuracy
        Of one simulated copy of the marked model, made after everything was chosen, with
        the victim's own inputs.
    ablation_match_rate, ablation_accuracy, ablation_copy_match_rate
        The same model trained with an entanglement weight of 0, and a copy of it. Where
        its copy matches as often, entangling did nothing.
    entanglement_shares
        Norm of the entanglement gradient over that of the ordinary loss at each tapped
        layer, median over the marked phase, 20 entangled batches after it was last adjusted.
    attempts
        With triggers chosen by thefts, every mark that was tried until one reached a copy.
        The ablation then has triggers of its own, chosen in the same way.
    """

    rehearsed_rate: float | None = None
    chosen_rate: float | None = None
    copy_match_rate: Interval | None = None
    copy_accuracy: Interval | None = None
    ablation_match_rate: Interval | None = None
    ablation_accuracy: Interval | None = None
    ablation_copy_match_rate: Interval | None = None
    entanglement_shares: dict[str, float] | None = None
    attempts: tuple[Attempt, ...] = ()


def extended(record: EmbeddingRecord, **more: Any) -> EntangledRecord:
    """Return a record with more fields.

    Examples
    --------
    >>> from assay.evidence.watermarks.embedded import EmbeddingRecord
    >>> whole = Interval(1.0, 0.5, 1.0, 0.95)
    >>> extended(EmbeddingRecord("m", "c", whole), chosen_rate=0.5).chosen_rate
    0.5
    """
    known = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return EntangledRecord(**known | more)


def gradient_shares(history: Sequence[Balance]) -> dict[str, float] | None:
    """Return the median share of the entanglement gradient at each layer; None if it was never measured.

    Examples
    --------
    >>> gradient_shares([Balance(b, "relu", share, 1.0, 0.5) for b, share in ((0, math.nan), (5, 0.4))])
    {'relu': 0.4}
    """
    shares: dict[str, list[float]] = {}
    for moment in history:
        if math.isfinite(moment.share):
            shares.setdefault(moment.layer, []).append(moment.share)
    return {layer: float(np.median(found)) for layer, found in shares.items()} or None


def match_rate(model: TorchModel, x: Tensor, wanted: Tensor) -> Interval:
    """Return the share of rows answered with the wanted class, Clopper-Pearson 95 %."""
    return clopper_pearson(int((model.labels(x) == wanted).sum()), len(wanted))


def accuracy(model: TorchModel, evaluation: Dataset | None) -> Interval | None:
    """Return the accuracy on the evaluation rows, where there are any."""
    return None if evaluation is None else match_rate(model, evaluation.x, evaluation.y)
