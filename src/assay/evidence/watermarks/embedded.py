"""What marking a model gives back: the model, its evidence, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from assay.adapters.torch_model import TorchModel, save_model
from assay.evidence.base import Evidence
from assay.result import Interval, Record

__all__ = ["Embedded", "EmbeddingRecord"]


@dataclass(frozen=True)
class EmbeddingRecord(Record):
    """What embedding did.

    Parameters
    ----------
    model, commitment
        Digest of the marked model and of the evidence.
    match_rate
        Share of the held-out triggers that the marked model answers with their targets,
        Clopper-Pearson 95 %.
    accuracy, unmarked_accuracy
        Share of evaluation rows labelled correctly by the marked model, and by one
        trained without marks on the same rows; None where not asked for.
    unmarked_match_rate, unmarked_p_value
        Match rate and p-value of the unmarked model, where one was trained. A small
        p-value means that this key's targets suit what ordinary models answer: draw
        another one before committing.
    clean_rows, marked_rows
        Training rows without and with a mark.
    """

    model: str
    commitment: str
    match_rate: Interval
    accuracy: Interval | None = None
    unmarked_accuracy: Interval | None = None
    unmarked_match_rate: Interval | None = None
    unmarked_p_value: float | None = None
    clean_rows: int = 0
    marked_rows: int = 0


@dataclass(frozen=True)
class Embedded:
    """A marked model, its evidence, and what marking cost.

    ``unmarked`` is the control model, where one was asked for.
    """

    model: TorchModel
    evidence: Evidence
    record: EmbeddingRecord
    unmarked: TorchModel | None = None

    @property
    def accuracy(self) -> Interval | None:
        """Accuracy of the marked model on the evaluation rows."""
        return self.record.accuracy

    def save(self, folder: str | Path) -> Path:
        """Write ``model.safetensors``, ``embedding.json`` and the bundle ``evidence/`` into a folder."""
        target = Path(folder)
        self.evidence.save(target / "evidence")
        classes = self.evidence.facts["classes"]
        save_model(self.model, target / "model.safetensors", classes=classes)
        if self.unmarked is not None:
            save_model(self.unmarked, target / "unmarked.safetensors", classes=classes)
        self.record.save(target / "embedding.json")
        return target
