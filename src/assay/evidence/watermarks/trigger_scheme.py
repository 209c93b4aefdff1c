"""What all watermarks of keyed triggers share: the test, decoys, calibration, and sealing the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.adapters.torch_model import TorchModel
from assay.data.dataset import Dataset
from assay.evidence.base import Evidence, Finding, Scheme
from assay.evidence.watermarks.embedded import (
    Embedded,
    check_evaluation,
    matches,
    sealed,
    under_other_keys,
)
from assay.evidence.watermarks.examination import examine_triggers, parts
from assay.evidence.watermarks.keys import Choices, IntArray, draw_choices, key_targets
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

    @classmethod
    def one_each(cls, key: str, inputs: Tensor, choices: Choices, classes: int) -> Triggers:
        """Return triggers of which each is a mark of its own."""
        marks = len(inputs)
        return cls(key, inputs.contiguous(), torch.arange(marks), marks, classes, choices)

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
        return under_other_keys(self, evidence, count, rng, facts={"unmarked_matches": None})

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
        found = [matches(model, whole.triggers, wanted) for model in null_models]
        p_values = [v.p_value for v in verdicts]
        return NullPanel.of(evidence.commitment, found, len(wanted), calibration, p_values=p_values)

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

        def rate(_: Evidence, one: Model) -> Interval:
            return clopper_pearson(matches(one, triggers.inputs, wanted), asked)

        committed: dict[str, Any] = {
            "marks": triggers.marks,
            "unmarked_matches": None if unmarked is None else matches(unmarked, triggers.inputs, wanted),
            **(facts or {}),
        }
        if triggers.choices is not None:
            committed["choices"] = [[int(c) for c in candidates] for candidates in triggers.choices]
        return sealed(
            self,
            triggers.key,
            {"triggers": triggers.inputs.contiguous(), "mark": triggers.mark},
            committed,
            rate,
            data=data,
            model=model,
            unmarked=unmarked,
            evaluation=evaluation,
            rows=rows,
        )
