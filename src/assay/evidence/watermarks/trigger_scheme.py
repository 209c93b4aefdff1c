"""What all watermarks of keyed triggers share: the test, decoys, calibration, and sealing the evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.errors import InvalidInput
from assay.evidence.base import Evidence, Finding, Scheme
from assay.evidence.watermarks.embedded import Embedded, EmbeddingRecord
from assay.evidence.watermarks.examination import examine_triggers, parts
from assay.evidence.watermarks.keys import Choices, IntArray, derive, draw_choices, key_targets
from assay.evidence.watermarks.null_panel import NullPanel
from assay.ledger import Ledger
from assay.model import Access, Model
from assay.observers import Observer
from assay.result import Calibration, Interval
from assay.statistics import clopper_pearson, false_positive_rate

__all__ = ["TriggerScheme", "Triggers", "check_evaluation"]


@dataclass(frozen=True, eq=False)
class Triggers:
    """Inputs that will be asked, and the classes that a key draws for their marks.

    Parameters
    ----------
    key
        64 hex digits.
    inputs
        Trigger inputs, float32 ``[n, *shape]``, the marks taking turns.
    mark
        Mark of each input, int64 ``[n]``.
    marks, classes
        Their numbers.
    choices
        Candidate classes of each mark; None where every class is one.
    """

    key: str
    inputs: Tensor
    mark: Tensor
    marks: int
    classes: int
    choices: Choices | None = None

    @property
    def targets(self) -> IntArray:
        """Target class of each mark, int64 ``[marks]``."""
        if self.choices is None:
            return key_targets(self.key, self.inputs, self.marks, self.classes)
        return draw_choices(self.key, self.inputs, self.choices)

    @property
    def wanted(self) -> Tensor:
        """Target class of each input, int64 ``[n]``."""
        return torch.from_numpy(self.targets)[self.mark]


@dataclass(frozen=True, kw_only=True)
class TriggerScheme(Scheme):
    """Base of watermarks that are tested by asking a suspect keyed triggers.

    Parameters
    ----------
    stop_early
        Look at the answers after 8 triggers and after every doubling, and stop as soon as
        they suffice; False asks all of them and looks once.
    """

    stop_early: bool = True

    @property
    def needs(self) -> Access:
        """Labels."""
        return Access.LABELS

    def examine(
        self,
        evidence: Evidence,
        oracle: Ledger,
        *,
        alpha: float,
        rng: int,
        observers: Sequence[Observer] = (),  # noqa: ARG002 - the ledger reports the queries
    ) -> Finding:
        """Ask triggers until the answers suffice or the budget is spent; rank the key among all keys.

        Raises
        ------
        BudgetExceeded
            If so few triggers cannot reach ``alpha`` even when all match.
        InvalidInput
            If these marks cannot.
        EvidenceTampered
            If the bundle's parts do not fit together.
        """
        return examine_triggers(evidence, oracle, alpha=alpha, rng=rng, early=self.stop_early)

    def pictures(self, evidence: Evidence, most: int) -> Iterator[tuple[str, Tensor]]:
        """Yield trigger inputs, with the class that a marked model answers."""
        whole, classes = parts(evidence), evidence.facts["classes"]
        for trigger, mark in zip(whole.triggers[:most], whole.mark.tolist(), strict=False):
            yield str(classes[whole.targets[mark]]), trigger

    def decoys(self, evidence: Evidence, count: int, rng: int) -> Iterator[Evidence]:
        """Yield the same triggers under fresh keys, whose targets could have been the secret."""
        source = np.random.default_rng(rng)
        for _ in range(count):
            key = source.bytes(32).hex()
            facts = {**evidence.facts, "key": key, "unmarked_matches": None}
            yield Evidence(self, evidence.tensors, facts, derive(key, "nonce"))

    def calibrate(
        self, evidence: Evidence, null_models: Sequence[Model], *, alpha: float = 0.01, rng: int = 0
    ) -> NullPanel:
        """Test models that are known to be independent.

        Each is verified as a suspect would be, and then asked all triggers, which gives
        its match rate without the bias of stopping early.

        Parameters
        ----------
        evidence
            The true evidence.
        null_models
            Models that never saw the marked model or its key.
        alpha, rng
            As in ``verify``.

        Returns
        -------
        NullPanel
            Its ``calibration`` goes to ``verify``; its ``judge`` gives a binomial companion
            and its ``rank`` the rank of a suspect among these models.

        Raises
        ------
        AccessDenied, BudgetExceeded, InvalidInput
            As in ``verify``, or if there is no model.
        """
        verdicts = [evidence.verify(model, alpha=alpha, rng=rng) for model in null_models]
        false = sum(v.stolen for v in verdicts)
        rate = false_positive_rate(false, len(verdicts)) if verdicts else clopper_pearson(0, 0)
        calibration = Calibration(len(verdicts), false, alpha, rate, "independent models")
        whole = parts(evidence)
        wanted = torch.from_numpy(whole.targets)[whole.mark]
        matches = [_matches(model, whole.triggers, wanted) for model in null_models]
        p_values = [v.p_value for v in verdicts]
        return NullPanel.of(evidence.commitment, matches, len(wanted), calibration, p_values=p_values)

    def seal(
        self,
        triggers: Triggers,
        data: Dataset,
        model: TorchModel,
        *,
        unmarked: TorchModel | None = None,
        evaluation: Dataset | None = None,
        rows: tuple[int, int] = (0, 0),
        facts: Mapping[str, Any] | None = None,
    ) -> Embedded:
        """Commit the evidence and report what marking did.

        Parameters
        ----------
        triggers
            What a suspect will be asked.
        data
            The owner's data, for shapes and classes.
        model, unmarked
            The marked model, and the control, where one was trained.
        evaluation
            Rows on which accuracy is measured.
        rows
            Training rows without and with a mark.
        facts
            More to be committed, JSON types only.
        """
        wanted, asked = triggers.wanted, len(triggers.inputs)
        matched = None if unmarked is None else _matches(unmarked, triggers.inputs, wanted)
        committed: dict[str, Any] = {
            "input_shape": list(data.input_shape),
            "classes": list(data.classes),
            "value_range": [v if math.isfinite(v) else str(v) for v in data.value_range],
            "data": data.digest,
            "model": model.digest,
            "marks": triggers.marks,
            "key": triggers.key,
            "unmarked_matches": matched,
            **(facts or {}),
        }
        if triggers.choices is not None:
            committed["choices"] = [[int(c) for c in candidates] for candidates in triggers.choices]
        tensors = {"triggers": triggers.inputs.contiguous(), "mark": triggers.mark}
        evidence = Evidence(self, tensors, committed, derive(triggers.key, "nonce"))
        record = EmbeddingRecord(
            model=model.digest,
            commitment=evidence.commitment,
            match_rate=clopper_pearson(_matches(model, triggers.inputs, wanted), asked),
            accuracy=_accuracy(model, evaluation),
            unmarked_accuracy=_accuracy(unmarked, evaluation),
            unmarked_match_rate=None if matched is None else clopper_pearson(matched, asked),
            # Any number of marks reaches 0.5; nothing is decided here.
            unmarked_p_value=None if unmarked is None else evidence.verify(unmarked, alpha=0.5).p_value,
            clean_rows=rows[0],
            marked_rows=rows[1],
        )
        return Embedded(model, evidence, record, unmarked)


def check_evaluation(data: Dataset, evaluation: Dataset | None) -> None:
    """Raise `InvalidInput` unless accuracy on ``evaluation`` says something about ``data``."""
    if evaluation is not None and (
        evaluation.input_shape != data.input_shape
        or evaluation.num_classes != data.num_classes
        or not len(evaluation)
    ):
        msg = f"{evaluation.name} is empty, or its shape or classes are not those of {data.name}"
        raise InvalidInput(msg)


def _accuracy(model: TorchModel | None, evaluation: Dataset | None) -> Interval | None:
    if model is None or evaluation is None:
        return None
    return clopper_pearson(_matches(model, evaluation.x, evaluation.y), len(evaluation))


def _matches(model: Model, x: Tensor, wanted: Tensor) -> int:
    return int((model.labels(x) == wanted).sum())
