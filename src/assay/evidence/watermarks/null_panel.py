"""How often models that never saw a key answer its triggers with its targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assay.errors import InvalidInput
from assay.result import Calibration, Record, TestResult, Verdict
from assay.statistics import binomial_test, upper_rate

__all__ = ["NullPanel"]


@dataclass(frozen=True)
class NullPanel(Record):
    """Matches of independent models with one trigger set.

    Parameters
    ----------
    commitment
        The evidence that was asked.
    matches
        Matches of each model among ``triggers`` queries.
    triggers
        Queries to each model.
    confidence
        Coverage of each upper bound.
    upper
        Largest of the models' Clopper-Pearson upper bounds.
    calibration
        False positives of the deciding test, to be handed to ``verify``.

    Examples
    --------
    >>> from assay.statistics import clopper_pearson
    >>> rate = Calibration(2, 0, 0.01, clopper_pearson(0, 2))
    >>> panel = NullPanel.of("0" * 64, [1, 3], 50, rate)
    >>> round(panel.upper, 3), panel.test(48, 50).p_value < 1e-9
    (0.148, True)
    """

    commitment: str
    matches: tuple[int, ...]
    triggers: int
    confidence: float
    upper: float
    calibration: Calibration | None = None

    @classmethod
    def of(
        cls,
        commitment: str,
        matches: list[int],
        triggers: int,
        calibration: Calibration | None = None,
        confidence: float = 0.95,
    ) -> NullPanel:
        """Build from counts.

        Raises
        ------
        InvalidInput
            If there is no model, or a count is out of range.
        """
        if not matches:
            msg = "a panel needs at least one independent model"
            raise InvalidInput(msg)
        upper = max(upper_rate(m, triggers, confidence) for m in matches)
        return cls(commitment, tuple(matches), triggers, confidence, upper, calibration)

    def test(self, matches: int, triggers: int) -> TestResult:
        """Exact binomial test of a suspect's matches against the panel's upper bound.

        It rests on the suspect being no more prone to the targets than the panel, which
        is why it accompanies the randomisation test and never decides.
        """
        return binomial_test(matches, triggers, self.upper)

    def judge(self, verdict: Verdict) -> TestResult:
        """Test the suspect of a verdict; it is not asked again.

        Raises
        ------
        InvalidInput
            If the verdict is about other evidence.
        """
        details: dict[str, Any] = verdict.details
        if verdict.commitment != self.commitment or not {"matches", "triggers"} <= set(details):
            msg = (
                f"the panel was measured with evidence {self.commitment[:12]}, the verdict is about "
                f"{verdict.commitment[:12]}; calibrate with the same evidence"
            )
            raise InvalidInput(msg)
        return self.test(int(details["matches"]), int(details["triggers"]))
