"""How often models that never saw a key answer its triggers with its targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from assay.errors import InvalidInput
from assay.evidence.watermarks.looks import binomial_looks
from assay.result import Calibration, Record, TestResult, Verdict
from assay.statistics import RatioTest, RatioTestOutcome, binomial_test, rank_p_value, upper_rate

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
    p_values
        What the deciding test gave each model, where it was run.

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
    p_values: tuple[float, ...] = ()

    @classmethod
    def of(
        cls,
        commitment: str,
        matches: list[int],
        triggers: int,
        calibration: Calibration | None = None,
        confidence: float = 0.95,
        p_values: Sequence[float] = (),
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
        return cls(commitment, tuple(matches), triggers, confidence, upper, calibration, tuple(p_values))

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
        self._check(verdict)
        if not {"matches", "triggers"} <= set(details):
            msg = f"a verdict of the scheme {verdict.scheme} counts no matches with triggers"
            raise InvalidInput(msg)
        if "looks" in details:
            return binomial_looks(details["looks"], self.upper)
        return self.test(int(details["matches"]), int(details["triggers"]))

    def rank(self, verdict: Verdict) -> float:
        """Return the rank of a suspect's p-value among those of the panel.

        ``(1 + models with as small a p-value) / (models + 1)``: exact if the suspect, when
        independent, is a model of the same kind as the panel's, and never below one in their
        number plus one, which is why 19 models are the least for a level of 0.05.

        Raises
        ------
        InvalidInput
            If the verdict is about other evidence, or the panel was built from counts alone.
        """
        self._check(verdict)
        if not self.p_values:
            msg = "this panel holds no p-values to rank among; make it with the scheme's calibrate()"
            raise InvalidInput(msg)
        return rank_p_value(-verdict.p_value, [-p for p in self.p_values])

    def sequential(
        self, verdict: Verdict, true_rate: float, *, alpha: float = 0.01, beta: float = 0.05
    ) -> RatioTestOutcome:
        """Wald's test of the answers in the order in which they came; the suspect is not asked again.

        Against the panel's upper bound, with the strict limit ``1 / alpha``, so that it may
        be read wherever the verdict's own test has stopped.

        Parameters
        ----------
        verdict
            Of a scheme whose verdicts list their hits.
        true_rate
            Match rate expected of a stolen model, above the panel's bound, below 1.
        alpha, beta
            Rates of false "match" and false "none", in (0, 0.5].

        Raises
        ------
        InvalidInput
            If the verdict is about other evidence or lists no hits, or a rate is out of range.
        """
        self._check(verdict)
        if "hits" not in verdict.samples:
            msg = f"verdicts of the scheme {verdict.scheme} do not list which triggers matched"
            raise InvalidInput(msg)
        test = RatioTest(self.upper, true_rate, alpha, beta, "ville")
        return test.run(hit > 0 for hit in verdict.samples["hits"])

    def _check(self, verdict: Verdict) -> None:
        if verdict.commitment != self.commitment:
            msg = (
                f"the panel was measured with evidence {self.commitment[:12]}, the verdict is about "
                f"{verdict.commitment[:12]}; calibrate with the same evidence"
            )
            raise InvalidInput(msg)
